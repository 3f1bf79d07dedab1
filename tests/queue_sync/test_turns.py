"""Long work gives way to others after some milliseconds, however many steps these are."""

import asyncio

import pytest

from queue_sync import turns
from queue_sync.planning.steps import Steps


@pytest.mark.parametrize(
    ("step", "steps", "given"),
    [
        (0.001, 4, 0),
        (0.001, 5, 1),
        (0.001, 20, 4),
        (0.004, 3, 1),
        (0.02, 3, 3),
        (0.0, 1000, 0),
    ],
)
async def test_others_have_a_turn_after_some_milliseconds(
    monkeypatch: pytest.MonkeyPatch, step: float, steps: int, given: int
) -> None:
    now, others = 0.0, 0
    monkeypatch.setattr(turns, "TURN", 0.005)
    monkeypatch.setattr(turns, "monotonic", lambda: round(now, 6))

    def work() -> Steps[str]:
        nonlocal now
        for _ in range(steps):
            now += step
            yield
        return "done"

    async def turn() -> None:
        nonlocal others
        while True:
            await asyncio.sleep(0)
            others += 1

    counting = asyncio.create_task(turn())
    await asyncio.sleep(0)
    assert await turns.in_turns(work()) == "done"
    counting.cancel()
    assert others == given
