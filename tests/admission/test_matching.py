"""Items of lists are told by name: one that is put before another moves no decision."""

from collections.abc import Callable
from copy import deepcopy
from typing import Final

import pytest

from slicewise.api import keys
from tests.admission.building import GPU, SLICE, Object, created, review, world
from tests.admission.kinds import asked

Build = Callable[..., Object]


def template(gpus: int) -> Object:
    return {"containers": [{"name": "main", "image": "none", "resources": {"limits": {GPU: gpus}}}]}


def jobset(**jobs: int) -> Object:
    """Its templates keep the decision themselves."""
    items = [
        {"name": name, "template": {"spec": {"template": {"spec": template(n)}}}} for name, n in jobs.items()
    ]
    return whole("jobset.x-k8s.io/v1alpha2", "JobSet", {"replicatedJobs": items})


def cliques(**names: int) -> Object:
    """Its object alone keeps the decision."""
    items = [{"name": name, "spec": {"podSpec": template(n)}} for name, n in names.items()]
    return whole("grove.io/v1alpha1", "PodCliqueSet", {"template": {"cliques": items}})


def ray(**groups: int) -> Object:
    """Its items are told by another field."""
    items = [
        {"groupName": name, "replicas": 1, "template": {"spec": template(n)}} for name, n in groups.items()
    ]
    head = {"rayStartParams": {}, "template": {"spec": {"containers": [{"name": "head", "image": "none"}]}}}
    return whole("ray.io/v1", "RayCluster", {"headGroupSpec": head, "workerGroupSpecs": items})


def whole(version: str, kind: str, spec: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "team"}, "spec": spec}


BUILDS: Final = [jobset, cliques, ray]
BEFORE: Final = world("mixed", "whole", labels={keys.WORKLOAD_CLASS: "inference"})
LATER: Final = world("mixed", "whole", labels={keys.WORKLOAD_CLASS: "training"})


def given(item: Object) -> list[tuple[str, str]]:
    """What each template in turn asks for."""
    return [(name, number) for place, name, number in asked(item) if "limits" in place]


@pytest.mark.parametrize("build", BUILDS)
def test_one_that_is_put_before_moves_no_decision(build: Build) -> None:
    standing = created(BEFORE, build(one=1, two=2))
    assert given(standing) == [(SLICE, "1"), (GPU, "2")]
    answered = review(LATER, build(zero=3, one=1, two=2), standing)
    assert given(answered.item) == [(GPU, "3"), (SLICE, "1"), (GPU, "2")]
    # ... and what was recorded has moved with them.
    again = review(LATER, build(zero=3, one=1, two=2), answered.item)
    assert given(again.item) == given(answered.item)


@pytest.mark.parametrize("build", BUILDS)
def test_one_that_is_taken_away_moves_no_decision(build: Build) -> None:
    standing = created(BEFORE, build(zero=2, one=1))
    answered = review(LATER, build(one=1), standing)
    assert given(answered.item) == [(SLICE, "1")]
    assert given(review(LATER, build(one=1), answered.item).item) == [(SLICE, "1")]


@pytest.mark.parametrize("build", BUILDS)
def test_another_order_moves_no_decision(build: Build) -> None:
    standing = created(BEFORE, build(one=1, two=2))
    answered = review(LATER, build(two=2, one=1), standing)
    assert given(answered.item) == [(GPU, "2"), (SLICE, "1")]
    assert given(review(LATER, build(one=1, two=2), answered.item).item) == given(standing)


@pytest.mark.parametrize("build", BUILDS)
def test_another_name_is_a_new_one(build: Build) -> None:
    standing = created(BEFORE, build(one=1))
    assert given(review(LATER, build(other=1), standing).item) == [(GPU, "1")]


@pytest.mark.parametrize("name", [None, 7, ""])
def test_items_without_a_name_are_told_by_position(name: object) -> None:
    manifest = jobset(one=1, two=2)
    for item in manifest["spec"]["replicatedJobs"]:
        item["name"] = name
    standing = created(BEFORE, deepcopy(manifest))
    assert given(review(LATER, manifest, standing).item) == given(standing)
