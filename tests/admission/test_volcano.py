"""What is Volcano's alone: what it counts, the queue that its CRDs fill in, and devices that it shares itself."""

import json
from copy import deepcopy
from typing import Any, Final

import pytest

from slicewise.api import keys
from tests.admission.building import (
    GPU,
    SLICE,
    Object,
    asking,
    container,
    created,
    pod,
    review,
    spec_of,
    world,
)

VOLCANO: Final = {keys.ENGINE: "volcano", keys.QUEUE: "gpus", keys.WORKLOAD_CLASS: "inference"}
APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


def vcjob(*containers: Object, queue: str | None = None, **metadata: Any) -> Object:
    """A vcjob as it comes to the webhook: its CRD has filled in the queue."""
    template = {"spec": spec_of(*containers)}
    return {
        "apiVersion": "batch.volcano.sh/v1alpha1",
        "kind": "Job",
        "metadata": {"name": "gang", "namespace": "team", **metadata},
        "spec": {
            "queue": queue or "default",
            "minAvailable": 4,
            "tasks": [{"name": "worker", "replicas": 4, "template": template}],
        },
    }


def resources(item: Object) -> Object:
    found: Object = item["spec"]["tasks"][0]["template"]["spec"]["containers"][0]["resources"]
    return found


def test_volcano_counts_requests_so_a_limit_alone_gets_one() -> None:
    made = created(world("mixed", "whole", labels=VOLCANO), vcjob())
    assert resources(made) == {"limits": {SLICE: "1"}, "requests": {SLICE: "1"}}


@pytest.mark.parametrize("requests", [{}, {"cpu": "1"}, {GPU: "2"}], ids=str)
def test_other_requests_stay_and_whole_boards_are_counted_too(requests: dict[str, str]) -> None:
    sent = container(resources={"limits": {GPU: "2"}, "requests": requests})
    labels = {**VOLCANO, keys.WORKLOAD_CLASS: "training"}
    made = created(world("mixed", "whole", labels=labels), vcjob(sent))
    assert resources(made) == {"limits": {GPU: "2"}, "requests": {**requests, GPU: "2"}}


def test_applying_the_same_manifest_again_changes_nothing_that_volcano_would_refuse() -> None:
    cluster = world("mixed", "whole", labels=VOLCANO)
    made = created(cluster, vcjob())
    again = review(cluster, vcjob(), made)
    assert again.item["spec"] == made["spec"]
    assert review(cluster, deepcopy(made), made).operations == []


def test_kueue_and_kubernetes_count_limits_so_other_kinds_get_no_request() -> None:
    made = created(world("mixed", "whole", labels=VOLCANO), pod())
    assert made["spec"]["containers"][0]["resources"] == {"limits": {SLICE: "1"}}


@pytest.mark.parametrize(
    ("metadata", "queue"),
    [
        ({}, "gpus"),
        ({"annotations": {APPLIED: json.dumps({"spec": {"queue": "default"}})}}, "default"),
        ({"annotations": {APPLIED: json.dumps({"spec": {"minAvailable": 4}})}}, "gpus"),
        ({"annotations": {APPLIED: "{"}}, "gpus"),
        ({"annotations": {APPLIED: "[]"}}, "gpus"),
        ({"managedFields": [{"operation": "Apply", "fieldsV1": {"f:spec": {"f:queue": {}}}}]}, "default"),
        ({"managedFields": [{"operation": "Apply", "fieldsV1": {"f:spec": {"f:tasks": {}}}}]}, "gpus"),
        ({"managedFields": [{"operation": "Update", "fieldsV1": {"f:spec": {"f:queue": {}}}}]}, "gpus"),
        ({"managedFields": [{"operation": "Apply", "fieldsV1": "?"}, 1]}, "gpus"),
    ],
    ids=["create", "apply", "apply, unsaid", "text", "list", "ssa", "ssa, unsaid", "update", "odd"],
)
def test_a_default_that_was_meant_stays_where_the_client_tells(metadata: Object, queue: str) -> None:
    assert created(world("mixed", labels=VOLCANO), vcjob(**metadata))["spec"]["queue"] == queue


def test_an_explicit_queue_stays() -> None:
    assert created(world("mixed", labels=VOLCANO), vcjob(queue="other"))["spec"]["queue"] == "other"


@pytest.mark.parametrize(
    "amounts",
    [
        {"volcano.sh/vgpu-number": "1", "volcano.sh/vgpu-memory": "3000", "volcano.sh/vgpu-cores": "50"},
        {"volcano.sh/vgpu-memory-percentage": "50"},
        {"volcano.sh/gpu-memory": "1024"},
        {"volcano.sh/gpu-number": "1"},
        {"nvidia.com/gpumem": "3000", "nvidia.com/gpucores": "30"},
        {"huawei.com/Ascend910": "1"},
        {"amd.com/gpu": "1"},
        {"cambricon.com/mlunum": "1"},
        {"gpu.intel.com/i915": "1"},
    ],
    ids=lambda amounts: next(iter(amounts)),
)
@pytest.mark.parametrize("make", [vcjob, pod])
def test_devices_that_volcano_shares_itself_and_other_vendors_are_left_alone(
    make: Any, amounts: dict[str, str]
) -> None:
    sent = make(asking(amounts))
    answered = review(world("mixed", "whole", labels=VOLCANO), deepcopy(sent))
    assert answered.operations == []
    assert answered.warnings == []


def test_volcanos_sharing_beside_a_gpu_of_ours_stays() -> None:
    sent = asking({"volcano.sh/vgpu-number": "1"}, "shared")
    made = created(world("mixed", labels=VOLCANO), vcjob(container(), sent))
    containers = made["spec"]["tasks"][0]["template"]["spec"]["containers"]
    assert containers[1]["resources"] == sent["resources"]
    assert containers[0]["resources"]["limits"] == {SLICE: "1"}
