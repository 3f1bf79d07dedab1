"""LocalQueues by namespace: each namespace is held against few queues, and costs the same however many there are."""

import asyncio
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_sync.planning.kueue.local_queues import QueueSelectors
from slicewise.api import keys
from slicewise.api.policy import LabelSelector, PlanSpec, QuotaPlan
from slicewise.kube import turns
from tests.kube.wire import Seen
from tests.queue_sync.running import LOCAL, QUEUES, World, controlled, eventually
from tests.queue_sync.scenes import MIXED, ONE, mixed

KEYS, VALUES = ("team", "stage", "zone"), ("a", "b", "c")
LABELS = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
EXPRESSIONS = st.sampled_from(
    [{"key": key, "operator": operator} for key, operator in product(KEYS, ("Exists", "DoesNotExist"))]
    + [{"key": key, "operator": "NotIn", "values": ["a"]} for key in KEYS]
)
SELECTORS = st.fixed_dictionaries(
    {"matchLabels": LABELS, "matchExpressions": st.lists(EXPRESSIONS, max_size=2)}
)


def plan(selectors: list[dict[str, Any] | None]) -> QuotaPlan:
    queues = [
        {"name": f"queue-{number}", **({} if each is None else {"namespaces": each})}
        for number, each in enumerate(selectors)
    ]
    return QuotaPlan(name="research", spec=PlanSpec.model_validate({"engine": "kueue", "queues": queues}))


@given(st.lists(st.none() | SELECTORS, min_size=1, max_size=8), LABELS)
def test_the_queues_of_a_namespace_are_those_whose_selector_takes_it(
    selectors: list[dict[str, Any] | None], labels: dict[str, str]
) -> None:
    one_by_one = [
        f"queue-{number}"
        for number, each in enumerate(selectors)
        if each is not None and LabelSelector.model_validate(each).matches(labels)
    ]
    assert [queue.name for queue in QueueSelectors(plan(selectors)).matching("lab", labels)] == one_by_one


async def test_a_node_event_holds_no_namespace_against_any_queue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    matches = LabelSelector.matches

    def counted(selector: LabelSelector, labels: dict[str, str]) -> bool:
        asked.append(labels)
        return matches(selector, labels)

    monkeypatch.setattr(LabelSelector, "matches", counted)
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.namespace("lab", team="a")
    world.namespace("other", team="b")
    world.plan(queues=[{"name": "team-a", "namespaces": {"matchLabels": {"team": "a"}}}])
    async with controlled(world.server) as controller:
        await eventually(lambda: "lab/team-a" in world.server.objects[LOCAL])
        await world.idle(controller)
        asked.clear()
        world.node(mixed("n2", {"1g.10gb": 7}))
        await eventually(lambda: "14" in world.quota().values())
        await world.idle(controller)
        assert asked == []
        world.namespace("other", team="a")
        await eventually(lambda: "other/team-a" in world.server.objects[LOCAL])
        assert {labels["team"] for labels in asked} == {"a"}


async def test_others_have_their_turn_while_the_namespaces_of_a_new_plan_begin_to_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "STEP", 0.0)
    world.node(mixed("n1", {"1g.10gb": 7}))
    for number in range(10):
        world.namespace(f"ns-{number}", team="a")
    passed, before = list[str](), list[int]()

    def add(name: str) -> None:
        before.append(len(passed))
        asyncio.get_running_loop().call_soon(passed.append, name)

    async with controlled(world.server) as manager:
        await eventually(lambda: manager.idle and manager.node_states.complete)
        monkeypatch.setattr(manager.local_queues.queue, "add", add)
        world.plan(queues=[{"name": "team-a", "share": 1, "namespaces": {"matchLabels": {"team": "a"}}}])
        await eventually(lambda: len(before) == 10)
    assert before == [*range(10)]


async def test_a_plan_that_leaves_between_two_writes_makes_nothing_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.namespace("lab", team="a")
    team: dict[str, Any] = {"namespaces": {"matchLabels": {"team": "a"}}}
    queues = [{"name": "team-a", **team}, {"name": "team-b", **team}]
    world.plan(queues=queues)
    async with controlled(world.server) as controller:

        def leave(request: Seen) -> None:
            if request.path == f"{LOCAL.replace('/localqueues', '')}/namespaces/lab/localqueues":
                world.plan(queues=queues, suspend=True)
                # As the pass does that sees it; another one may be under way.
                controller.local_queues.leave("research")
                monkeypatch.setattr(controller.local_queues, "follow", lambda _: None)

        world.server.on_write = leave
        await eventually(lambda: world.server.objects[LOCAL])
        await world.idle(controller)
        assert list(world.server.objects[LOCAL]) == ["lab/team-a"]
        assert list(controller.local_queues.problems("research")) == []


async def test_the_local_queues_behind_a_queue_are_whose_the_queue_becomes(world: World) -> None:
    made = {keys.MANAGED: "true"}
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.namespace("lab")
    world.plan()

    def given_to(plan: str) -> None:
        metadata = {"labels": made, "annotations": {keys.PLAN: plan}}
        world.server.put(QUEUES, "former", metadata=metadata, spec={"resourceGroups": []})

    given_to("gone")
    metadata = {"labels": made, "annotations": {keys.PLAN: "gone"}}
    world.server.put(LOCAL, "former", "lab", metadata=metadata, spec={"clusterQueue": "former"})
    async with controlled(world.server) as controller:
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
        await world.idle(controller)
        assert list(world.server.objects[LOCAL]) == ["lab/former"]
        given_to("research")
        await eventually(lambda: not world.server.objects[LOCAL])
