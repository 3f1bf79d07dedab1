"""Planning that takes long, beside everybody else in the loop."""

from typing import TypeVar

from queue_sync.planning.steps import StepByStep, Steps
from slicewise.kube.turns import by_and_by

T = TypeVar("T")


async def in_turns(steps: Steps[T]) -> T:
    """Takes the steps one by one, and lets everybody else have a turn after some milliseconds."""
    work = StepByStep(steps)
    async for _ in by_and_by(work):
        pass
    return work.result
