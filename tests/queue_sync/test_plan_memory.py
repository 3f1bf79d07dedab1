"""What is remembered from pass to pass changes no result, whatever changes between two: plan, pools, queues."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_sync.planning.engine import PlanCache
from queue_sync.planning.kueue.objects import API_VERSION, CLUSTER_QUEUE_KIND
from queue_sync.planning.observed import NamedPlans, Object, ObservedState
from queue_sync.planning.plan_diff import desired_of
from slicewise.api import keys
from slicewise.api.policy import QuotaPlan
from slicewise.inventory.pools import Inventory
from slicewise.kube.object_types import CLUSTER_QUEUE
from tests.queue_sync.scenes import exclusive, inventory, mixed, plan, sliced
from tests.queue_sync.test_plan import NAMESPACES, applied, standing

TWO = {"team-a": 3, "team-b": 1}
PLANS: dict[str, list[QuotaPlan]] = {
    "kueue": [
        plan(queues=TWO),
        plan(queues=TWO),  # says the same, and is another object
        plan(queues={"team-a": 1, "team-b": 1}),
        plan(queues={"team-b": 1}),
        plan(queues=TWO, cohort="lab"),
        plan(queues=TWO, cover=["cpu"]),
        plan(queues=TWO, headroom={"percent": 30}),
        plan(queues=TWO, pools={"matchNames": ["h100-*"]}),
        plan(queues=TWO, kueue={"stopPolicy": "Hold"}),
        plan(queues=TWO, maximum={"t4-time-slicing-x10": {"nvidia.com/gpu": 40}}),
        plan(queues=[{"name": "team-a", "borrowing": {"percent": 50}}], cohort="lab"),
    ],
    "volcano": [
        plan(engine="volcano", queues=TWO),
        plan(engine="volcano", queues={"team-a": 1, "team-b": 1}),
        plan(engine="volcano", queues={"team-b": 1}),
        plan(engine="volcano", queues=TWO, cohort="lab"),
        plan(engine="volcano", queues=TWO, headroom={"count": 1}),
    ],
}
POOLS: list[Inventory] = [
    inventory(mixed("n1", {"1g.10gb": 7})),
    inventory(mixed("n1", {"1g.10gb": 6})),
    inventory(mixed("n1", {"3g.40gb": 1, "4g.40gb": 1}), sliced("n2")),
    inventory(),
]
WHOLE: list[Inventory] = [
    inventory(exclusive("n1")),
    inventory(exclusive("n1", gpus=4)),
    inventory(exclusive("n1"), exclusive("n2", product="NVIDIA-A100-SXM4-80GB")),
    inventory(),
]
EDITS = ("nothing", "a number of ours", "a field", "the queue is gone", "another queue of the cohort comes")


def edited(existing: ObservedState, edit: str) -> ObservedState:
    """What stands after somebody edited it."""
    objects = {kind: deepcopy(dict(existing.of(kind))) for kind in existing.objects}
    every: list[Object] = [each for stores in objects.values() for each in stores.values()]
    queue: Any = next((each for each in every if each["metadata"]["name"] == "team-a"), None)
    if edit == "nothing" or queue is None:
        return existing
    if edit == "the queue is gone":
        every.remove(queue)
    elif edit == "a field":
        queue["spec"]["weight" if queue["kind"] == "Queue" else "stopPolicy"] = 3
    elif edit == "another queue of the cohort comes":
        every.append({**deepcopy(queue), "metadata": {"name": "lender"}})
    elif queue["kind"] == "Queue":
        queue["spec"]["deserved"] = dict.fromkeys(queue["spec"].get("deserved") or (), "5")
    else:
        for group in queue["spec"].get("resourceGroups") or ():
            for flavor in group["flavors"]:
                for quota in flavor["resources"]:
                    quota["nominalQuota"] = "5"
    return standing(every, existing.use)


@pytest.mark.parametrize(("engine", "pools"), [("kueue", POOLS), ("volcano", WHOLE)])
@given(data=st.data())
def test_a_pass_that_remembers_comes_to_what_one_comes_to_that_does_not(
    engine: str, pools: list[Inventory], data: st.DataObject
) -> None:
    step = st.tuples(st.sampled_from(PLANS[engine]), st.sampled_from(pools), st.sampled_from(EDITS))
    known, existing = PlanCache(), standing([])
    for now, offered, edit in data.draw(st.lists(step, min_size=2, max_size=6)):
        existing = edited(existing, edit)
        found = desired_of(now, offered, NAMESPACES, existing)
        assert desired_of(now, offered, NAMESPACES, existing, known) == found
        existing = applied(existing, found)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "one", "two", None]))))
def test_who_names_which_plan_is_kept_as_if_it_were_read_anew(changes: list[tuple[str, str | None]]) -> None:
    named, queues = NamedPlans(), dict[str, Object]()
    for name, given_by in changes:
        notes = {keys.PLAN: given_by} if given_by else {}
        metadata = {"name": name, "annotations": notes}
        queue: Object = {"apiVersion": API_VERSION, "kind": CLUSTER_QUEUE_KIND, "metadata": metadata}
        old = queues.pop(name, None)
        if given_by is not None:
            queues[name] = queue
        if old is not None or given_by is not None:
            named.put(name, old, queues.get(name))
        existing = ObservedState({CLUSTER_QUEUE: queues})
        assert existing.by_plan(CLUSTER_QUEUE) == replace(existing, named=named).by_plan(CLUSTER_QUEUE)
