"""Alerts, dashboard and metrics as Prometheus itself judges them: its own promtool, built once into the cache.

Where the tests of tests/observability hold what is written to rules of ours, these ask the program that will read it.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client import generate_latest

from e2e.harness.prometheus import programs
from tests.observability.scraping import controller, webhook

ROOT: Final = Path(__file__).parents[1]
ALERTS: Final = ROOT / "charts/slicewise/files/alerts.yaml"
DASHBOARD: Final = ROOT / "charts/slicewise/files/dashboard.json"
ALERTS_TEST: Final = ROOT / "tests/observability/alerts_test.yaml"
ALERTS_HOURS_TEST: Final = ROOT / "tests/observability/alerts_hours_test.yaml"
# The first test that asks waits for the build.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def promtool() -> Path:
    return programs().program("promtool")


def _run(promtool: Path, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(promtool), *words], input=given, capture_output=True, text=True, check=False)


def test_the_alerts_are_rules(promtool: Path) -> None:
    answer = _run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(ALERTS))
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_each_alert_fires_when_it_should_and_only_then(promtool: Path) -> None:
    answer = _run(promtool, "test", "rules", str(ALERTS_TEST), str(ALERTS_HOURS_TEST))
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_an_expectation_that_does_not_hold_is_noticed(promtool: Path, tmp_path: Path) -> None:
    suite: dict[str, Any] = yaml.safe_load(ALERTS_TEST.read_text(encoding="utf-8"))
    suite["rule_files"] = [str(ALERTS)]
    suite["tests"] = suite["tests"][:1]
    suite["tests"][0]["promql_expr_test"][1]["exp_samples"][0]["value"] = 2
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(suite), encoding="utf-8")
    answer = _run(promtool, "test", "rules", str(wrong))
    assert answer.returncode != 0
    assert "SlicewiseWebhookDown" in answer.stderr


def _expressions(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for panel in panels:
        yield from _expressions(panel.get("panels", []))
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def test_the_dashboards_expressions_are_promql(promtool: Path, tmp_path: Path) -> None:
    """Each becomes a rule, so that all are read in one go; Grafana fills in variables before Prometheus reads them."""
    found = list(_expressions(json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]))
    assert found
    rules = [
        {"record": f"dashboard:{number}", "expr": re.sub(r"\$(namespace|pool|plan|queue)\b", ".*", expr)}
        for number, expr in enumerate(expr.replace("$__rate_interval", "5m") for _, expr in found)
    ]
    assert not [rule for rule in rules if "$" in rule["expr"]]
    path = tmp_path / "dashboard.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), encoding="utf-8")
    answer = _run(promtool, "check", "rules", "--lint=none", str(path))
    assert answer.returncode == 0, answer.stdout + answer.stderr


async def test_promtool_has_nothing_to_say_about_the_metrics(promtool: Path) -> None:
    _, metrics = await webhook()
    async with controller() as (_, one):
        for registry in (metrics.registry, one.metrics.registry):
            answer = _run(promtool, "check", "metrics", given=generate_latest(registry).decode())
            assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")
