"""What an answer takes grows as the object does, and not as its square: the API server waits for it."""

import json
import sys
from collections.abc import Callable
from typing import Final

import msgspec
import pytest

from admission.decision.cluster_state import ClusterState
from admission.decision.gpu_requests import containers, unlimited
from admission.decision.manifest import Manifests
from admission.decision.model import GpuRequest
from admission.mutating import answer
from admission.mutation.context import MutationContext
from admission.mutation.model import Gate
from admission.workloads.decoder import Templates
from admission.workloads.model import Container, Resources
from slicewise.api import keys
from slicewise.api.policy import QuotaPlan
from tests.admission.building import GPU, SLICE, Object, pod, request, spec_of, world
from tests.admission.test_engines import DIVIDED, known
from tests.admission.test_joining import custom, wrapped

FEW: Final = 8
NO_GPU: Final = Container("main")


def job_set(number: int) -> Object:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"template": {"spec": spec_of()}}}
    jobs = [{"name": f"job-{index}", "template": template} for index in range(number)]
    return custom("jobset.x-k8s.io/v1alpha2", "JobSet", {"replicatedJobs": jobs})


def wrapper(number: int) -> Object:
    inner = custom("batch/v1", "Job", {"template": {"spec": spec_of()}})
    return {**wrapped(inner), "spec": {"components": [{"template": inner}] * number}}


def trainings(number: int) -> Object:
    asked = {"resourcesPerNode": {"limits": {"nvidia.com/gpu": 1}}}
    inner = custom(
        "trainer.kubeflow.org/v1alpha1", "TrainJob", {"runtimeRef": {"name": "x"}, "trainer": asked}
    )
    return {**wrapped(inner), "spec": {"components": [{"template": inner}] * number}}


def volcano_job(number: int) -> Object:
    tasks = [{"name": f"task-{index}", "template": {"spec": spec_of()}} for index in range(number)]
    return custom("batch.volcano.sh/v1alpha1", "Job", {"tasks": tasks})


def calls(state: ClusterState, item: Object, old: Object | None = None) -> int:
    """How many functions an answer calls."""
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request(item, old)}
    text, found = json.dumps(body).encode(), 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal found
        found += event == "call"

    sys.setprofile(count)
    try:
        answered = answer(text, state)
    finally:
        sys.setprofile(None)
    assert json.loads(answered.body)["response"]["allowed"], answered.body
    return found


def assert_linear(state: ClusterState, kind: Callable[[int], Object]) -> None:
    """Asserts that twice as much again takes twice as much again: it is four times as much where it is squared."""
    calls(state, kind(1))  # fills what is kept between answers
    few, twice, more = (calls(state, kind(FEW * times)) for times in (1, 2, 4))
    assert more - twice < 2.5 * (twice - few)


@pytest.mark.parametrize("plans", [(), DIVIDED], ids=["whole", "divided"])
@pytest.mark.parametrize("engine", ["kueue", "volcano"])
@pytest.mark.parametrize("kind", [job_set, wrapper, trainings, volcano_job])
def test_queues_are_looked_for_once(
    kind: Callable[[int], Object], engine: str, plans: tuple[QuotaPlan, ...]
) -> None:
    assert_linear(known(*plans, engine=engine, queue="theirs"), kind)


def test_what_was_applied_is_read_once() -> None:
    item = job_set(FEW)
    applied = json.dumps(item)
    item["metadata"]["annotations"] = {keys.LAST_APPLIED: applied}
    raw, old = json.dumps(item).encode(), json.dumps(job_set(FEW)).encode()
    reader = Templates().reader("jobset.x-k8s.io", "JobSet")
    assert reader is not None
    workload, found = reader.read(raw, "team"), 0

    def count(_: object, event: str, function: object) -> None:
        nonlocal found
        found += event == "c_call" and function is msgspec.json.decode

    manifests = Manifests(raw, old)
    sys.setprofile(count)
    try:
        silent = [manifests.leaves_out(f"{each.pointer}/metadata/annotations") for each in workload.templates]
        asked = [
            manifests.asks(template, pointer, bare, None, SLICE)
            for template in workload.templates
            for pointer, bare in containers(msgspec.structs.replace(template.spec, containers=[NO_GPU]))
        ]
    finally:
        sys.setprofile(None)
    assert silent == [True] * FEW
    assert asked == [{GPU: 1}] * FEW
    assert found == 1


class Word(str):
    """One that counts how often any is held against another that is not the same."""

    compared = 0
    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Word.compared += 1
        return str.__eq__(self, other)


def test_thousands_of_names_in_one_container_are_not_held_against_each_other() -> None:
    names: list[str] = [Word(f"nvidia.com/mig-1g.{number}gb") for number in range(1000)]
    amounts, limits = dict.fromkeys(names, 1), {names[0]: 1}
    asked = GpuRequest("/containers/0", Container("main", Resources(amounts, limits)), 0, amounts)
    Word.compared = 0
    assert unlimited(asked) == names[1:]
    assert Word.compared < 2 * len(names)


def test_thousands_of_warnings_are_not_held_against_each_other() -> None:
    reader = Templates().reader("", "Pod")
    assert reader is not None
    context = MutationContext(reader.read(json.dumps(pod()).encode(), "team"), None, Gate(), world())
    said = [Word(f"{number}") for number in range(1000)]
    Word.compared = 0
    context.warn(*said)
    context.warn(*said)
    assert Word.compared < 2 * len(said)
    assert context.warnings == said
