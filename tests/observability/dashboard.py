"""Writes the Grafana dashboard: `python -m tests.observability.dashboard`.

A panel is a title, a sentence for whoever is new to it, a unit, and expressions with their legends. Places on the grid
follow from the order, so that a panel is added by adding a line.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PATH: Final = Path(__file__).parents[2] / "charts/slicewise/files/dashboard.json"
HERE: Final = 'namespace=~"$namespace"'
OF_POOL: Final = f'{HERE}, pool=~"$pool"'
OF_QUEUE: Final = (
    f'{HERE}, queue=~"$queue", flavor=~"$pool|"'  # a flavor is a pool; Volcano's quotas have none
)
OF_PLAN: Final = f'{HERE}, plan=~"$plan"'
GPUS: Final = ', resource=~"nvidia.com/.+"'
_WEBHOOK: Final = "Webhook: what people meet"
_CONTROLLER: Final = "Controller: whether quotas are true"
_PROCESSES: Final = "Processes"
_OURS: Final = 'name=~".+[.]admission[.]slicewise[.]io"'
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; `targets` are pairs of expression and legend."""

    row: str
    title: str
    words: str
    targets: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    thresholds: tuple[tuple[float | None, str], ...] = ()
    """Colours of the number, each from a value on; the first is for all below the second."""


def _quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket{{{HERE}}}[$__rate_interval])))"


def _rate(metric: str, *by: str, more: str = "") -> str:
    return f"sum by ({', '.join(by)}) (rate({metric}{{{HERE}{more}}}[$__rate_interval]))"


def _increase(selector: str) -> str:
    return f"sum by (name) (increase({selector}[$__rate_interval]))"


def _most(metric: str, *by: str, of: str = HERE) -> str:
    return f"max by ({', '.join(by)}) ({metric}{{{of}}})"


def _total(metric: str, *by: str, of: str) -> str:
    """The sum by resource; replicas and restarts do not count twice."""
    return f"sum by (resource) ({_most(metric, *by, of=of + GPUS)})"


PANELS: Final = (
    Panel(
        _WEBHOOK,
        "Replicas that answer",
        "Of the webhook and of the controller. Fewer than two of the webhook make every restart an outage.",
        (
            (f'sum(up{{job="slicewise-webhook", {HERE}}})', "webhook"),
            (f'sum(up{{job="slicewise-controller", {HERE}}})', "controller"),
        ),
        kind="stat",
        width=4,
        thresholds=((None, "red"), (1, "orange"), (2, "green")),
    ),
    Panel(
        _WEBHOOK,
        "Certificates end in",
        "The serving certificate lives a week and is renewed with more than two days to go.",
        (
            (
                f"min by (certificate) (slicewise_certificate_expiry_timestamp_seconds{{{HERE}}}) - time()",
                "{{certificate}}",
            ),
        ),
        unit="s",
        kind="stat",
        width=4,
        thresholds=((None, "red"), (86400, "orange"), (172800, "green")),
    ),
    Panel(
        _WEBHOOK,
        "Reviews by outcome",
        "Rewritten and repeated are the webhook's work; refused is what people see.",
        ((_rate("slicewise_admission_reviews_total", "outcome"), "{{outcome}}"),),
        unit="ops",
    ),
    Panel(
        _WEBHOOK,
        "Refused by kind and by reason",
        "Which kinds of workloads are refused, and why; nothing-fits and other-engine mean that capacity is missing.",
        (
            (_rate("slicewise_admission_reviews_total", "kind", more=', outcome="refused"'), "{{kind}}"),
            (_rate("slicewise_admission_refusals_total", "reason"), "{{reason}}"),
        ),
        unit="ops",
    ),
    Panel(
        _WEBHOOK,
        "Left, or given other than asked, by reason",
        "Work that the webhook did not rewrite as usual; other says that somebody should look.",
        ((_rate("slicewise_admission_deviations_total", "reason"), "{{reason}}"),),
        unit="ops",
    ),
    Panel(
        _WEBHOOK,
        "Time of a review",
        "Everybody who creates GPU work waits for this.",
        (
            (_quantile(0.5, "slicewise_admission_review_duration_seconds"), "half are faster"),
            (_quantile(0.99, "slicewise_admission_review_duration_seconds"), "99 of 100 are faster"),
        ),
        unit="s",
    ),
    Panel(
        _WEBHOOK,
        "Errors by status",
        "429 is too many at once, 503 is not ready, 500 is a bug. failurePolicy decides what happens to the work.",
        ((_rate("slicewise_admission_responses_total", "code", more=', code!="200"'), "{{code}}"),),
        unit="ops",
    ),
    Panel(
        _WEBHOOK,
        "Passed or refused without being asked",
        "Counted by API servers: calls that failed, by what failurePolicy made of them.",
        (
            (
                _increase(f"apiserver_admission_webhook_fail_open_count{{{_OURS}}}"),
                "passed: {{name}}",
            ),
            (
                _increase(f'apiserver_admission_webhook_rejection_count{{{_OURS}, error_type!="no_error"}}'),
                "refused: {{name}}",
            ),
        ),
    ),
    Panel(
        _WEBHOOK,
        "The way to the webhook",
        "1 while what the controller sends through the API server comes through.",
        ((f"min by (path) (slicewise_webhook_path_working{{{HERE}}})", "{{path}}"),),
    ),
    Panel(
        _WEBHOOK,
        "Reviews at this moment",
        "Being received, by replica.",
        ((_most("slicewise_admission_in_flight_requests", "instance"), "{{instance}}"),),
    ),
    Panel(
        _WEBHOOK,
        "Connections",
        "To the port of each replica; a closed one made room for another because all places were taken.",
        (
            (_most("slicewise_admission_connections", "instance"), "{{instance}}"),
            (
                f"sum(increase(slicewise_admission_connections_dropped_total{{{HERE}}}[$__rate_interval]))",
                "closed",
            ),
        ),
    ),
    Panel(
        _WEBHOOK,
        "Size of reviews",
        "Bodies that API servers send.",
        ((_quantile(0.99, "slicewise_admission_request_size_bytes"), "99 of 100 are smaller"),),
        unit="bytes",
    ),
    Panel(
        _WEBHOOK,
        "Caches: age",
        "API servers send something every minute; more than five are stale.",
        ((_most("slicewise_cache_age_seconds", "cache"), "{{cache}}"),),
        unit="s",
    ),
    Panel(
        _WEBHOOK,
        "Caches: objects",
        "By replica: lines that stay apart are replicas that disagree.",
        ((_most("slicewise_cache_objects", "cache", "instance"), "{{cache}} {{instance}}"),),
    ),
    Panel(
        _WEBHOOK,
        "Caches: filled, and what cannot be used",
        "Policies that break a rule leave their last good version in force.",
        (
            (f"min by (cache) (slicewise_cache_synced{{{HERE}}})", "filled: {{cache}}"),
            (_most("slicewise_cache_malformed_objects", "cache"), "cannot be used: {{cache}}"),
        ),
    ),
    Panel(
        _CONTROLLER,
        "Leaders",
        "One leads; others stand by.",
        ((f"sum(slicewise_controller_leading{{{HERE}}})", "leaders"),),
        kind="stat",
        width=4,
        thresholds=((None, "red"), (1, "green"), (2, "red")),
    ),
    Panel(
        _CONTROLLER,
        "Quota above truth",
        "What queues promise and no believed node offers. Anything but 0 is work that is admitted and then waits.",
        (
            (
                f"sum by (resource) (max by (pool, resource) (slicewise_quota_above_truth{{{HERE}}}))",
                "{{resource}}",
            ),
        ),
        kind="stat",
        width=4,
        thresholds=((None, "green"), (1, "red")),
    ),
    Panel(
        _CONTROLLER,
        "Nodes",
        "Held: an older number counts. Unbelieved: nothing counts.",
        ((_most("slicewise_nodes", "state"), "{{state}}"),),
    ),
    Panel(
        _CONTROLLER,
        "Nodes in doubt",
        "`slicewise pools` and the nodes' events say why.",
        ((_most("slicewise_node_unsettled", "node"), "{{node}}"),),
    ),
    Panel(
        _CONTROLLER,
        "Pools: shown and counted",
        "Apart for minutes while something is divided anew; apart for long is capacity held back.",
        (
            (_most("slicewise_pool_offered", "pool", "resource", of=OF_POOL), "shown: {{pool}} {{resource}}"),
            (
                _most("slicewise_pool_believed", "pool", "resource", of=OF_POOL),
                "counted: {{pool}} {{resource}}",
            ),
        ),
        width=12,
    ),
    Panel(
        _CONTROLLER,
        "Where facts come from",
        "Counted nodes of each pool by source: ResourceSlices (dra), labels of GPU feature discovery, or a cloud's.",
        ((_most("slicewise_pool_nodes", "pool", "source", of=OF_POOL), "{{pool}} {{source}}"),),
        width=12,
    ),
    Panel(
        _CONTROLLER,
        "Quota against nodes against use",
        "GPUs of the chosen plans, queues and pools: what is counted of nodes, what queues have, and what is used. "
        "With every plan and pool chosen, quota above counted is a promise that no node backs.",
        (
            (_total("slicewise_pool_believed", "pool", "resource", of=OF_POOL), "counted: {{resource}}"),
            *(
                (_total(metric, "queue", "flavor", "resource", of=OF_QUEUE), f"{word}: {{{{resource}}}}")
                for metric, word in (("slicewise_quota", "quota"), ("slicewise_quota_used", "used"))
            ),
        ),
        width=24,
    ),
    Panel(
        _CONTROLLER,
        "Quota and use",
        "GPU quota of each queue, what is reserved of it and what is used.",
        tuple(
            (
                _most(metric, "queue", "flavor", "resource", of=OF_QUEUE + GPUS),
                f"{word}: {{{{queue}}}} {{{{flavor}}}} {{{{resource}}}}",
            )
            for metric, word in (
                ("slicewise_quota", "quota"),
                ("slicewise_quota_reserved", "reserved"),
                ("slicewise_quota_used", "used"),
            )
        ),
        width=12,
    ),
    Panel(
        _CONTROLLER,
        "Quota below use",
        "Nobody is evicted; nothing new is admitted until work finishes.",
        (
            (
                _most("slicewise_quota_below_use", "queue", "flavor", "resource", of=OF_QUEUE),
                "{{queue}} {{flavor}} {{resource}}",
            ),
        ),
    ),
    Panel(
        _CONTROLLER,
        "Plans",
        "1 while a plan is followed, and while its queues say what they should.",
        (
            (_most("slicewise_plan_accepted", "plan", of=OF_PLAN), "followed: {{plan}}"),
            (_most("slicewise_plan_synced", "plan", "mode", of=OF_PLAN), "in place: {{plan}} ({{mode}})"),
        ),
    ),
    Panel(
        _CONTROLLER,
        "Writes",
        "By what became of them; a steady cluster has none.",
        ((_rate("slicewise_controller_writes_total", "result"), "{{result}}"),),
        unit="ops",
    ),
    Panel(
        _CONTROLLER,
        "From a node's event to its quota",
        "How far quotas are behind nodes.",
        (
            (_quantile(0.5, "slicewise_controller_event_to_write_seconds"), "half are faster"),
            (_quantile(0.99, "slicewise_controller_event_to_write_seconds"), "99 of 100 are faster"),
        ),
        unit="s",
    ),
    Panel(
        _CONTROLLER,
        "Edits put back",
        "Somebody else writes what a plan decides.",
        ((_rate("slicewise_controller_put_back_total", "kind", "name"), "{{kind}} {{name}}"),),
        unit="ops",
    ),
    Panel(
        _CONTROLLER,
        "Reconciles that fail",
        "By controller; what goes on failing is in the log, and in the plan's condition Ready.",
        (
            (_rate("slicewise_controller_reconcile_errors_total", "controller"), "{{controller}}"),
            (_most("slicewise_controller_failing_keys", "controller"), "{{controller}}: keys"),
        ),
    ),
    Panel(
        _CONTROLLER,
        "Keys that wait",
        "How many, and for how long the oldest has.",
        (
            (_most("slicewise_controller_queue_depth", "queue"), "{{queue}}"),
            (_most("slicewise_controller_queue_oldest_seconds", "queue"), "{{queue}}: seconds"),
        ),
    ),
    Panel(
        _CONTROLLER,
        "Watches",
        "1 while every replica follows the API server.",
        ((f"min by (path) (slicewise_watch_healthy{{{HERE}}})", "{{path}}"),),
    ),
    Panel(
        _CONTROLLER,
        "Nodes that are not as planned",
        "Impossible, unknown or half-done geometries, and configurations of the device plugin that are not there.",
        ((_most("slicewise_node_not_as_planned", "node", "reason"), "{{node}} {{reason}}"),),
    ),
    Panel(
        _CONTROLLER,
        "What slipped through",
        "As slicewise drift calls it, which names each case; anything above zero is worth a look.",
        ((_most("slicewise_drift_findings", "code"), "{{code}}"),),
    ),
    Panel(
        _PROCESSES,
        "Memory",
        "By replica.",
        ((f'process_resident_memory_bytes{{job=~"slicewise-.+", {HERE}}}', "{{instance}}"),),
        unit="bytes",
    ),
    Panel(
        _PROCESSES,
        "CPU",
        "Cores, by replica.",
        (
            (
                f'rate(process_cpu_seconds_total{{job=~"slicewise-.+", {HERE}}}[$__rate_interval])',
                "{{instance}}",
            ),
        ),
    ),
    Panel(
        _PROCESSES,
        "Versions",
        "More than one of a program is a rollout that goes on.",
        ((f"count by (program, version) (slicewise_build_info{{{HERE}}})", "{{program}} {{version}}"),),
    ),
)


def dashboard() -> dict[str, Any]:
    """Returns the dashboard as Grafana imports it."""
    return {
        "title": "Slicewise",
        "uid": "slicewise",
        "tags": ["slicewise", "gpu"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [
            {"title": "Alerts that fire", "type": "link", "url": "/alerting/list?search=slicewise"},
            # A release puts the address of its source before it, as before each runbook_url.
            {"title": "Runbooks", "type": "link", "url": "docs/runbooks.md", "targetBlank": True},
        ],
        "templating": {"list": _variables()},
        "panels": list(_placed()),
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        _variable("namespace", "label_values(slicewise_build_info, namespace)") | {"allValue": ".*"},
        _variable("pool", f"label_values(slicewise_pool_offered{{{HERE}}}, pool)") | {"allValue": ".*"},
        _variable("plan", f"label_values(slicewise_plan_accepted{{{HERE}}}, plan)") | {"allValue": ".*"},
        # All is the queues of the chosen plans, not every queue that there is.
        _variable("queue", f"label_values(slicewise_plan_queue_info{{{OF_PLAN}}}, queue)"),
    ]


def _variable(name: str, query: str) -> dict[str, Any]:
    """One or more values of a label, chosen from those that a metric has."""
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _placed() -> Iterator[dict[str, Any]]:
    x = y = 0
    height, row, number = 8, "", 0
    for panel in PANELS:
        if panel.row != row:
            y += height if x else 0
            number += 1
            place = {"x": 0, "y": y, "w": _WIDTH, "h": 1}
            yield {
                "id": number,
                "type": "row",
                "title": panel.row,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
            x, y, row = 0, y + 1, panel.row
        if x + panel.width > _WIDTH:
            x, y = 0, y + height
        number += 1
        place = {"x": x, "y": y, "w": panel.width, "h": height}
        yield {"id": number, "gridPos": place, **_drawn(panel)}
        x += panel.width


def _drawn(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": expr, "legendFormat": legend}
        for number, (expr, legend) in enumerate(panel.targets)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.words,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, **_thresholds(panel)}, "overrides": []},
        "targets": targets,
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    steps = [{"value": value, "color": color} for value, color in panel.thresholds]
    return {"thresholds": {"mode": "absolute", "steps": steps}} if steps else {}


def text() -> str:
    """Returns the file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
