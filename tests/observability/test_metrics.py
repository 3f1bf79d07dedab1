"""What both programs tell Prometheus: in both formats, named by the conventions, bounded, and documented."""

import asyncio
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from admission.decision.model import Reason
from queue_sync.health_server import application, exposition
from slicewise import __version__
from tests.admission.building import labelled, pod
from tests.observability.scraping import (
    OPEN,
    PLAIN,
    ask,
    controller,
    exposed,
    promise,
    read,
    review,
    value,
    webhook,
)
from tests.queue_sync.running import QUEUES, QUICK, SLOW, VOLCANO, World, controlled, eventually
from tests.queue_sync.scenes import MIXED, ONE, mixed

pytestmark = pytest.mark.hurried

PAGE: Final = Path(__file__).parents[2] / "docs/monitoring.md"
ROW: Final = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| ([^|]+) \|$", re.MULTILINE)
# What stands for people's work, and what nothing bounds.
FORBIDDEN: Final = frozenset({"pod", "namespace", "container", "user", "uid", "workload", "job", "instance"})
# Base units are seconds and bytes; these are what one writes by mistake.
ABBREVIATED: Final = re.compile(r"_(ms|us|ns|s|millis\w*|minutes|hours|days|kb|mb|gb|mib|gib|percent)(_|$)")
TIMES: Final = re.compile(r"_(age|duration|oldest|latency|expiry)(_|$)")
DERIVED: Final = re.compile(r"_(count|sum|bucket|created|info)$")


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of every metric on the page, by name."""
    found = {}
    for name, kind, labels, meaning in ROW.findall(PAGE.read_text(encoding="utf-8")):
        assert meaning.strip(), name
        assert name not in found, f"{name} has two rows"
        found[name] = (kind, frozenset(re.findall(r"`(\w+)`", labels)))
    return found


async def scraped(accept: str = PLAIN) -> list[Metric]:
    _, metrics = await webhook()
    async with controller() as (_, one):
        return [*exposed(metrics.registry, accept), *exposed(one.metrics.registry, accept)]


def name_of(family: Metric) -> str:
    """The name that is written in expressions, which for counters is that of their samples."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def told(families: Iterable[Metric]) -> list[Metric]:
    """Without the time at which a series began, which the plain format shows as a family of its own."""
    return [each for each in families if not each.name.endswith("_created")]


async def test_both_formats_say_the_same() -> None:
    plain, open_metrics = told(await scraped(PLAIN)), await scraped(OPEN)
    assert [(each.name, each.type) for each in plain] == [(each.name, each.type) for each in open_metrics]


@pytest.mark.parametrize("accept", [PLAIN, OPEN])
async def test_whoever_else_waits_has_a_turn_while_the_controller_is_scraped(
    monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    """300 queues over 20 pools are some ten thousand numbers, which take a third of a second to write."""
    monkeypatch.setattr("slicewise.kube.turns.STEP", 0.0)
    turns, seen = 0, list[int]()

    class Families(Collector):
        def collect(self) -> Iterator[Metric]:
            for name in ("a", "b", "c"):
                seen.append(turns)
                yield GaugeMetricFamily(name, "", value=1)

    async def another() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    registry = CollectorRegistry()
    registry.register(Families())
    seen.clear()
    task = asyncio.create_task(another())
    content_type, body = await exposition(registry, accept)
    task.cancel()
    assert seen[0] < seen[1] < seen[2]
    assert turns > seen[2] + 1, "the text itself is written beside the loop"
    assert [family.name for family in read(body.decode(), content_type)] == ["a", "b", "c"]


# What Prometheus 3 says of itself.
PROMETHEUS: Final = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (OPEN, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (PROMETHEUS, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (PLAIN, "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html, */*", "text/plain; version=0.0.4; charset=utf-8"),
        ("", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
async def test_both_servers_answer_in_the_format_that_is_asked_for(accept: str, content_type: str) -> None:
    of_webhook, _ = await webhook()
    async with controller() as (_, one):
        of_controller = application(one.metrics.registry, lambda: "")
        for app in (of_webhook, of_controller):
            status, headers, body = await ask(app, "/metrics", headers={"accept": accept} if accept else {})
            assert status == 200
            assert headers["content-type"].partition("; escaping")[0] == content_type
            families = read(body.decode(), content_type)
            assert "slicewise_build_info" in {each.name for each in families}


async def test_names_follow_the_conventions() -> None:
    for family in await scraped(OPEN):
        name = name_of(family)
        assert re.fullmatch(r"(slicewise|process)(_[a-z]+)+", name)
        assert family.type in {"counter", "gauge", "histogram"}, name
        assert family.documentation.endswith("."), name
        assert name.endswith("_total") == (family.type == "counter"), name
        assert not ABBREVIATED.search(name), name
        if TIMES.search(name):
            assert name.endswith("_seconds"), name
        assert name in {"slicewise_build_info", "slicewise_plan_queue_info"} or not DERIVED.search(name), name
        if family.type == "histogram":
            assert name.endswith(("_seconds", "_bytes")), name


async def test_no_label_speaks_of_peoples_work() -> None:
    for family in await scraped(OPEN):
        for sample in family.samples:
            assert not sample.labels.keys() & FORBIDDEN, sample
            assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", label) for label in sample.labels), sample
            assert all(len(text) < 254 for text in sample.labels.values()), sample


async def test_every_metric_has_its_row_and_every_row_its_metric() -> None:
    rows = documented()
    families = {name_of(each): each for each in told(await scraped())}
    assert {name: each.type for name, each in families.items()} == {name: rows[name][0] for name in rows}
    for name, family in families.items():
        shown = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert not family.samples or shown == rows[name][1], name


async def test_a_build_says_which_program_it_is() -> None:
    _, metrics = await webhook()
    name = "slicewise_build_info"
    assert value(metrics.registry, name, program="webhook", version=__version__) == 1
    async with controller() as (_, one):
        assert value(one.metrics.registry, name, program="controller", version=__version__) == 1


async def test_the_webhook_counts_what_its_caches_could_not_read() -> None:
    _, metrics = await webhook()
    assert value(metrics.registry, "slicewise_cache_malformed_objects", cache="slicingpolicies") == 1
    assert value(metrics.registry, "slicewise_cache_malformed_objects", cache="nodes") == 0


async def test_refusals_are_counted_by_reasons_that_are_all_there_from_the_start() -> None:
    asked, metrics = await webhook()
    name, reasons = "slicewise_admission_refusals_total", [str(reason) for reason in Reason]
    assert [value(metrics.registry, name, reason=reason) for reason in reasons] == [0] * len(reasons)
    body = review(pod(metadata=labelled("none-such")))
    await ask(asked, "/mutate", method="POST", body=body, headers={"content-type": "application/json"})
    counted = {reason for reason in reasons if value(metrics.registry, name, reason=reason)}
    assert counted == {"class"}


async def test_the_controller_names_nodes_in_doubt_and_plans_that_are_not_followed() -> None:
    async with controller() as (_, one):
        registry = one.metrics.registry
        assert value(registry, "slicewise_node_unsettled", node="n2") == 1
        assert value(registry, "slicewise_node_unsettled", node="n1") is None
        assert value(registry, "slicewise_plan_accepted", plan="research") == 1
        assert value(registry, "slicewise_plan_synced", plan="research", mode="write") == 1
        assert value(registry, "slicewise_plan_queue_info", plan="research", queue="team-a") == 1
        assert value(registry, "slicewise_plan_accepted", plan="wrong") == 0
        assert value(registry, "slicewise_plan_synced", plan="wrong", mode="write") is None


async def test_quota_is_in_base_units() -> None:
    async with controller() as (_, one):
        labels = {"queue": "team-a", "flavor": MIXED, "resource": "cpu"}
        assert value(one.metrics.registry, "slicewise_quota", **labels) == 64


async def test_quota_below_use_is_told() -> None:
    async with controller() as (_, one):
        labels = {"queue": "team-a", "flavor": MIXED, "resource": ONE}
        assert value(one.metrics.registry, "slicewise_quota_below_use", **labels) == 2


async def test_quota_above_truth_counts_queues_of_everybody() -> None:
    async with controller() as (world, one):

        def above() -> float | None:
            return value(one.metrics.registry, "slicewise_quota_above_truth", pool=MIXED, resource=ONE)

        assert above() == 0
        promise(world, "of-an-admin", 3)
        await eventually(lambda: above() == 3)


async def test_quota_above_truth_knows_that_an_autoscaled_pool_may_grow(world: World) -> None:
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.plan(maximum={MIXED: {ONE: 21}})
    async with controlled(world.server) as one:
        await eventually(lambda: world.quota()[(MIXED, ONE)] == "21")
        await world.idle(one)
        assert value(one.metrics.registry, "slicewise_quota_above_truth", pool=MIXED, resource=ONE) == 0


async def test_quota_above_truth_counts_no_parent_of_volcanos_twice(world: World) -> None:
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.server.put(VOLCANO, "root", spec={})
    world.plan(engine="volcano", cohort="research")
    async with controlled(world.server) as one:
        await eventually(lambda: "team-a" in world.server.objects[VOLCANO])
        await world.idle(one)
        registry = one.metrics.registry
        labels = {"flavor": "", "resource": ONE}
        assert value(registry, "slicewise_quota", queue="team-a", **labels) == 7
        assert value(registry, "slicewise_quota", queue="research", **labels) == 7
        assert value(registry, "slicewise_quota_above_truth", pool="", resource=ONE) == 0


async def test_a_list_without_nodes_is_no_promise_beyond_them_until_it_is_believed(world: World) -> None:
    quota = {"name": ONE, "nominalQuota": "7"}
    group = {"coveredResources": [ONE], "flavors": [{"name": MIXED, "resources": [quota]}]}
    world.server.put(QUEUES, "theirs", spec={"resourceGroups": [group]})
    names = ("slicewise_quota_above_truth", "slicewise_drift_findings")
    async with controlled(world.server, SLOW) as one:
        await world.idle(one)
        families = {each.name: each for each in exposed(one.metrics.registry, PLAIN)}
        assert [families[name].samples for name in names] == [[], []]
    async with controlled(world.server, QUICK) as one:
        registry = one.metrics.registry
        await eventually(lambda: value(registry, names[0], pool=MIXED, resource=ONE) == 7)
        await eventually(lambda: value(registry, names[1], code="QuotaWithoutNodes") == 1)


@pytest.mark.parametrize("accept", [OPEN, PLAIN])
async def test_a_replica_that_does_not_lead_says_nothing_of_belief(world: World, accept: str) -> None:
    async with controlled(world.server) as one:
        await eventually(lambda: one.leading)
        one.leading = one.node_states.complete = False
        families = {each.name: each for each in exposed(one.metrics.registry, accept)}
        assert families["slicewise_controller_leading"].samples[0].value == 0
        for name in ("slicewise_plan_accepted", "slicewise_plan_synced", "slicewise_quota_above_truth"):
            assert families[name].samples == [], name
