"""An engine is a row: whatever stands in it is asked in the same words, and nothing else of the webhook knows it."""

from typing import cast

import pytest

from admission.engines import registry
from admission.mutation.draft import Draft
from admission.workloads.model import Template, Workload
from slicewise.api import keys
from slicewise.api.policy import Engine
from tests.admission.building import deployment, labelled, review, world

TICKET = "slicewise.io/ticket"
"""The label of an engine that there is not."""


class Tickets:
    """Queues what has its label."""

    def queues(self, workload: Workload) -> bool:
        return workload.metadata.label(TICKET) is not None

    def queues_template(self, _: Template) -> bool:
        return False

    def queue_of(self, workload: Workload) -> str:
        return workload.metadata.label(TICKET) or ""

    def queue_of_template(self, _: Template) -> str:
        return ""

    def has_started(self, _: Workload) -> bool:
        return False

    def join(self, draft: Draft, workload: Workload, queue: str) -> None:
        if workload.metadata.label(TICKET) is None:
            draft.label("", workload.metadata, TICKET, queue)

    def keep(self, draft: Draft, workload: Workload, old: Workload) -> None:
        if queue := old.metadata.label(TICKET):
            self.join(draft, workload, queue)

    def stays(self, _: Workload, __: object) -> str:
        return ""

    def pins(self, _: Workload, __: Workload) -> bool:
        return False


@pytest.fixture(autouse=True)
def tickets(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Volcano's row, for want of a third name in the API."""
    engine: registry.QueueEngine = Tickets()
    rows = cast("dict[Engine, registry.QueueEngine]", registry.ENGINES)
    monkeypatch.setitem(rows, Engine.VOLCANO, engine)


STATE = world("mixed", labels={keys.ENGINE: "volcano", keys.QUEUE: "idle"})


def test_new_work_joins_its_queue_and_stays_there() -> None:
    joined = review(STATE, deployment(metadata=labelled("inference"))).item
    assert joined["metadata"]["labels"][TICKET] == "idle"
    again = review(STATE, deployment(metadata=labelled("inference")), joined).item
    assert again["metadata"]["labels"][TICKET] == "idle"


def test_work_that_names_a_queue_keeps_it() -> None:
    mine = labelled("inference")
    mine["labels"][TICKET] = "mine"
    assert review(STATE, deployment(metadata=mine)).item["metadata"]["labels"][TICKET] == "mine"
