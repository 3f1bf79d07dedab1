"""What a fault holds against Slicewise, and what it does not."""

import random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from e2e.chaos.faults import FAULTS
from e2e.chaos.scene import PLAN, Scene


@pytest.mark.parametrize(
    ("first", "taken", "failures"),
    [
        (PLAN, 201, ["a second plan over the same pool was taken"]),
        (PLAN, 403, []),
        (None, 201, []),  # the fault beside it has deleted the first
    ],
)
def test_a_second_plan_that_is_taken_is_wrong_while_the_first_stands(
    first: Any, taken: int, failures: list[str]
) -> None:
    said: list[str] = []
    deleted: list[str] = []
    cluster = SimpleNamespace(
        find=lambda *_: first,
        try_create=lambda _: SimpleNamespace(status=taken),
        delete=lambda *names: deleted.append(names[-1]),
    )
    scene = SimpleNamespace(cluster=cluster, patiently=lambda act: act(), fail=said.append)
    with FAULTS["second plan over the pool"](cast("Scene", scene), random.Random(7)):  # noqa: S311  # no secret
        pass
    assert said == failures
    assert deleted == (["chaos-second"] if taken == 201 else [])
