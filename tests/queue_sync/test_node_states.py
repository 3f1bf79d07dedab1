"""When plans are to be looked at because of a node, which has to say first what it newly offers."""

import pytest

from queue_sync.controllers.node_states import ANNOTATED_FIRST, NodeStates
from queue_sync.planning.node_trust import Settings
from slicewise.api import keys
from slicewise.inventory.node import Node
from slicewise.inventory.node_annotation import write_offer_annotation
from slicewise.kube.clock import ClusterClock
from tests.kube.clocks import Clock
from tests.queue_sync.scenes import MIXED, mixed, read_node

_LATE = ANNOTATED_FIRST + 0.01


class _Node:
    """One node that comes as the controller leads, and the moment at which it is looked at."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.came = self.clock.at
        self.nodes: dict[str, Node] = {"n": read_node(mixed("n", {"1g.10gb": 7}))}
        self.states = NodeStates(self.nodes, Settings(), ClusterClock(self.clock.timing, lambda: None))
        self.states.complete = True

    def look(self, after: float, *, annotated: bool) -> tuple[bool, float | None]:
        """Whether plans are to be looked at, and in how many seconds the node itself, so long after it came."""
        self.clock.at = self.came + after
        if annotated:
            belief = self.states.belief("n")
            assert belief is not None
            assert belief.kept is not None
            notes = {keys.OFFER: write_offer_annotation(belief.kept)}
            self.nodes["n"] = read_node(mixed("n", {"1g.10gb": 7}, annotations=notes))
        found = self.states.look("n")
        assert found.pools <= {MIXED}
        return bool(found.pools), found.again_in


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param([(0.0, False, False), (0.1, True, True)], id="it says so in a moment"),
        pytest.param([(0.0, False, False), (_LATE, True, True)], id="late, and nobody looked meanwhile"),
        pytest.param(
            [(0.0, False, False), (0.9, False, False), (_LATE, True, True)], id="late, and looked at before"
        ),
        pytest.param(
            [(0.0, False, False), (_LATE, False, True), (2.0, True, False)],
            id="it was given out late already",
        ),
    ],
)
def test_plans_are_looked_at_once_a_node_says_what_it_offers_or_is_late(
    looks: list[tuple[float, bool, bool]],
) -> None:
    node = _Node()
    for after, annotated, plans in looks:
        assert node.look(after, annotated=annotated)[0] is plans


@pytest.mark.parametrize("after", [0.0, 0.4, ANNOTATED_FIRST - 0.0001])
def test_a_node_is_looked_at_again_as_soon_as_it_is_late(after: float) -> None:
    node = _Node()
    node.look(0.0, annotated=False)
    _, again_in = node.look(after, annotated=False)
    assert again_in is not None
    assert 0 < after + again_in - ANNOTATED_FIRST < 0.01
    assert node.look(after + again_in, annotated=False) == (True, None)
