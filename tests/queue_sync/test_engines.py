"""An engine is a row: what planning asks of Kueue and Volcano it asks of a third in the same words."""

from collections.abc import Iterator, MutableMapping
from typing import Any, cast

import pytest

from queue_sync.planning.changes import Change, ChangeSet
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.drift import drift
from queue_sync.planning.engine import PlanInputs, PlanWork, QueueEngine, Steps
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.findings import Finding
from queue_sync.planning.observed import Object, ObservedState
from queue_sync.planning.ownership import RefusalError, metadata
from queue_sync.planning.plan_diff import desired_of, released
from slicewise.api.policy import QuotaPlan
from tests.queue_sync.scenes import GPU, exclusive, inventory, plan
from tests.queue_sync.test_plan import applied, nominals, standing

POOLS = inventory(exclusive("n"))
WHOLE = "h100-80gb-exclusive"


class Tickets:
    """Hands out a Ticket a GPU, and keeps what it made in a list of its own."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def check(self, inputs: PlanInputs, /) -> None:
        if len(inputs.plan.spec.queues) > 1:
            raise RefusalError(f"QuotaPlan {inputs.plan.name} has two queues, and tickets know one; keep one")

    def desired(self, inputs: PlanInputs, /) -> Steps:
        yield
        work = PlanWork(inputs)
        (queue,) = inputs.plan.spec.queues
        ticket: Object = {
            "kind": "Ticket",
            "metadata": metadata(inputs.plan.name, queue.name),
            "spec": {"gpus": work.parts[WHOLE][GPU][queue.name]},
        }
        work.take(None, ticket, ticket)
        return work.result_so_far()

    def release(self, plan: str, _: ObservedState, /) -> ChangeSet:
        mine = [
            {"kind": "Ticket", "metadata": {"name": name}} for name, of in self.made.items() if of == plan
        ]
        return ChangeSet(changes=tuple(Change(plan, ticket, None) for ticket in mine))

    def usage(self, _: ClusterState, /) -> Iterator[Finding]:
        for name in self.made:
            yield Finding("Ticket", "", name, "UseAboveQuota", f"Ticket {name} is used twice; wait")


@pytest.fixture
def tickets(monkeypatch: pytest.MonkeyPatch) -> Tickets:
    engine: QueueEngine = Tickets()
    monkeypatch.setitem(cast("MutableMapping[str, QueueEngine]", ENGINES), "tickets", engine)
    assert isinstance(engine, Tickets)
    return engine


def by_tickets(**spec: Any) -> QuotaPlan:
    """A plan of an engine that the API does not have."""
    found = plan(**spec)
    return QuotaPlan(name=found.name, spec=found.spec.model_copy(update={"engine": "tickets"}))


def wanted(of: QuotaPlan, existing: ObservedState | None = None) -> ChangeSet:
    return desired_of(of, POOLS, {}, existing or ObservedState())


@pytest.mark.usefixtures("tickets")
def test_it_gets_what_the_pools_give() -> None:
    (ticket,) = wanted(by_tickets(headroom={"count": 2})).objects
    assert (ticket["metadata"]["name"], ticket["spec"]) == ("team-a", {"gpus": 6})


@pytest.mark.usefixtures("tickets")
def test_what_it_refuses_is_the_plans_refusal() -> None:
    (problem,) = wanted(by_tickets(queues={"a": 1, "b": 1})).problems
    assert (problem.code, problem.refused) == ("Refused", True)
    assert problem.sentence.endswith("keep one")


@pytest.mark.parametrize("engine", ["kueue", "volcano"])
def test_a_plan_that_comes_to_it_gives_back_what_it_had_elsewhere(tickets: Tickets, engine: str) -> None:
    before = standing(wanted(plan(engine=engine)).objects)
    found = wanted(by_tickets(), before)
    assert [change.document["kind"] for change in found.changes][-1] == "Ticket"
    after = applied(before, ChangeSet(changes=found.changes[:-1]))
    kueues = {text for each in after.cluster_queues.values() for text in nominals(each).values()}
    volcanos = {text for each in after.queues.values() for text in each["spec"]["deserved"].values()}
    assert kueues | volcanos <= {"0"}
    tickets.made["team-a"] = "research"
    back = wanted(plan(engine=engine), after)
    assert (back.changes[0].verb, back.changes[0].document["kind"]) == ("delete", "Ticket")


def test_what_a_deleted_plan_left_in_it_is_given_back(tickets: Tickets) -> None:
    tickets.made |= {"team-a": "research", "other": "lab"}
    (change,) = released("research", ObservedState()).changes
    assert (change.verb, change.document["metadata"]["name"]) == ("delete", "team-a")


def test_what_is_used_above_quota_in_it_is_drift(tickets: Tickets) -> None:
    tickets.made["team-a"] = "research"
    assert [(each.kind, each.code) for each in drift(ClusterState(POOLS))] == [("Ticket", "UseAboveQuota")]
