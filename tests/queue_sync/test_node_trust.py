"""When a node is believed: the fine print as a table, and as properties over random histories."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_sync.planning.node_trust import NodeState, Settings, evaluate, stamp
from slicewise.api import keys
from slicewise.inventory.node_annotation import write_offer_annotation
from slicewise.inventory.node_resources import Offer
from slicewise.inventory.node_state import standing
from slicewise.inventory.planned_geometry import observe
from tests.queue_sync.scenes import (
    FOUR,
    GPU,
    MIXED,
    ONE,
    THREE,
    exclusive,
    look,
    mixed,
    mixed_labels,
    node,
    read_node,
)

T0 = 1_800_000_000.0
SETTINGS = Settings(settle=60.0, hold_down=360.0)
SEVEN = {"1g.10gb": 7}
SPLIT = {"3g.40gb": 1, "4g.40gb": 1}


def quantities(offer: Offer | None) -> dict[str, int] | None:
    return None if offer is None else offer.quantities


def written(document: Mapping[str, Any], belief: NodeState) -> dict[str, Any]:
    """The node after the controller has written what the belief says."""
    new = {**document, "metadata": {**document["metadata"]}}
    labels, notes = dict(new["metadata"]["labels"]), dict(new["metadata"]["annotations"])
    labels.pop(keys.POOL, None)
    notes.pop(keys.OFFER, None)
    if belief.label is not None:
        labels[keys.POOL] = belief.label
    if belief.kept is not None:
        notes[keys.OFFER] = write_offer_annotation(belief.kept)
    new["metadata"] |= {"labels": labels, "annotations": notes}
    return new


def kept_of(belief: NodeState) -> dict[str, int]:
    """What the annotation keeps as an offer; it may say which division counted last, and nothing more."""
    return {} if belief.kept is None else belief.kept.offer.quantities


class Story:
    """One node's life, judged again and again; `restarts` forget everything but what is on the node."""

    def __init__(self, *, restarts: bool) -> None:
        self.belief: NodeState | None = None
        self.notes: dict[str, Any] = {}
        self.restarts = restarts

    def at(self, seconds: float, document: Mapping[str, Any]) -> NodeState:
        base = {**document, "metadata": {**document["metadata"]}}
        if self.notes:
            base["metadata"]["annotations"] = {**base["metadata"]["annotations"], **self.notes["annotations"]}
            base["metadata"]["labels"] = {**base["metadata"]["labels"], **self.notes["labels"]}
        previous = None if self.restarts else self.belief
        self.belief = evaluate(previous, look(base), T0 + seconds, SETTINGS)
        after = written(base, self.belief)["metadata"]
        self.notes = {
            "annotations": {k: v for k, v in after["annotations"].items() if k == keys.OFFER},
            "labels": {k: v for k, v in after["labels"].items() if k == keys.POOL},
        }
        return self.belief


@pytest.fixture(params=[False, True], ids=["one process", "restarted before every look"])
def story(request: pytest.FixtureRequest) -> Story:
    return Story(restarts=bool(request.param))


def test_a_settled_node_counts_at_first_sight(story: Story) -> None:
    belief = story.at(0, mixed("n", SEVEN))
    assert quantities(belief.counted) == {ONE: 7}
    assert belief.label == MIXED
    assert belief.kept is not None
    assert belief.kept.since == stamp(T0)
    assert belief.reason == ""
    assert belief.look_at is None


def test_an_unsettled_node_counts_nothing_at_first_sight(story: Story) -> None:
    belief = story.at(0, mixed("n", SEVEN, ready=False))
    assert belief.counted is None
    assert (belief.kept, belief.label) == (None, None)
    assert belief.reason == "the node is not Ready"


def test_growth_counts_at_once(story: Story) -> None:
    story.at(0, exclusive("n", gpus=4))
    assert quantities(story.at(1, exclusive("n", gpus=8)).counted) == {GPU: 8}


def test_less_is_held_and_then_adopted(story: Story) -> None:
    story.at(0, mixed("n", SEVEN))
    less = node("n", mixed_labels(SEVEN), {ONE: 5}, capacity={ONE: 7})
    held = story.at(10, less)
    assert quantities(held.counted) == {ONE: 7}
    assert held.label == MIXED
    assert held.look_at == T0 + 370
    assert "fell from 7 to 5" in held.reason
    assert quantities(story.at(369.9, less).counted) == {ONE: 7}
    after = story.at(370, less)
    assert quantities(after.counted) == {ONE: 5}
    assert after.look_at is None


def boards(allocatable: int, **changes: Any) -> dict[str, Any]:
    """A node of eight boards of which so many can be had."""
    whole = exclusive("n", 8, **changes)
    return {**whole, "status": {**whole["status"], "allocatable": {GPU: str(allocatable)}}}


@pytest.mark.parametrize(
    "fallen", [boards(0), boards(7, ready=False), node("n", {}, {})], ids=["zero", "in doubt", "no names"]
)
def test_a_second_fall_is_held_by_itself(story: Story, fallen: dict[str, Any]) -> None:
    story.at(0, boards(8))
    story.at(10, boards(7))
    assert quantities(story.at(350, fallen).counted) == {GPU: 8}
    held = story.at(370, fallen)
    assert quantities(held.counted) == {GPU: 7}
    assert held.look_at == T0 + 350 + SETTINGS.hold_down
    assert quantities(story.at(400, boards(7)).counted) == {GPU: 7}
    assert quantities(story.at(410, boards(8)).counted) == {GPU: 8}
    story.at(420, boards(7))
    story.at(700, fallen)
    assert quantities(story.at(780, fallen).counted) == {GPU: 7}
    assert story.at(1060, fallen).counted is None


def test_a_change_of_division_within_a_hold_is_held_by_itself(story: Story) -> None:
    story.at(0, boards(8))
    story.at(10, boards(7))
    assert quantities(story.at(340, mixed("n", SEVEN)).counted) == {GPU: 7}
    assert quantities(story.at(380, mixed("n", SEVEN)).counted) == {GPU: 7}
    assert quantities(story.at(400, mixed("n", SEVEN)).counted) == {ONE: 7}


def test_a_second_fall_that_is_over_is_forgotten(story: Story) -> None:
    story.at(0, boards(8))
    story.at(10, boards(6))
    story.at(20, boards(0))
    story.at(80, boards(6))
    assert quantities(story.at(360, boards(0)).counted) == {GPU: 8}
    held = story.at(370, boards(0))
    assert quantities(held.counted) == {GPU: 6}
    assert held.look_at == T0 + 360 + SETTINGS.hold_down


def test_a_return_cancels_the_hold(story: Story) -> None:
    story.at(0, mixed("n", SEVEN))
    gone = node("n", mixed_labels(SEVEN), {ONE: 0}, capacity={ONE: 7})
    story.at(10, gone)
    back = story.at(100, mixed("n", SEVEN))
    assert (back.reason, back.look_at) == ("", None)
    assert back.kept is not None
    assert back.kept.held_since == ""
    held = story.at(300, gone)
    assert held.look_at == T0 + 660
    assert quantities(held.counted) == {ONE: 7}


def test_a_silent_plugin_counts_for_the_hold_down_even_when_its_capacity_is_dropped(story: Story) -> None:
    story.at(0, mixed("n", SEVEN))
    story.at(1, node("n", mixed_labels(SEVEN), {ONE: 0}, capacity={ONE: 7}))
    silent = node("n", {}, {})
    held = story.at(301, silent)
    assert quantities(held.counted) == {ONE: 7}
    assert held.label == MIXED
    over = story.at(361, silent)
    assert (over.counted, kept_of(over), over.label) == (None, {}, None)


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"ready": False}, MIXED),
        ({"cordoned": True}, MIXED),
        ({"taints": ({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},)}, MIXED),
    ],
)
def test_a_node_in_doubt_counts_until_the_hold_down_has_run_out(
    story: Story, change: dict[str, Any], label: str | None
) -> None:
    story.at(0, mixed("n", SEVEN))
    doubted = mixed("n", SEVEN, **change)
    held = story.at(5, doubted)
    assert quantities(held.counted) == {ONE: 7}
    assert held.label == label
    assert held.look_at == T0 + 365
    over = story.at(365, doubted)
    assert (over.counted, kept_of(over), over.label, over.look_at) == (None, {}, None, None)
    assert quantities(story.at(1000, mixed("n", SEVEN)).counted) == {ONE: 7}


def pending() -> dict[str, Any]:
    labels = {**mixed_labels(SEVEN), keys.MIG_CONFIG: "all-balanced", keys.MIG_CONFIG_STATE: "pending"}
    return node("n", labels, {ONE: 7})


def test_a_repartition_takes_the_label_off_and_settles(story: Story) -> None:
    story.at(0, mixed("n", SEVEN))
    changing = story.at(10, pending())
    assert quantities(changing.counted) == {ONE: 7}
    assert changing.label is None
    new = mixed("n", SPLIT)
    settling = story.at(40, new)
    assert quantities(settling.counted) == {ONE: 7}
    assert settling.label is None
    assert settling.look_at == T0 + 100
    assert quantities(story.at(99, new).counted) == {ONE: 7}
    done = story.at(100, new)
    assert quantities(done.counted) == {THREE: 1, FOUR: 1}
    assert done.label == MIXED


def test_a_division_that_changes_while_it_settles_settles_anew(story: Story) -> None:
    story.at(0, mixed("n", SEVEN))
    story.at(10, mixed("n", SPLIT))
    other = mixed("n", {"2g.20gb": 3})
    assert story.at(60, other).look_at == T0 + 120
    assert quantities(story.at(119, other).counted) == {ONE: 7}
    assert quantities(story.at(120, other).counted) == {"nvidia.com/mig-2g.20gb": 3}


def test_a_doubt_while_it_settles_settles_anew(story: Story) -> None:
    story.at(0, mixed("n", SEVEN))
    story.at(10, mixed("n", SPLIT))
    story.at(30, mixed("n", SPLIT, ready=False))
    assert story.at(40, mixed("n", SPLIT)).look_at == T0 + 100


def test_another_pool_is_another_division(story: Story) -> None:
    story.at(0, exclusive("n", gpus=8))
    shared = {keys.PRODUCT: "NVIDIA-H100-80GB-HBM3-SHARED", keys.COUNT: "8", keys.REPLICAS: "2"}
    doubled = node("n", {**shared, keys.SHARING: "time-slicing"}, {GPU: 16})
    settling = story.at(5, doubled)
    assert quantities(settling.counted) == {GPU: 8}
    assert settling.label is None
    done = story.at(65, doubled)
    assert done.label == "h100-80gb-time-slicing-x2"
    assert quantities(done.counted) == {GPU: 16}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (mixed("n", {"4g.40gb": 1}), mixed("n", SEVEN)),
        (mixed("n", {"4g.40gb": 1}), exclusive("n", 1)),
    ],
    ids=["to other slices", "to whole boards"],
)
def test_a_name_of_the_division_before_that_lingers_changes_nothing(
    story: Story, before: dict[str, Any], after: dict[str, Any]
) -> None:
    capacity = {**after["status"]["capacity"], FOUR: "1"}
    lingering = {**after, "status": {**after["status"], "capacity": capacity}}
    story.at(0, before)
    story.at(10, lingering)
    there = story.at(70, lingering)
    assert there.counted is not None
    assert FOUR not in there.counted.names
    assert there.label == there.counted.pool
    assert story.at(310, after) == there


def test_a_label_that_is_off_stays_off_while_in_doubt(story: Story) -> None:
    story.at(0, mixed("n", SEVEN))
    story.at(10, pending())
    assert story.at(20, mixed("n", SEVEN, ready=False)).label is None
    assert story.at(30, mixed("n", SEVEN)).label == MIXED


def test_the_old_division_counts_no_longer_than_the_hold_down() -> None:
    story = Story(restarts=False)
    story.at(0, mixed("n", SEVEN))
    story.at(10, pending())
    new = mixed("n", SPLIT)
    story.at(350, new)
    between = story.at(371, new)
    assert (between.counted, kept_of(between)) == (None, {})
    assert between.look_at == T0 + 410
    assert quantities(story.at(410, new).counted) == {THREE: 1, FOUR: 1}


def failed() -> dict[str, Any]:
    labels = {**mixed_labels({"1g.10gb": 7, "2g.20gb": 1}), keys.MIG_CONFIG_STATE: "failed"}
    return node("n", labels, {ONE: 7, "nvidia.com/mig-2g.20gb": 3})


def test_a_failed_geometry_counts_where_labels_and_capacity_agree(story: Story) -> None:
    story.at(0, mixed("n", {"1g.10gb": 9}))
    held = story.at(10, failed())
    assert quantities(held.counted) == {ONE: 9}
    assert held.label is None
    after = story.at(370, failed())
    assert quantities(after.counted) == {ONE: 7}
    assert after.label == MIXED
    assert story.at(5000, failed()) == after
    silent = node(
        "n", failed()["metadata"]["labels"], {ONE: 0}, capacity={ONE: 7, "nvidia.com/mig-2g.20gb": 3}
    )
    assert quantities(story.at(5001, silent).counted) == {ONE: 7}
    assert quantities(story.at(5100, failed()).counted) == {ONE: 7}
    assert quantities(story.at(5200, mixed("n", SPLIT)).counted) == {ONE: 7}
    assert quantities(story.at(5260, mixed("n", SPLIT)).counted) == {THREE: 1, FOUR: 1}


def test_a_change_that_failed_leaves_what_was_there_whatever_was_asked_for(story: Story) -> None:
    before = exclusive("n", 8)
    asked = {keys.MIG_CONFIG: "all-1g.10gb", keys.MIG_CONFIG_STATE: "failed"}
    after = {
        **before,
        "metadata": {**before["metadata"], "labels": {**before["metadata"]["labels"], **asked}},
    }
    story.at(0, before)
    assert story.at(10, after).label is None
    left = story.at(370, after)
    assert quantities(left.counted) == {GPU: 8}
    assert left.label == "h100-80gb-exclusive"
    assert story.at(5000, after) == left


def test_a_board_that_failed_before_it_was_believed_waits_too() -> None:
    story = Story(restarts=False)
    assert story.at(0, failed()).look_at == T0 + 360
    assert story.at(359, failed()).counted is None
    assert quantities(story.at(360, failed()).counted) == {ONE: 7}


def test_a_node_that_is_gone_counts_nothing() -> None:
    believed = evaluate(None, look(mixed("n", SEVEN)), T0, SETTINGS)
    gone = evaluate(believed, None, T0 + 1, SETTINGS)
    assert (gone.counted, gone.kept, gone.label) == (None, None, None)


@pytest.mark.parametrize("jump", [-86_400.0, -1.0])
def test_a_clock_that_jumps_back_prolongs_a_hold_by_itself_at_most(story: Story, jump: float) -> None:
    story.at(0, mixed("n", SEVEN))
    doubted = mixed("n", SEVEN, ready=False)
    story.at(10, doubted)
    held = story.at(10 + jump, doubted)
    assert quantities(held.counted) == {ONE: 7}
    assert held.look_at is not None
    assert held.look_at <= T0 + 10 + jump + SETTINGS.hold_down
    assert story.at(10 + jump + SETTINGS.hold_down, doubted).counted is None


@pytest.mark.parametrize("text", ["yesterday", "2030-01-01T00:00:00", "2999-01-01T00:00:00Z"])
def test_times_that_make_no_sense_are_taken_as_now(text: str) -> None:
    believed = evaluate(None, look(mixed("n", SEVEN)), T0, SETTINGS)
    assert believed.kept is not None
    kept = msgspec.structs.replace(believed.kept, held_since=text)
    noted = mixed("n", SEVEN, ready=False, annotations={keys.OFFER: write_offer_annotation(kept)})
    held = evaluate(None, look(noted), T0 + 5, SETTINGS)
    assert held.look_at == T0 + 365


@pytest.mark.parametrize(
    "text", ["", GPU, f"{GPU}=", f"{GPU}=-1", f"{GPU}=7 x", f"{GPU}={'9' * 5000}", "other=7"]
)
def test_lesser_numbers_that_make_no_sense_are_none(text: str) -> None:
    believed = evaluate(None, look(boards(8)), T0, SETTINGS)
    assert believed.kept is not None
    kept = msgspec.structs.replace(believed.kept, held_since=stamp(T0), following=text)
    noted = boards(7, ready=False, annotations={keys.OFFER: write_offer_annotation(kept)})
    assert evaluate(None, look(noted), T0 + 360, SETTINGS).counted is None


def test_a_restart_resumes_the_hold() -> None:
    one, other = Story(restarts=False), Story(restarts=True)
    doubted = mixed("n", SEVEN, ready=False)
    for each in (one, other):
        each.at(0, mixed("n", SEVEN))
        each.at(10, doubted)
    assert other.at(200, doubted) == one.at(200, doubted)


# --- Properties -------------------------------------------------------------------------------------------

SLICES = st.dictionaries(
    st.sampled_from(["1g.10gb", "2g.20gb", "3g.40gb"]), st.integers(1, 7), min_size=1, max_size=2
)


@st.composite
def looks(draw: st.DrawFn) -> dict[str, Any]:
    """A node as it might be at some moment: sound, in doubt, restarting, half way."""
    slices = draw(SLICES)
    shown = draw(st.sampled_from([slices, slices, slices, draw(SLICES)]))
    capacity = {keys.MIG_PREFIX + profile: number for profile, number in shown.items()}
    fraction = draw(st.sampled_from([1, 1, 1, 0]))
    allocatable = {name: number * fraction for name, number in capacity.items()}
    state = draw(st.sampled_from(["success", "success", "success", "pending", "failed"]))
    labels = {**mixed_labels(slices), keys.MIG_CONFIG_STATE: state}
    if draw(st.sampled_from([False, False, False, True])):
        labels, capacity, allocatable = {}, {}, {}
    ready = draw(st.sampled_from([True, True, True, False]))
    return node("n", labels, allocatable, capacity=capacity, ready=ready)


HISTORIES = st.lists(st.tuples(st.integers(0, 400), looks(), st.booleans()), min_size=1, max_size=12)


@given(HISTORIES)
def test_properties_of_every_history(history: list[tuple[int, dict[str, Any], bool]]) -> None:
    now = T0
    previous: NodeState | None = None
    notes: dict[str, str] = {}
    labels: dict[str, str] = {}
    seen_ever: dict[str, int] = {}
    sound_at = float("-inf")
    for pause, document, restart in history:
        now += pause
        base = {**document, "metadata": {**document["metadata"], "annotations": dict(notes)}}
        base["metadata"]["labels"] = {**document["metadata"]["labels"], **labels}
        seen = observe(read_node(base))
        if seen is None:
            previous, notes, labels, sound_at = None, {}, {}, float("-inf")
            continue
        before = previous if not restart else None
        belief = evaluate(before, seen, now, SETTINGS)
        # A restart at any moment changes nothing: all that matters is on the Node.
        assert evaluate(previous, seen, now, SETTINGS) == evaluate(None, seen, now, SETTINGS)
        for name, quantity in seen.offer.quantities.items():
            seen_ever[name] = max(seen_ever.get(name, 0), quantity)

        # Nothing is promised beyond what the node itself once offered.
        for resource in belief.counted.resources if belief.counted else ():
            assert resource.quantity <= seen_ever[resource.name]
        # No false zero: less than a hold-down after the node was sound, something of it counts.
        if now < sound_at + SETTINGS.hold_down:
            assert belief.counted is not None
        shown = seen.settled and any(resource.quantity for resource in seen.offer.resources)
        if belief.counted is not None and shown and belief.counted.same_division(seen.offer):
            sound_at = now
        # A node that nothing is said about shows what counts.
        if not belief.reason:
            assert belief.counted is not None
            assert belief.counted.quantities == seen.offer.quantities
        # The label never steers to what does not count.
        if belief.label is not None:
            assert belief.counted is not None
            assert belief.counted.pool == belief.label
        # Judged again at the same moment, nothing is different: the steady state writes nothing.
        after = written(base, belief)
        again = observe(read_node(after))
        if again is not None:
            assert evaluate(belief, again, now, SETTINGS) == belief
            assert evaluate(None, again, now, SETTINGS) == belief
        # Time alone changes the judgement only from `look_at` on.
        if belief.look_at is not None:
            assert belief.look_at > now
            earlier = evaluate(belief, seen, belief.look_at - 0.01, SETTINGS)
            assert (earlier.counted, earlier.label) == (belief.counted, belief.label)
        # Those who keep no time count the same, but for the settling of another division.
        if again is not None:
            clockless = standing(again).offer
            settling = seen.settled and belief.counted != seen.offer and any(seen.offer.quantities.values())
            divided_anew = belief.counted is None or (
                (belief.counted.pool, belief.counted.names) != (seen.offer.pool, seen.offer.names)
            )
            if settling and divided_anew:
                assert clockless == seen.offer
            else:
                assert clockless == belief.counted
        previous = belief
        notes = {k: v for k, v in after["metadata"]["annotations"].items() if k == keys.OFFER}
        labels = {k: v for k, v in after["metadata"]["labels"].items() if k == keys.POOL}


@pytest.mark.parametrize("lasting", [300, 400])
def test_a_repartition_settles_however_long_it_takes(story: Story, lasting: int) -> None:
    """Shorter or longer than the hold-down: what came instead is believed once it has settled."""
    story.at(0, mixed("n", SEVEN))
    pending = {**mixed_labels(SEVEN), keys.MIG_CONFIG: "all-balanced", keys.MIG_CONFIG_STATE: "pending"}
    story.at(1, node("n", pending, {ONE: 7}))
    story.at(362 if lasting > 360 else lasting, node("n", pending, {ONE: 7}))
    until = {ONE: 7} if lasting < 360 else None
    assert quantities(story.at(lasting + 1, mixed("n", SPLIT)).counted) == until
    assert quantities(story.at(lasting + 59, mixed("n", SPLIT)).counted) == until
    assert quantities(story.at(lasting + 62, mixed("n", SPLIT)).counted) == {THREE: 1, FOUR: 1}


def test_what_comes_back_as_it_was_counts_at_once(story: Story) -> None:
    story.at(0, mixed("n", SEVEN))
    story.at(1, mixed("n", SEVEN, ready=False))
    assert story.at(400, mixed("n", SEVEN, ready=False)).counted is None
    assert quantities(story.at(500, mixed("n", SEVEN)).counted) == {ONE: 7}
