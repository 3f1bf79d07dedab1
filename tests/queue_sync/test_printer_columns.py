"""What `kubectl get quotaplan` shows: whether the numbers are right, and which they are."""

import re
from typing import Any

import pytest

from queue_sync.planning.changes import Problem
from queue_sync.planning.observed import ObservedState
from queue_sync.planning.plan_diff import desired_of
from queue_sync.status.plan_status import PassResult, status
from slicewise.api.crds import definitions
from slicewise.api.policy import QuotaPlan
from tests.queue_sync.scenes import exclusive, inventory, plan

SETTLED = inventory(exclusive("n1"), exclusive("n2"))
ONE_CORDONED = inventory(exclusive("n1"), exclusive("n2", cordoned=True))
REFUSED = Problem("research", "PoolTaken", "QuotaPlan older has the pool; take it out", refused=True)


def read(document: Any, path: str) -> str:
    """The value of a column: fields, and the condition of one type."""
    for condition, field in re.findall(r'\[\?\(@\.type=="(\w+)"\)\]|\.(\w+)', path):
        if condition:
            (document,) = [each for each in document if each["type"] == condition]
        else:
            document = document[field]
    return str(document)


def columns(of: QuotaPlan, result: PassResult, pools: Any) -> list[str]:
    """What stands in the columns that are shown without `-o wide`, but for the age."""
    found = {
        "spec": of.spec.model_dump(by_alias=True, mode="json"),
        "status": status(of, 1, result, pools, {}, ObservedState(), {}, "now"),
    }
    (version,) = definitions()["quotaplans.slicewise.io"]["spec"]["versions"]
    listed = [each for each in version["additionalPrinterColumns"] if not each.get("priority")]
    assert [each["name"] for each in listed] == ["Mode", "Ready", "Reason", "Counted", "Quota", "Age"]
    return [read(found, each["jsonPath"]) for each in listed[:-1]]


@pytest.mark.parametrize(
    ("spec", "waiting", "reason", "pools", "shown"),
    [
        ({}, "", "Synced", SETTLED, ["write", "True", "Ready", "16 gpu", "12 gpu"]),
        ({}, "", "Synced", ONE_CORDONED, ["write", "True", "HeldBack", "8 gpu", "4 gpu"]),
        (
            {"mode": "report"},
            "it would change two queues",
            "ReportOnly",
            SETTLED,
            ["report", "True", "ReportOnly", "16 gpu", "12 gpu"],
        ),
        ({}, "a write failed", "WriteFailed", SETTLED, ["write", "False", "WriteFailed", "16 gpu", "12 gpu"]),
        (
            {"suspend": True},
            "nothing is written",
            "Suspended",
            SETTLED,
            ["write", "False", "Suspended", "16 gpu", "12 gpu"],
        ),
    ],
)
def test_the_columns_say_whether_the_numbers_are_right(
    spec: dict[str, Any], waiting: str, reason: str, pools: Any, shown: list[str]
) -> None:
    of = plan(headroom={"count": 4}, **spec)
    assigned = desired_of(of, pools, {}, ObservedState()).assigned
    assert columns(of, PassResult((), assigned, waiting, reason), pools) == shown


def test_of_a_plan_that_is_refused_they_say_why() -> None:
    refused = columns(plan(), PassResult((REFUSED,), {}, REFUSED.sentence, "Refused"), SETTLED)
    assert refused == ["write", "False", "PoolTaken", "16 gpu", "0"]
