"""What is left as it was asked, or given other than asked: counted by reason, and told to the owner."""

from typing import Any

import pytest

from admission.decision.cluster_state import ClusterState
from admission.decision.model import Deviation
from slicewise.api import keys
from tests.admission.building import (
    GPU,
    Object,
    annotated,
    asking,
    container,
    created,
    deployment,
    owned,
    pod,
    pod_of,
    policy,
    review,
    world,
)

SMALL = {"small": {"strategy": "mps"}}
LEAVING = policy(SMALL, whenNothingFits="leave")
ONE = policy({"small": {"strategy": "mig", "multiGPU": "one"}})


@pytest.mark.parametrize(
    ("state", "item", "deviation"),
    [
        (world("mixed"), pod(), ""),
        (world("mixed"), pod(container(gpus=None)), ""),
        (world("whole", policies=(policy(SMALL),)), pod(), ""),  # refused
        (world("mixed", labels={keys.MODE: "audit"}), pod(), Deviation.AUDIT),
        (world("mixed", policies=(policy(SMALL, rollout={"percent": 0}),)), pod(), Deviation.ROLLOUT),
        (world("mixed"), pod(metadata=annotated(rewrite="false")), Deviation.OPTED_OUT),
        (world("whole", policies=(LEAVING,)), pod(), Deviation.NOTHING_FITS),
        (world("mixed", policies=(ONE,)), pod(container(gpus=3)), Deviation.FEWER),
        (world("whole"), pod(asking({"nvidia.com/mig-2g.20gb": 1})), Deviation.OTHER),
        (world("whole"), pod(container(gpus="many")), Deviation.OTHER),
    ],
)
def test_every_object_that_is_not_given_what_it_asked_has_a_reason(
    state: ClusterState, item: Object, deviation: str
) -> None:
    assert review(state, item).raw.deviation == deviation


@pytest.mark.parametrize(
    ("state", "item"),
    [
        (world("whole", policies=(LEAVING,)), pod()),
        (world("mixed", labels={keys.MODE: "audit"}), pod()),
        (world("mixed", policies=(ONE,)), pod(container(gpus=3))),
        (world("whole"), pod(asking({"nvidia.com/mig-2g.20gb": 1}))),
    ],
)
def test_what_a_controllers_object_is_warned_of_is_for_its_owner(state: ClusterState, item: Object) -> None:
    answered = review(state, owned(item, "Job", "batch/v1"))
    assert (notice := answered.raw.notice) is not None
    assert (notice.owner.kind, notice.owner.name, notice.owner.uid) == ("Job", "owner", "1")
    assert (notice.namespace, notice.outcome) == ("team", answered.outcome)
    assert [warning[:200] for warning in notice.warnings] == [each[:200] for each in answered.warnings]


@pytest.mark.parametrize(
    ("item", "fields"),
    [
        (pod(), {}),  # nobody's: the person who sends it sees the warning
        (owned(pod(), "Job", "batch/v1"), {"dryRun": True}),
    ],
)
def test_nobody_else_is_told(item: Object, fields: dict[str, Any]) -> None:
    answered = review(world("whole", policies=(LEAVING,)), item, **fields)
    assert answered.warnings
    assert answered.raw.notice is None


def test_pods_of_what_was_decided_say_nothing() -> None:
    state = world("mixed", policies=(ONE,))
    made = created(state, deployment(container(gpus=3)))
    answered = review(state, pod_of(made))
    assert (answered.raw.deviation, answered.raw.notice) == ("", None)
    assert GPU not in str(answered.spec["containers"][0]["resources"])


def test_what_people_take_back_themselves_is_no_deviation() -> None:
    state = world("whole")
    live = created(state, deployment())
    now = {**live, "spec": deployment(container(gpus=None))["spec"]}
    answered = review(state, now, live)
    assert (answered.outcome, answered.raw.deviation, answered.warnings) == ("left", "", [])
