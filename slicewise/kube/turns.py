"""Long work in the loop of everybody takes turns: leases are renewed and probes are answered between its steps.

Invariant: of all long work in a loop, at most one step runs in a turn of the loop, and `BETWEEN` turns pass from one
step to the next. So whatever is ready waits for one step at most, however many have long work.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from time import monotonic
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
STEP: Final = 0.005
"""Seconds of a step, with the last thing that it does on top."""
BETWEEN: Final = 3
"""Turns of the loop that an answer to a probe takes: its connection is accepted, then it is read, then answered."""


class Turns:
    """The turns of one loop."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._passing = False

    async def next(self) -> float:
        """Returns in a turn of its own, and until when on the monotonic clock the caller may work in it."""
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        self._waiting.append(mine)
        if not self._passing:
            self._passing = True
            loop.call_soon(self._pass, loop, BETWEEN)
        await mine
        return monotonic() + STEP

    def _pass(self, loop: asyncio.AbstractEventLoop, passed: int) -> None:
        """Called once in each turn, until `BETWEEN` have passed since the last step and nobody waits."""
        if passed < BETWEEN:
            loop.call_soon(self._pass, loop, passed + 1)
            return
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # else it was cancelled
                first.set_result(None)  # the step is in the next turn
                loop.call_soon(self._pass, loop, 0)
                return
        self._passing = False


_OF_LOOPS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]] = WeakKeyDictionary()


async def next_turn() -> float:
    """`Turns.next` of the loop that runs."""
    loop = asyncio.get_running_loop()
    if (turns := _OF_LOOPS.get(loop)) is None:
        turns = _OF_LOOPS[loop] = Turns()
    return await turns.next()


async def by_and_by(things: Iterable[T]) -> AsyncIterator[T]:
    """Yields all of them in as many steps as it takes to get them and to do what is done with them."""
    end = await next_turn()
    for thing in things:
        yield thing
        if monotonic() >= end:
            end = await next_turn()
