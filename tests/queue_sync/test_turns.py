"""Planning gives way to others after some milliseconds, however many steps these are."""

from itertools import pairwise

import pytest

from queue_sync.controllers.node_states import NodeResult, NodeStates
from queue_sync.planning.steps import Steps
from queue_sync.turns import in_turns
from slicewise.kube import turns
from tests.kube.apiserver import ApiServer
from tests.kube.test_turns import counted
from tests.queue_sync.running import KINDS, World, controlled
from tests.queue_sync.scenes import exclusive


@pytest.mark.parametrize(
    ("step", "steps", "taken"),
    [
        (0.001, 4, 1),
        (0.001, 5, 2),
        (0.001, 20, 5),
        (0.004, 3, 2),
        (0.02, 3, 4),
        (0.0, 1000, 1),
    ],
)
async def test_others_have_a_turn_after_some_milliseconds(
    monkeypatch: pytest.MonkeyPatch, step: float, steps: int, taken: int
) -> None:
    now, seen = 0.0, set[int]()
    monkeypatch.setattr(turns, "STEP", 0.005)
    monkeypatch.setattr(turns, "monotonic", lambda: round(now, 6))

    def work() -> Steps[str]:
        nonlocal now
        for _ in range(steps):
            seen.add(turn.number)
            now += step
            yield
        seen.add(turn.number)
        return "done"

    async with counted() as turn:
        assert await in_turns(work()) == "done"
    assert len(seen) == taken


async def test_nodes_are_judged_step_by_step_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "STEP", 0.0)
    judged: list[int] = []
    look = NodeStates.look

    def noted(states: NodeStates, name: str) -> NodeResult:
        judged.append(turn.number)
        return look(states, name)

    async with ApiServer(KINDS).running() as server:
        world = World(server)
        for number in range(5):
            world.node(exclusive(f"n{number}"))
        async with controlled(server) as controller:
            await world.idle(controller)
            monkeypatch.setattr(NodeStates, "look", noted)
            async with counted() as turn:
                await controller.nodes.look_at_all()
    assert len(judged) == 5
    assert min(then - now for now, then in pairwise(judged)) > turns.BETWEEN
