"""Any pod, and any template of kinds that keep theirs in different ways, as Hypothesis makes them up."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

from slicewise.api import keys
from slicewise.api.quantities import count
from tests.admission.building import GPU, Object, deployment, notebook, pod, pod_spec, policy

VISIBLE = "NVIDIA_VISIBLE_DEVICES"
TOLERATION = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
POOL = "h100-80gb-exclusive"
OWN = {"key": "zone", "operator": "DoesNotExist"}
FIELD = {"key": "metadata.name", "operator": "In", "values": ["whole-0"]}
PREFERRED = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}
TEAM = {"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"}


def steering(*pools: str) -> Object:
    return {"key": keys.POOL, "operator": "In", "values": list(pools)}


def affinity(*terms: Object) -> Object:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}


AMOUNTS = st.sampled_from([0, 1, 2, 3, "0", "1", "2", "1000m", "2e0", "+1", "1k", "3.0"])
MORE: st.SearchStrategy[Object] = st.sampled_from(
    [{}, {"cpu": 1}, {"memory": "1Gi", "cpu": "500m"}, {"amd.com/gpu": 1}]
)


@st.composite
def resources(draw: st.DrawFn) -> Object:
    amount = {GPU: draw(AMOUNTS)}
    both = {"limits": {**amount, **draw(MORE)}, "requests": {**amount, **draw(MORE)}}
    return draw(
        st.sampled_from(
            [
                {},
                {"resources": {}},
                {"resources": None},
                {"resources": {"limits": draw(MORE)}},
                {"resources": {"limits": both["limits"]}},
                {"resources": {"limits": both["limits"], "requests": draw(MORE)}},
                {"resources": both},
                {"resources": both},
            ]
        )
    )


ENV: st.SearchStrategy[Object] = st.sampled_from(
    [{}, {"env": []}, {"env": None}, {"env": [{"name": "A"}]}, {"env": [{"name": VISIBLE, "value": "none"}]}]
)
TERMS: st.SearchStrategy[Object] = st.sampled_from(
    [
        {},
        {"matchExpressions": [OWN]},
        {"matchExpressions": []},
        {"matchFields": [FIELD]},
        {"matchExpressions": [OWN], "matchFields": [FIELD]},
        {"matchExpressions": [{"key": keys.POOL, "operator": "Exists"}]},
        {"matchExpressions": [steering(POOL, "l4-mps-x8", "a10-time-slicing-x4")]},
    ]
)
AFFINITY: st.SearchStrategy[Object] = st.one_of(
    st.just({}),
    st.sampled_from([{"affinity": None}, {"affinity": {}}, {"affinity": {"podAffinity": {}}}]),
    st.just({"affinity": {"nodeAffinity": PREFERRED}}),
    st.lists(TERMS, min_size=1, max_size=3).map(lambda terms: {"affinity": affinity(*terms)}),
)
TOLERATIONS: st.SearchStrategy[Object] = st.sampled_from(
    [{}, {"tolerations": []}, {"tolerations": None}, {"tolerations": [TEAM]}, {"tolerations": [TOLERATION]}]
)
METADATA: st.SearchStrategy[Object] = st.sampled_from(
    [{}, {"labels": None}, {"annotations": {}}, {"annotations": {"x": "y"}, "finalizers": ["a/b"]}]
)
CLASSES = st.sampled_from(
    [None, "inference", "notebook", "batch-inference", "training", "tuning", "guest", "lab"]
)
POLICY = policy(
    {
        "training": {"strategy": "exclusive"},
        "inference": {"strategy": "mig", "otherwise": ["exclusive"]},
        "notebook": {"strategy": "time-slicing", "multiGPU": "whole", "otherwise": ["mig"]},
        "batch-inference": {"strategy": "mps", "size": {"memory": "2Gi"}, "otherwise": ["mig"]},
        "tuning": {"strategy": "mig", "multiGPU": "each", "size": {"memory": "12Gi"}},
        "guest": {"strategy": "vgpu"},
        "lab": {"strategy": "time-slicing", "multiGPU": "one"},
    }
)
FLEETS = st.sampled_from(
    [("mixed", "whole"), ("h100-both", "time", "mps"), ("single", "partly", "time-renamed", "vgpu"), ()]
)


@st.composite
def items(draw: st.DrawFn) -> Object:
    """Any pod, and any template of two kinds that keep theirs in different ways."""

    def containers(prefix: str, least: int, most: int) -> list[Object]:
        return [
            {"name": f"{prefix}{index}", **draw(resources()), **draw(ENV), "x": index}
            for index in range(draw(st.integers(least, most)))
        ]

    class_name = draw(CLASSES)
    metadata = deepcopy(draw(METADATA))
    if class_name:
        metadata["labels"] = {keys.WORKLOAD_CLASS: class_name}
    fields = {**draw(AFFINITY), **draw(TOLERATIONS)}
    if draw(st.booleans()):
        fields["initContainers"] = containers("init", 0, 2)
    build = draw(st.sampled_from([pod, deployment, notebook]))
    item: Object = build(metadata=metadata)
    spec = pod_spec(item)
    spec.update(fields, containers=containers("main", 1, 3), unknown={"kept": True})
    unshared: Object = json.loads(json.dumps(item))
    return unshared


def all_containers(item: Object) -> Iterator[Object]:
    spec = pod_spec(item)
    yield from spec.get("containers") or []
    yield from spec.get("initContainers") or []


def asked(item: Object) -> dict[str, int]:
    found = {}
    for each in all_containers(item):
        amounts = [a for a in (each.get("resources") or {}).values() if a and GPU in a]
        if amounts and count(amounts[0][GPU]):
            found[each["name"]] = count(amounts[0][GPU])
    return found


def prune(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: prune(each) for key, each in value.items()}
        return {key: each for key, each in kept.items() if each not in ({}, [], None)}
    if isinstance(value, list):
        return [each for each in map(prune, value) if each not in ({}, [], None)]
    return value
