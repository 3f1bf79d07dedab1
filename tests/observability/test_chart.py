"""What the chart makes for those who look on: nothing by default, and with the switches just what stands in files/."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.test_chart import CHART, rendered

Object = dict[str, Any]
MAKES = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"}


def test_nothing_is_made_by_default() -> None:
    assert not {kind for kind, _ in rendered()} & MAKES


@pytest.mark.parametrize(
    ("switch", "kind", "endpoints"),
    [
        ("serviceMonitor", "ServiceMonitor", "endpoints"),
        ("podMonitor", "PodMonitor", "podMetricsEndpoints"),
    ],
)
def test_both_servers_are_scraped_under_the_names_that_alerts_expect(
    switch: str, kind: str, endpoints: str
) -> None:
    objects = rendered(
        f"monitoring.{switch}.enabled=true",
        'monitoring.labels={"release": "prometheus"}',
        'monitoring.interval="1m"',
        namespace="gpu-platform",
    )
    for component in ("webhook", "controller"):
        monitor = objects[kind, f"slicewise-{component}"]
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        (endpoint,) = monitor["spec"][endpoints]
        assert (endpoint["port"], endpoint["path"], endpoint["interval"]) == ("operations", "/metrics", "1m")
        job = {"targetLabel": "job", "replacement": f"slicewise-{component}"}
        assert endpoint["relabelings"] == [job]
        assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["gpu-platform"]}
        _leads_to_pods(objects, monitor, component)


def _leads_to_pods(objects: dict[tuple[str, str], Object], monitor: Object, component: str) -> None:
    template = objects["Deployment", f"slicewise-{component}"]["spec"]["template"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
    assert "operations" in ports
    if monitor["kind"] == "PodMonitor":
        assert wanted.items() <= template["metadata"]["labels"].items()
        return
    selected = [
        one
        for (kind, _), one in objects.items()
        if kind == "Service" and wanted.items() <= one["metadata"]["labels"].items()
    ]
    (service,) = [one for one in selected if "operations" in {port["name"] for port in one["spec"]["ports"]}]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert service["spec"]["ports"][0]["targetPort"] == "operations"


def test_the_alerts_arrive_as_they_stand_in_their_file() -> None:
    objects = rendered(
        "monitoring.prometheusRule.enabled=true", 'monitoring.labels={"release": "prometheus"}'
    )
    rule = objects["PrometheusRule", "slicewise"]
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert rule["spec"] == yaml.safe_load((CHART / "files/alerts.yaml").read_text(encoding="utf-8"))


def released(folder: Path, home: str) -> Path:
    """The chart as a release has it, with the address of its source."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about | {"home": home}), encoding="utf-8")
    return chart


def test_a_released_chart_gives_runbooks_a_full_address(tmp_path: Path) -> None:
    home = "https://git.example.com/team/slicewise"
    chart = released(tmp_path, home)
    about = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    objects = rendered("monitoring.prometheusRule.enabled=true", chart=chart)
    urls = [
        rule["annotations"]["runbook_url"]
        for group in objects["PrometheusRule", "slicewise"]["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert urls[0] == f"{home}/blob/v{about['appVersion']}/docs/runbooks.md#slicewisewebhookdown"
    assert all(url.startswith(f"{home}/blob/") for url in urls)


def test_the_dashboard_arrives_as_it_stands_in_its_file() -> None:
    config = rendered("monitoring.dashboard.enabled=true")["ConfigMap", "slicewise-dashboard"]
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    given = json.loads((CHART / "files/dashboard.json").read_text(encoding="utf-8"))
    assert {name: json.loads(text) for name, text in config["data"].items()} == {"slicewise.json": given}


def test_a_released_chart_gives_the_dashboard_a_full_address_of_the_runbooks(tmp_path: Path) -> None:
    home = "https://git.example.com/team/slicewise"
    chart = released(tmp_path, home)
    config = rendered("monitoring.dashboard.enabled=true", chart=chart)["ConfigMap", "slicewise-dashboard"]
    urls = [link["url"] for link in json.loads(config["data"]["slicewise.json"])["links"]]
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    assert f"{home}/blob/v{version}/docs/runbooks.md" in urls
