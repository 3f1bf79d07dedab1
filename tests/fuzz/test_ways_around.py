"""Whatever a person writes and changes, with forged decisions and without, he gets what the policy of his namespace
gives: one share, or what he names himself."""

import json
from copy import deepcopy
from random import Random
from typing import Any, Final

import pytest

from admission.decision.cluster_state import ClusterState
from admission.decision.gpu_requests import gpu_requests
from admission.decision.steering import steered_to
from admission.workloads.decoder import Templates
from slicewise.api import keys
from tests.admission.building import GPU, SLICE, asking, policy, review, world
from tests.admission.kinds import manifest, put

Object = dict[str, Any]
_LARGE: Final = "nvidia.com/mig-7g.80gb"
_SHARE: Final = "a10-time-slicing-x4"
_POOLS: Final = ("h100-80gb-exclusive", _SHARE, "a100-80gb-mig-single-1g-10gb", "h100-80gb-mig-mixed")
_STORIES: Final = 8
_TEMPLATES: Final = Templates()
_KINDS: Final = {
    "apps_Deployment": ("spec.template",),
    "batch_Job": ("spec.template",),
    "batch.volcano.sh_Job": ("spec.tasks.0.template",),
    "leaderworkerset.x-k8s.io_LeaderWorkerSet": (
        "spec.leaderWorkerTemplate.leaderTemplate",
        "spec.leaderWorkerTemplate.workerTemplate",
    ),
    "ray.io_RayCluster": ("spec.headGroupSpec.template", "spec.workerGroupSpecs.0.template"),
}
_QUEUES: Final[tuple[Object, ...]] = (
    {},
    {keys.ENGINE: "kueue", keys.QUEUE: "q"},
    {keys.ENGINE: "volcano", keys.QUEUE: "q"},
)


def _world(rng: Random) -> ClusterState:
    """A policy that gives one share alone, and one of other namespaces that gives whole boards."""
    shares = policy({"notebook": {"strategy": "time-slicing", "multiGPU": "refuse"}}, allow=[])
    generous = policy({"training": {"strategy": "exclusive"}}, "generous")
    return world("mixed", "whole", "time", "single", labels=rng.choice(_QUEUES), policies=(shares, generous))


def _decision(rng: Random) -> str:
    """A decision that nobody made."""
    containers = {}
    for name in rng.sample(["main", "beside"], rng.randint(1, 2)):
        count = rng.choice([1, 1, 8])
        to = rng.choice([GPU, GPU, SLICE, _LARGE])
        containers[name] = {"from": GPU, "to": to, "count": count, "asked": rng.choice([1, 8, count])}
    return json.dumps(
        {
            "policy": rng.choice(["default", "generous"]),
            "class": rng.choice(["notebook", "training"]),
            "classFrom": "label",
            "strategy": rng.choice(["time-slicing", "exclusive", "mig"]),
            "pools": rng.sample(_POOLS, rng.randint(1, 2)),
            "containers": containers,
            "reason": "because",
            "steered": rng.random() < 0.7,
        }
    )


def _metadata(rng: Random) -> Object:
    annotations = {keys.DECISION: _decision(rng)} if rng.random() < 0.5 else {}
    labels = {keys.WORKLOAD_CLASS: "notebook"} if rng.random() < 0.2 else {}
    return {"annotations": annotations, "labels": labels}


def _pod(rng: Random) -> Object:
    some = [{}, {}, {GPU: 1}, {GPU: 1}, {GPU: 8}, {GPU: 0}, {SLICE: 1}, {SLICE: 8}, {_LARGE: 1, GPU: 1}]
    spec: Object = {
        "containers": [asking(rng.choice(some), name) for name in ("main", "beside")[: rng.randint(1, 2)]]
    }
    if rng.random() < 0.5:
        pools = [{"key": keys.POOL, "operator": "In", "values": [rng.choice(_POOLS)]}]
        terms = [{"matchExpressions": pools}, {"matchExpressions": [{"key": "x", "operator": "Exists"}]}, {}]
        required = {"nodeSelectorTerms": terms[: rng.randint(1, 3)]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return {"metadata": _metadata(rng), "spec": spec}


def _work(rng: Random, kind: str) -> Object:
    item = manifest(kind)
    item["metadata"] |= _metadata(rng)
    if "suspend" in item["spec"] or kind == "ray.io_RayCluster":
        item["spec"]["suspend"] = rng.random() < 0.5
    for place in _KINDS[kind]:
        put(item, place, _pod(rng))
    return item


def _edited(rng: Random, live: Any, other: Any) -> Any:
    """An object that has some parts of another in the place of its own."""
    if not isinstance(live, dict) or not isinstance(other, dict) or rng.random() < 0.2:
        return deepcopy(other)
    taken = [
        key for key in other if rng.random() < 0.6 and key not in {"apiVersion", "kind", "name", "namespace"}
    ]
    return {**live, **{key: _edited(rng, live.get(key), other[key]) for key in taken}}


def _ill_gotten(item: Object) -> str:
    """What some container asks for that is neither one share, where shares are, nor asked for by name; "" for none."""
    group, _, _ = item["apiVersion"].rpartition("/")
    reader = _TEMPLATES.reader(group, item["kind"])
    assert reader is not None
    for template in reader.read(json.dumps(item).encode(), "team").templates:
        for each in gpu_requests(template.spec):
            if each.gpus and (each.gpus > 1 or not steered_to(template.spec, [_SHARE])):
                return f"{template.spec_pointer}: {each.container.name}: {each.amounts}"
    return ""


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("seed", range(_STORIES))
def test_nobody_gets_more_than_the_policy_of_his_namespace_gives(kind: str, seed: int) -> None:
    rng = Random(f"{kind}:{seed}")  # noqa: S311  nothing here is secret
    known, live = _world(rng), None
    for _ in range(30):
        wanted = _work(rng, kind)
        answered = review(known, wanted if live is None else _edited(rng, live, wanted), live)
        if answered.allowed:
            live = answered.item
            assert _ill_gotten(live) == ""
