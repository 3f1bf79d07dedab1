"""Long work in one loop: whatever is ready waits for one step of it at most."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from slicewise.kube import turns
from slicewise.kube.turns import BETWEEN, by_and_by, next_turn
from tests.kube.clocks import rounds


class Turn:
    """The turn of the loop that is."""

    number = 0


@asynccontextmanager
async def counted() -> AsyncIterator[Turn]:
    """Counts the turns of the loop meanwhile."""
    turn = Turn()

    async def count() -> None:
        while True:
            await asyncio.sleep(0)
            turn.number += 1

    counting = asyncio.create_task(count())
    try:
        yield turn
    finally:
        counting.cancel()


@pytest.mark.parametrize("works", [1, 2, 5])
async def test_one_step_in_so_many_turns_however_many_have_long_work(
    monkeypatch: pytest.MonkeyPatch, works: int
) -> None:
    monkeypatch.setattr(turns, "STEP", 0.0)
    steps: list[tuple[int, int]] = []

    async def work(number: int) -> None:
        async for _ in by_and_by(range(4)):
            step = turn.number, number
            steps.append(step)

    async with counted() as turn, asyncio.TaskGroup() as group:
        for number in range(works):
            group.create_task(work(number))
    at = [turn for turn, _ in steps]
    assert [then - now for now, then in pairwise(at)] == [BETWEEN + 1] * (4 * works - 1)
    assert [number for _, number in steps] == [*range(works)] * 4


@pytest.mark.parametrize("idle", [0, 1, BETWEEN, 50])
async def test_who_comes_anew_keeps_the_distance_too(idle: int) -> None:
    async with counted() as turn:
        await rounds(50)
        asked = turn.number
        await next_turn()
        first = turn.number
        await rounds(idle)
        await next_turn()
        assert first - asked <= 2
        assert turn.number - first > max(idle, BETWEEN)
        assert turn.number - first <= max(idle + 2, BETWEEN + 1)


@pytest.mark.parametrize("waited", [0, 1, 2])
async def test_who_gives_up_is_passed_over(waited: int) -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        await next_turn()
        order.append(name)

    tasks = [asyncio.create_task(work(name)) for name in ("a", "b", "c")]
    await rounds(waited)
    tasks[1].cancel()
    async with asyncio.timeout(60):
        await asyncio.wait(tasks)
        await next_turn()
    assert order == ["a", "c"]


@pytest.mark.parametrize(
    ("each", "things", "taken"),
    [
        (0.001, 4, [4]),
        (0.001, 5, [5]),
        (0.001, 12, [5, 5, 2]),
        (0.004, 3, [2, 1]),
        (0.02, 3, [1, 1, 1]),
        (0.0, 1000, [1000]),
        (0.001, 0, []),
    ],
)
async def test_a_step_ends_after_some_milliseconds_however_many_things_these_are(
    monkeypatch: pytest.MonkeyPatch, each: float, things: int, taken: list[int]
) -> None:
    now, steps = 0.0, dict[int, int]()
    monkeypatch.setattr(turns, "STEP", 0.005)
    monkeypatch.setattr(turns, "monotonic", lambda: round(now, 6))

    def slow() -> Iterator[int]:
        nonlocal now
        for thing in range(things):
            now += each
            yield thing

    async with counted() as turn:
        async for _ in by_and_by(slow()):
            steps[turn.number] = steps.get(turn.number, 0) + 1
    assert [*steps.values()] == taken


def test_each_loop_has_its_own_turns() -> None:
    """One that ended while somebody waited keeps nobody waiting."""

    async def abandoned() -> None:
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, next_turn())
        await asyncio.sleep(0)

    asyncio.run(abandoned())
    asyncio.run(asyncio.wait_for(next_turn(), 60))
