"""The order in which ClusterQueues are written: nothing is given before it is given back."""

from typing import Any

import pytest

from queue_sync.planning.changes import Change, by_object
from queue_sync.planning.kueue.objects import nominal
from queue_sync.planning.kueue.write_order import GROWS, SHRINKS, order
from queue_sync.planning.steps import complete
from tests.queue_sync.scenes import GPU

Units = dict[str, int]


def queue(name: str, units: Units) -> dict[str, Any]:
    """A ClusterQueue with GPUs by flavor, which lends all of them."""
    flavors = [
        {"name": f, "resources": [{"name": GPU, "nominalQuota": str(n), "lendingLimit": str(n)}]}
        for f, n in units.items()
    ]
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": {"name": name},
        "spec": {"resourceGroups": [{"coveredResources": [GPU], "flavors": flavors}]},
    }


Write = tuple[int, str, Units]
CASES: dict[str, tuple[dict[str, tuple[Units | None, Units]], list[Write]]] = {
    "what shrinks goes first": (
        {"a": ({"p": 2}, {"p": 6}), "b": ({"p": 6}, {"p": 2})},
        [(SHRINKS, "b", {"p": 2}), (GROWS, "a", {"p": 6})],
    ),
    "a swap": (
        {"a": ({"p": 6, "q": 2}, {"p": 2, "q": 6}), "b": ({"p": 2, "q": 6}, {"p": 6, "q": 2})},
        [
            (SHRINKS, "a", {"p": 2, "q": 2}),
            (SHRINKS, "b", {"p": 2, "q": 2}),
            (GROWS, "a", {"p": 2, "q": 6}),
            (GROWS, "b", {"p": 6, "q": 2}),
        ],
    ),
    "nodes are divided anew, and nobody gets what another one gives back": (
        {"a": ({"p": 6, "q": 2}, {"p": 2, "q": 6}), "b": ({"p": 6, "q": 2}, {"p": 2, "q": 6})},
        [(GROWS, "a", {"p": 2, "q": 6}), (GROWS, "b", {"p": 2, "q": 6})],
    ),
    "a queue that is made gets what another one gives back": (
        {"a": ({"p": 8, "q": 0}, {"p": 4, "q": 4}), "b": (None, {"p": 4})},
        [(SHRINKS, "a", {"p": 4, "q": 0}), (GROWS, "a", {"p": 4, "q": 4}), (GROWS, "b", {"p": 4})],
    ),
    "a flavor that is new to the queue": (
        {"a": ({"p": 14}, {"p": 7, "q": 0})},
        [(SHRINKS, "a", {"p": 7}), (GROWS, "a", {"p": 7, "q": 0})],
    ),
    "a flavor that leaves": ({"a": ({"p": 3, "q": 0}, {"p": 2})}, [(SHRINKS, "a", {"p": 2})]),
}


@pytest.mark.parametrize(("queues", "writes"), CASES.values(), ids=CASES)
def test_nothing_is_given_before_it_is_given_back(
    queues: dict[str, tuple[Units | None, Units]], writes: list[Write]
) -> None:
    changes = [
        Change("p", None if before is None else queue(name, before), queue(name, after), queue(name, after))
        for name, (before, after) in queues.items()
    ]
    ordered = complete(order(changes))
    found = []
    for each in ordered:
        assert each.after is not None
        units = {flavor: number for (flavor, _), number in nominal(each.after).items()}
        assert each.after == queue(each.after["metadata"]["name"], units), "it lends no more than it has"
        found.append((each.stage, each.after["metadata"]["name"], units))
    assert found == writes
    whole = {each.document["metadata"]["name"]: (each.before, each.after) for each in by_object(ordered)}
    assert whole == {each.document["metadata"]["name"]: (each.before, each.after) for each in changes}
