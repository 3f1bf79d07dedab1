"""Alerts and dashboard, as far as they can be judged without Prometheus: e2e/test_alerts.py asks it for the rest."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from slicewise.kube.yaml import load
from tests.observability import dashboard
from tests.observability.test_metrics import documented

ROOT: Final = dashboard.PATH.parents[3]
ALERTS: Final[dict[str, dict[str, Any]]] = {
    rule["alert"]: rule
    for group in load((ROOT / "charts/slicewise/files/alerts.yaml").read_text(encoding="utf-8"))[0]["groups"]
    for rule in group["rules"]
}
RULE_TESTS: Final[list[dict[str, Any]]] = [
    test
    for suite in (ROOT / "tests/observability").glob("alerts*_test.yaml")
    for test in load(suite.read_text(encoding="utf-8"))[0]["tests"]
]
PANELS: Final[list[dict[str, Any]]] = json.loads(dashboard.PATH.read_text(encoding="utf-8"))["panels"]
# Metrics of others: Prometheus's own, and the API server's.
FOREIGN: Final = frozenset(
    {
        "up",
        "apiserver_admission_webhook_fail_open_count",
        "apiserver_admission_webhook_rejection_count",
    }
)
NAME: Final = re.compile(r"\b(?:slicewise|process|apiserver)_\w+|\bup(?=\{)")
TEXT: Final = re.compile(r'"[^"]*"')
RUNBOOKS: Final[dict[str, str]] = dict(
    re.findall(
        r"^## (\w+)\n(.*?)(?=^## |\Z)",
        (ROOT / "docs/runbooks.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
)
every_alert = pytest.mark.parametrize("alert", sorted(ALERTS))


def _known() -> frozenset[str]:
    names = set(FOREIGN)
    for name, (kind, _) in documented().items():
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    return frozenset(names)


def _unknown(expression: str) -> set[str]:
    named = set(NAME.findall(TEXT.sub('""', expression)))
    assert named, expression
    return named - _known()


@every_alert
def test_an_alert_names_only_metrics_that_exist(alert: str) -> None:
    assert _unknown(ALERTS[alert]["expr"]) == set()


@every_alert
def test_an_alert_says_what_to_do_and_where_to_read_on(alert: str) -> None:
    rule = ALERTS[alert]
    assert re.fullmatch(r"Slicewise[A-Za-z]+", alert)
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    told = rule["annotations"]
    assert told["summary"].endswith(".")
    assert "\n" not in told["summary"]
    assert len(told["description"]) > 100
    assert told["description"].endswith(".")
    assert told["runbook_url"] == f"docs/runbooks.md#{alert.lower()}"
    section = RUNBOOKS[alert]
    assert re.findall(r"^\*\*(\w+)\.\*\* ", section, re.MULTILINE) == ["Cause", "Look", "Fix"]


def test_every_runbook_is_of_an_alert() -> None:
    assert list(RUNBOOKS) == list(ALERTS)


@every_alert
def test_an_alert_is_tested_for_silence_and_for_firing(alert: str) -> None:
    expected = [
        bool(each["exp_samples"])
        for test in RULE_TESTS
        for each in test.get("promql_expr_test", ())
        for pattern in re.findall(r'alertname=~?"([^"]+)"', each["expr"])
        if re.fullmatch(pattern, alert)
    ]
    assert set(expected) == {True, False}


@every_alert
def test_an_alert_is_on_the_page(alert: str) -> None:
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    rule = ALERTS[alert]
    assert re.search(
        rf"^\| `{alert}` \| {rule['labels']['severity']} \| {rule['for']} \|", page, re.MULTILINE
    )


def test_the_dashboard_is_current() -> None:
    assert dashboard.PATH.read_text(encoding="utf-8") == dashboard.text(), (
        "run python -m tests.observability.dashboard"
    )


def _drawn() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in PANELS if panel["type"] != "row")


def test_the_dashboard_names_only_metrics_that_exist() -> None:
    for panel in _drawn():
        for target in panel["targets"]:
            assert _unknown(target["expr"]) == set(), panel["title"]


def test_a_legend_names_only_labels_that_its_expression_leaves() -> None:
    for panel in _drawn():
        for target in panel["targets"]:
            kept = re.search(r" by \(([^)]*)\)", target["expr"])
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            if kept is not None:
                assert used <= {*kept[1].split(", ")}, panel["title"]


VARIABLES: Final = {each["name"]: each for each in dashboard.dashboard()["templating"]["list"]}


@pytest.mark.parametrize("name", sorted(VARIABLES.keys() - {"datasource"}))
def test_a_variable_is_a_label_of_a_metric_that_exists_and_is_used(name: str) -> None:
    ((metric, label),) = re.findall(r"^label_values\((\w+).*, (\w+)\)$", VARIABLES[name]["definition"])
    assert label == "namespace" or label in documented()[metric][1]
    assert any(f'=~"${name}' in target["expr"] for panel in _drawn() for target in panel["targets"]) or any(
        f'=~"${name}' in each.get("definition", "") for each in VARIABLES.values()
    )


def test_an_expression_filters_by_labels_that_its_metric_has() -> None:
    for panel in _drawn():
        for target in panel["targets"]:
            for metric, filters in re.findall(r"(slicewise_\w+)\{([^}]*)\}", target["expr"]):
                labels = {*re.findall(r"(\w+)(?:=~|!=|=)", filters)} - {"namespace", "job"}
                of = documented()[re.sub(r"_bucket$", "", metric)][1]
                assert labels <= of, panel["title"]


def test_one_panel_draws_quota_against_nodes_against_use_by_plan_and_pool() -> None:
    (panel,) = (each for each in _drawn() if each["title"] == "Quota against nodes against use")
    drawn = " ".join(target["expr"] for target in panel["targets"])
    assert {*re.findall(r"slicewise_\w+", drawn)} == {
        "slicewise_pool_believed",
        "slicewise_quota",
        "slicewise_quota_used",
    }
    assert "$plan" in VARIABLES["queue"]["definition"]
    assert "$queue" in drawn
    assert "$pool" in drawn


def test_every_single_number_has_colours() -> None:
    for panel in _drawn():
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {"steps": []})["steps"]
        assert bool(steps) == (panel["type"] == "stat"), panel["title"]
        values = [step["value"] for step in steps]
        assert not steps or (values[0] is None and values[1:] == sorted(values[1:])), panel["title"]


def test_panels_do_not_lie_over_one_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_every_metric_of_ours_is_on_the_dashboard_or_in_an_alert_or_counts_for_debugging() -> None:
    shown = " ".join(target["expr"] for panel in _drawn() for target in panel["targets"])
    shown += " ".join(each.get("definition", "") for each in VARIABLES.values())
    shown += " ".join(rule["expr"] for rule in ALERTS.values())
    debugging = {
        name
        for name in documented()
        if re.match(
            r"slicewise_watch_(?!healthy)|slicewise_webhook_path_\w+_timestamp|process_|slicewise_controller_reconcile_(?:total|duration)|slicewise_controller_last_success",
            name,
        )
    }
    assert sorted(name for name in documented() if name not in shown and name not in debugging) == []
