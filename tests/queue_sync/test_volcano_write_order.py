"""Every write of a change is one that Volcano's webhook takes, whichever version of it is served."""

from itertools import groupby
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_sync.planning.changes import Change
from queue_sync.planning.handover import Handover
from queue_sync.planning.observed import Object, ObservedState
from queue_sync.planning.volcano import queues as volcano
from queue_sync.planning.volcano.engine import release
from queue_sync.planning.volcano.hierarchy import outcome
from queue_sync.planning.volcano.write_order import Tier, order
from slicewise.api.policy import QuotaPlan
from slicewise.kube.object_types import VOLCANO_QUEUE
from tests.queue_sync.scenes import plan
from tests.queue_sync.volcano_webhook import find_conflicts

RESOURCES = ["nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb", "nvidia.com/gpu"]
PARTS = st.fixed_dictionaries(
    {}, optional={name: st.fixed_dictionaries(dict.fromkeys("abc", st.integers(0, 9))) for name in RESOURCES}
)
TREE = plan(engine="volcano", queues=dict.fromkeys("abc", 1), cohort="lab")
FLAT = plan(engine="volcano", queues=dict.fromkeys("abc", 1))
DEFAULT: Object = {"metadata": {"name": "default"}, "spec": {"dequeueStrategy": "traverse", "parent": "root"}}


def play(
    research: QuotaPlan, parts: dict[str, dict[str, int]], state: dict[str, Object], *, per_key: bool
) -> None:
    """Takes every write of one change, each against the webhook."""
    for write in outcome(research, {"pool": parts}, state).writes:
        name = write.after["metadata"]["name"]
        assert state.get(name) == write.before
        assert list(find_conflicts(write.after, state, per_key=per_key)) == [], (write.tier, name)
        state[name] = write.after
    assert outcome(research, {"pool": parts}, state).writes == []


@pytest.mark.parametrize("per_key", [False, True], ids=["v1.14.1", "v1.14.2"])
@pytest.mark.parametrize("research", [FLAT, TREE], ids=["flat", "tree"])
@given(changes=st.lists(PARTS, min_size=2, max_size=4))
def test_every_write_on_the_way_is_taken(
    changes: list[dict[str, dict[str, int]]],
    research: QuotaPlan,
    per_key: bool,  # noqa: FBT001
) -> None:
    state: dict[str, Object] = {"default": DEFAULT}
    for parts in changes:
        play(research, parts, state, per_key=per_key)


@pytest.mark.parametrize("per_key", [False, True], ids=["v1.14.1", "v1.14.2"])
@given(
    changes=st.lists(
        st.tuples(PARTS, st.dictionaries(st.sampled_from(RESOURCES), st.integers(1, 30))),
        min_size=1,
        max_size=4,
    )
)
def test_no_child_gets_what_its_parent_waits_for(
    changes: list[tuple[dict[str, dict[str, int]], dict[str, int]]],
    per_key: bool,  # noqa: FBT001
) -> None:
    state: dict[str, Object] = {"default": DEFAULT}
    for parts, offered in changes:
        writes = outcome(TREE, {"pool": parts}, state).writes
        steps = [Change(TREE.name, write.before, write.after, tier=write.tier) for write in writes]
        handover = Handover(steps, {}, unannotated={("", name): units for name, units in offered.items()})
        waits = set()
        for step in steps:
            name = step.document["metadata"]["name"]
            if name in waits:
                continue
            given, numbers = handover.give(step)
            if numbers:
                waits.add(name)
            if given is not None:
                assert list(find_conflicts(given.document, state, per_key=per_key)) == [], (step.tier, name)
                state[name] = given.document


KEPT = st.fixed_dictionaries(
    {
        name: st.fixed_dictionaries({"guarantee": st.integers(0, 4), "cpu": st.integers(1, 64)})
        for name in "abc"
    }
)


@pytest.mark.parametrize("per_key", [False, True], ids=["v1.14.1", "v1.14.2"])
@given(kept=KEPT, changes=st.lists(PARTS, min_size=1, max_size=3))
def test_what_admins_keep_on_their_queues_is_carried_by_a_parent_that_is_made(
    kept: dict[str, dict[str, int]],
    changes: list[dict[str, dict[str, int]]],
    per_key: bool,  # noqa: FBT001
) -> None:
    state: dict[str, Object] = {"default": DEFAULT}
    for name, own in kept.items():
        numbers = {"cpu": str(own["cpu"]), RESOURCES[0]: str(own["guarantee"])}
        state[name] = {
            "apiVersion": volcano.API_VERSION,
            "kind": "Queue",
            "metadata": {"name": name},
            "spec": {
                "weight": 3,
                "dequeueStrategy": "fifo",
                "parent": "root",
                "guarantee": {"resource": numbers},
                "deserved": numbers,
                "capability": {name: str(int(units) + 1) for name, units in numbers.items()},
            },
        }
        assert list(find_conflicts(state[name], state, per_key=per_key)) == []
    for parts in changes:
        play(TREE, parts, state, per_key=per_key)
    for name, own in kept.items():
        spec = state[name]["spec"]
        assert (spec["weight"], spec["dequeueStrategy"]) == (3, "fifo")
        assert spec["deserved"]["cpu"] == spec["guarantee"]["resource"]["cpu"] == str(own["cpu"])
        assert spec["capability"]["cpu"] == str(own["cpu"] + 1)


def queue(name: str, deserved: int, **spec: Any) -> Object:
    numbers = {RESOURCES[0]: str(deserved)}
    return {"metadata": {"name": name}, "spec": {"deserved": numbers, "capability": numbers, **spec}}


def test_parents_grow_first_and_shrink_last() -> None:
    old = [queue("lab", 4), queue("a", 2, parent="lab"), queue("b", 2, parent="lab")]
    new = [queue("lab", 6), queue("a", 1, parent="lab"), queue("b", 5, parent="lab")]
    writes = order(zip(old, new, strict=True), "lab")
    assert [(write.tier, write.after["metadata"]["name"]) for write in writes] == [
        (Tier.PARENTS_UP, "lab"),
        (Tier.CHILDREN_DOWN, "a"),
        (Tier.CHILDREN_UP, "b"),
    ]
    back = order(zip(new, old, strict=True), "lab")
    assert [(write.tier, write.after["metadata"]["name"]) for write in back] == [
        (Tier.CHILDREN_DOWN, "b"),
        (Tier.CHILDREN_UP, "a"),
        (Tier.PARENTS_DOWN, "lab"),
    ]


@pytest.mark.parametrize("per_key", [False, True], ids=["v1.14.1", "v1.14.2"])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_tree_is_given_back_in_tiers_within_which_any_order_is_taken(
    per_key: bool,  # noqa: FBT001
    backwards: bool,  # noqa: FBT001
) -> None:
    state: dict[str, Object] = {"default": DEFAULT}
    play(TREE, {RESOURCES[0]: {"a": 3, "b": 2, "c": 1}}, state, per_key=per_key)
    changes = release(TREE.name, ObservedState({VOLCANO_QUEUE: state})).changes
    assert [change.document["metadata"]["name"] for change in changes] == ["a", "b", "c", "lab"]
    for _, together in groupby(changes, attrgetter("tier", "stage")):
        for change in sorted(together, key=changes.index, reverse=backwards):
            assert list(find_conflicts(change.document, state, per_key=per_key)) == []
            state[change.document["metadata"]["name"]] = change.document


def test_while_a_queue_of_the_tree_takes_no_write_only_what_shrinks_is_written() -> None:
    old = [queue("lab", 4), queue("a", 2, parent="lab"), queue("b", 2, parent="lab")]
    new = [queue("lab", 3), queue("a", 1, parent="lab"), queue("b", 3, parent="lab")]
    writes = order(zip(old, new, strict=True), "lab", held=True)
    assert [(write.tier, write.after["metadata"]["name"]) for write in writes] == [(Tier.CHILDREN_DOWN, "a")]
