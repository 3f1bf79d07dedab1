"""Objects of every kind with odd values anywhere: an answer each time, and a patch that applies and is final."""

from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any, Final

import pytest

from admission.wire import BadReview
from slicewise.api import keys
from tests.admission.building import GPU, Object, review
from tests.admission.kinds import NAMES, cluster, manifest, mig

WORLDS: Final = (
    mig(multiGPU="one", labels={keys.QUEUE: "gpus", keys.ENGINE: "volcano"}),
    mig(multiGPU="each", labels={keys.QUEUE: "gpus"}),
    cluster("exclusive", "whole", "time"),
    cluster("mig", "mixed", "whole"),
)
ODD: Final[tuple[Any, ...]] = (
    None,
    "",
    0,
    -1,
    1.5,
    True,
    [],
    {},
    "text",
    [None],
    [[]],
    {"a": 1},
    {GPU: "1"},
    {"spec": None},
    {"containers": [None]},
    "{{x}}",
    4,
    "2",
)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
    )
    for key, each in entries:
        yield from places(each, (*place, key))


def spoilt(item: Object, chance: Random) -> Object:
    found = deepcopy(item)
    for _ in range(chance.choice((1, 1, 2, 3))):
        *holder, last = chance.choice([place for place in places(found) if len(place) > 1])
        value: Any = found
        for step in holder:
            value = value[step]
        value[last] = deepcopy(chance.choice(ODD))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_odd_values_never_break_an_answer(name: str) -> None:
    chance = Random(name)  # noqa: S311
    item = manifest(name)
    for world in WORLDS:
        live = review(world, item)
        for _ in range(4):
            odd = spoilt(item, chance)
            try:
                once = review(world, odd)
                review(world, odd, live.item)
            except BadReview:
                continue  # metadata that is none: the API server sends no such thing
            if once.allowed:
                assert review(world, once.item).operations == []
