"""Long work in the loop of everybody: the lease is renewed and probes are answered between its steps."""

import asyncio
from typing import TypeVar

from queue_sync.planning.steps import StepByStep, Steps

T = TypeVar("T")


async def in_turns(steps: Steps[T]) -> T:
    """Takes the steps one by one, and lets everybody else have a turn after each."""
    work = StepByStep(steps)
    for _ in work:
        await asyncio.sleep(0)
    return work.result
