"""Work that comes to a result in steps, between which others may have a turn.  Pure."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]


@dataclass(slots=True)
class StepByStep(Generic[T]):
    """Takes a step at each turn of a loop; `result` is what the work comes to, once the loop has ended."""

    steps: Steps[T]
    result: T = field(init=False)

    def __iter__(self) -> Iterator[None]:
        """Yields after each step but the last."""
        self.result = yield from self.steps


def complete(steps: Steps[T]) -> T:
    """Takes all steps at once."""
    work = StepByStep(steps)
    for _ in work:
        pass
    return work.result
