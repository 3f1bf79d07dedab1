"""Long work in the loop of everybody: the lease is renewed and probes are answered between its steps."""

import asyncio
from time import monotonic
from typing import Final, TypeVar

from queue_sync.planning.steps import StepByStep, Steps

T = TypeVar("T")
TURN: Final = 0.005
"""Seconds, with the last step on top. Where others are busy too, each turn of ours waits for one of each of them."""


async def in_turns(steps: Steps[T]) -> T:
    """Takes the steps one by one, and lets everybody else have a turn after some milliseconds."""
    work, end = StepByStep(steps), monotonic() + TURN
    for _ in work:
        if monotonic() >= end:
            await asyncio.sleep(0)
            end = monotonic() + TURN
    return work.result
