"""An engine is a row: what planning asks of Kueue and Volcano it asks of a third in the same words."""

from collections.abc import Collection, Container, Iterator, Mapping, MutableMapping
from typing import Any, cast

import pytest
from msgspec import Struct

from queue_sync.planning.changes import Change, ChangeSet, Key, key_of, kind_and_name
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.drift import drift
from queue_sync.planning.engine import ChangeSetBuilder, PlanInputs, QueueEngine
from queue_sync.planning.engines import ENGINES, engine_of
from queue_sync.planning.findings import Finding
from queue_sync.planning.left_over import left_over
from queue_sync.planning.observed import Object, ObservedState
from queue_sync.planning.overcommit import unbacked_by_plan
from queue_sync.planning.ownership import Owned, RefusalError, metadata
from queue_sync.planning.plan_diff import desired_of, released
from queue_sync.planning.quota import LeftOver, Limit, Numbers, Promise, QuotaCache
from queue_sync.planning.quota_breakdown import quota_breakdowns
from queue_sync.planning.quota_changes import Basis, Causes, quota_changes
from queue_sync.planning.shrink import shrunk
from queue_sync.planning.steps import Steps
from queue_sync.planning.work import Work
from queue_sync.status.plan_status import PassResult, status
from slicewise.api import keys
from slicewise.api.policy import PlanSpec, QuotaPlan
from slicewise.inventory.pools import Inventory
from slicewise.kube.object_types import (
    CLUSTER_QUEUE,
    COHORT,
    FLAVOR,
    OBJECT_TYPES,
    VOLCANO_QUEUE,
    ObjectType,
    kind_of,
)
from tests.queue_sync.scenes import GPU, exclusive, inventory, plan
from tests.queue_sync.test_plan import applied, nominals, standing

POOLS = inventory(exclusive("n"))
WHOLE = "h100-80gb-exclusive"


TICKET = ObjectType("tickets.example/v1", "Queue", "queues", Struct)
"""Volcano's are called Queues, too."""


class Tickets:
    """Hands out a ticket a GPU, and keeps what it made in a list of its own."""

    QUEUE = TICKET
    BY_FLAVOR = IN_NAMESPACES = False
    SCHEDULER, STAY = "inspector", "send the inspector elsewhere"

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def check(self, inputs: PlanInputs, /) -> None:
        if len(inputs.plan.spec.queues) > 1:
            raise RefusalError(f"QuotaPlan {inputs.plan.name} has two queues, and tickets know one; keep one")

    def desired(self, inputs: PlanInputs, /) -> Steps[ChangeSet]:
        yield
        work = ChangeSetBuilder(inputs)
        (queue,) = inputs.plan.spec.queues
        ticket = self._ticket(queue.name, work.parts[WHOLE][GPU][queue.name])
        work.take(None, ticket, ticket)
        return work.result_so_far()

    def release(self, plan: str, _: ObservedState, /) -> ChangeSet:
        mine = [
            {"apiVersion": TICKET.api_version, "kind": TICKET.kind, "metadata": {"name": name}}
            for name, of in self.made.items()
            if of == plan
        ]
        return ChangeSet(changes=tuple(Change(plan, ticket, None) for ticket in mine))

    def shrink(
        self, plan: str, limit: Limit, pools: Collection[str], _: ObservedState, /
    ) -> Iterator[Change]:
        most = sum(limit(pool, GPU) for pool in pools)
        for name, of in self.made.items():
            ticket = self._ticket(name, 8)
            if of == plan and most < 8:
                yield Change(plan, ticket, self._ticket(name, most))

    def hint(self, _: str, /) -> str:
        return ""

    def concerns(self, document: Object, _: PlanSpec, /) -> bool:
        return kind_of(document) == TICKET.name

    def names(self, _: Object, /) -> frozenset[Key]:
        return frozenset()

    def queues(self, _: ObservedState, /) -> Mapping[str, Object]:
        return {name: self._ticket(name, 8) for name in self.made}

    def numbers(self, queue: Object, /) -> Numbers:
        return {("", GPU): queue["spec"]["gpus"]}

    allowed = numbers

    def limits(self, *_: object) -> dict[str, str]:
        return {}

    def withhold(self, before: Object | None, after: Object, _: Numbers, /) -> Object:
        return after if before is None else before

    def left_over(self, _: ObservedState, plans: Container[str], /) -> Iterator[LeftOver]:
        for name, of in self.made.items():
            if of not in plans:
                yield LeftOver(self.QUEUE.kind, name, of, "", GPU, 8)

    def promises(
        self, _: ObservedState, __: object, pools: Inventory, ___: QuotaCache, /
    ) -> Iterator[Promise]:
        offered = sum(pool.resources[GPU].quantity for pool in pools)
        for name in self.made:
            sentence = f"Ticket {name} promises 8 {GPU}, the nodes offer {offered}; tear it"
            yield Promise(
                "tickets", GPU, (), (), (name,), 8, offered, (self.QUEUE.kind, name), sentence, by_name=True
            )

    def in_use(
        self, queues: Collection[str], _: ObservedState, /
    ) -> Mapping[tuple[str, str, str], tuple[int, int]]:
        return {(name, "", GPU): (3, 2) for name in queues if name in self.made}

    def below_use(self, change: Change, _: ObservedState, /) -> Iterator[str]:
        yield f"Ticket {change.document['metadata']['name']} is used by more; wait"

    def usage(self, _: ClusterState, /) -> Iterator[Finding]:
        for name in self.made:
            yield Finding(self.QUEUE.kind, "", name, "UseAboveQuota", f"Ticket {name} is used twice; wait")

    def knows(self, work: Work, /) -> bool:
        return any("ticket" in document["metadata"]["labels"] for document in work.documents)

    def slipped(self, _: ClusterState, /) -> Iterator[Finding]:
        return iter(())

    def _ticket(self, name: str, gpus: int) -> Object:
        mine = Owned(frozenset(), frozenset({GPU}), frozenset({GPU}))
        described = metadata(self.made.get(name, ""), name)
        described["annotations"][keys.OWNED] = mine.text()
        return {
            "apiVersion": TICKET.api_version,
            "kind": TICKET.kind,
            "metadata": described,
            "spec": {"gpus": gpus},
        }


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
    assert kind_of(found.changes[-1].document) == TICKET.name
    after = applied(before, ChangeSet(changes=found.changes[:-1]))
    kueues = {text for each in after.cluster_queues.values() for text in nominals(each).values()}
    volcanos = {text for each in after.queues.values() for text in each["spec"]["deserved"].values()}
    assert kueues | volcanos <= {"0"}
    tickets.made["team-a"] = "research"
    back = wanted(plan(engine=engine), after)
    assert (back.changes[0].verb, kind_of(back.changes[0].document)) == ("delete", TICKET.name)


def test_what_a_deleted_plan_left_in_it_is_given_back(tickets: Tickets) -> None:
    tickets.made |= {"team-a": "research", "other": "lab"}
    (change,) = released("research", ObservedState()).changes
    assert (change.verb, change.document["metadata"]["name"]) == ("delete", "team-a")


def test_what_is_used_above_quota_in_it_is_drift(tickets: Tickets) -> None:
    tickets.made["team-a"] = "research"
    assert [(each.kind, each.code) for each in drift(ClusterState(POOLS, nodes_read=True))] == [
        ("Queue", "UseAboveQuota")
    ]


def test_what_it_promises_beyond_the_nodes_is_drift_and_the_plans_condition(tickets: Tickets) -> None:
    tickets.made |= {"team-a": "research", "team-b": "research"}
    one = inventory(exclusive("n", 4))
    codes = [each.code for each in drift(ClusterState(one, nodes_read=True)) if each.kind == "Queue"]
    assert codes.count("QuotaWithoutNodes") == 2
    assert unbacked_by_plan(ObservedState(), [by_tickets()], one)["research"][0].endswith("tear it")


def test_what_a_plan_that_is_gone_left_in_it_is_counted_against_the_next(tickets: Tickets) -> None:
    tickets.made["old"] = "former"
    left = ObservedState(plans={"research": None})
    assert [each.queue for each in left_over(left)] == ["old"]
    found = desired_of(by_tickets(), inventory(exclusive("n"), exclusive("m")), {}, left)
    assert found.objects[-1]["spec"] == {"gpus": 8}
    assert [problem.code for problem in found.problems] == ["LeftOverQuota"]


def test_its_queues_are_none_of_another_engines_that_are_called_alike(tickets: Tickets) -> None:
    tickets.made["team-a"] = "former"
    left = ObservedState(plans={"research": None})
    found = desired_of(plan(engine="volcano"), inventory(exclusive("n"), exclusive("m")), {}, left)
    # What has no pool to be told by is not counted against a plan of another engine, adopted or not.
    assert [(each["apiVersion"], each["spec"]["deserved"]) for each in found.objects] == [
        ("scheduling.volcano.sh/v1beta1", {GPU: "16"})
    ]
    (ticket,) = tickets.queues(left).values()
    assert engine_of(ticket) is tickets
    (queue,) = found.objects
    assert engine_of(queue) is ENGINES["volcano"]
    assert key_of(ticket) != key_of(queue)
    assert kind_and_name(ticket) == kind_and_name(queue)


def test_a_plan_in_it_that_is_not_followed_shrinks(tickets: Tickets) -> None:
    tickets.made["team-a"] = "research"
    (change,) = shrunk("research", None, {}, (), inventory(exclusive("n", 4)), ObservedState()).changes
    assert change.after == {**change.document, "spec": {"gpus": 4}}
    (told,) = quota_changes(change, Causes(None, Basis({})))
    assert (told.flavor, told.resource, told.before, told.after) == ("", GPU, 8, 4)


def test_why_and_status_read_its_numbers(tickets: Tickets) -> None:
    tickets.made["team-a"] = "research"
    of = by_tickets()
    (breakdown,) = quota_breakdowns("team-a", ClusterState(POOLS, (of,), nodes_read=True), {})
    assert [(breakdown.kind, each.wanted, each.standing) for each in breakdown.numbers] == [("Queue", 8, 8)]
    found = status(of, 1, PassResult(), POOLS, {}, ObservedState(), {}, "now")
    assert (found["pools"][0]["reserved"], found["pools"][0]["used"]) == ({GPU: "3"}, {GPU: "2"})


@pytest.mark.usefixtures("tickets")
def test_what_it_places_on_nodes_of_another_engine_is_drift() -> None:
    asks = [{"name": "main", "resources": {"limits": {GPU: "1"}}}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "a", "labels": {"ticket": "7"}},
        "spec": {"nodeName": "n", "schedulerName": "inspector", "containers": asks},
    }
    (found,) = drift(ClusterState(POOLS, (plan(),), pods=(pod,), nodes_read=True))
    assert found.code == "OnOtherEnginesNodes"
    assert found.sentence == (
        f"Pod a/p is Tickets's and runs on n of pool {WHOLE}, given by a plan to Kueue, which hands the same boards "
        "out again; send the inspector elsewhere"
    )
    assert drift(ClusterState(POOLS, (by_tickets(),), pods=(pod,), nodes_read=True)) == []


@pytest.mark.parametrize(
    ("kind", "name", "spec", "engine", "concerned"),
    [
        (OBJECT_TYPES[CLUSTER_QUEUE], "team-a", {}, "kueue", True),
        (OBJECT_TYPES[CLUSTER_QUEUE], "team-b", {}, "kueue", False),
        (OBJECT_TYPES[COHORT], "research", {}, "kueue", True),
        (OBJECT_TYPES[COHORT], "other", {}, "kueue", False),
        (OBJECT_TYPES[FLAVOR], WHOLE, {}, "kueue", True),
        (OBJECT_TYPES[FLAVOR], "t4-exclusive", {}, "kueue", False),
        (OBJECT_TYPES[VOLCANO_QUEUE], "team-a", {}, "kueue", False),
        (OBJECT_TYPES[VOLCANO_QUEUE], "team-a", {}, "volcano", True),
        (OBJECT_TYPES[VOLCANO_QUEUE], "research", {}, "volcano", True),
        (OBJECT_TYPES[VOLCANO_QUEUE], "team-b", {"parent": "research"}, "volcano", True),
        (OBJECT_TYPES[VOLCANO_QUEUE], "team-b", {"parent": "root"}, "volcano", False),
        (OBJECT_TYPES[VOLCANO_QUEUE], "team-b", {}, "volcano", False),
        (OBJECT_TYPES[CLUSTER_QUEUE], "team-a", {}, "volcano", False),
        (TICKET, "team-a", {}, "volcano", False),
    ],
)
def test_a_plan_is_looked_at_when_an_object_changes_that_it_writes_or_depends_on(
    kind: ObjectType, name: str, spec: dict[str, Any], engine: str, *, concerned: bool
) -> None:
    of = plan(engine=engine, cohort="research", pools={"matchNames": ["h100-*"]})
    document = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}
    assert ENGINES[of.spec.engine].concerns(document, of.spec) is concerned
