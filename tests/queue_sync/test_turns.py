"""Planning gives way to others after some milliseconds, however many steps these are."""

import pytest

from queue_sync.planning.steps import Steps
from queue_sync.turns import in_turns
from slicewise.kube import turns
from tests.kube.test_turns import counted


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
