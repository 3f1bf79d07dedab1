"""Every kind of the table on a real API server: what comes out is what the webhook's functions say, and stays so.

Custom resources get a definition that keeps whatever they hold, so that nothing but the webhook changes them; the
kinds' own definitions, controllers and defaults are not here. The manifests are those of the unit tests.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonpatch
import msgspec
import pytest

from admission.judgement.decide import Refusal
from admission.judgement.workloads import judge
from admission.judgement.world import World
from admission.kinds.rows import Kind
from admission.kinds.table import TABLE
from admission.kinds.templates import Templates
from e2e import nodes
from e2e.client import Object, Response, eventually
from e2e.cluster import AnyCluster, Cluster
from e2e.installation import Installation, namespace
from slicewise.nodes.projection import Node
from slicewise.policy import read_policy
from slicewise.pools import Inventory
from tests.admission.building import Object as Manifest
from tests.admission.kinds import NAMES, manifest

SPACE = "kinds"
BUILT_IN = frozenset({"core", "apps", "batch"})
CUSTOM = [name for name in NAMES if name.partition("_")[0] not in BUILT_IN]
POLICY: Object = {
    "apiVersion": "slicewise.io/v1alpha1",
    "kind": "SlicingPolicy",
    "metadata": {"name": "kinds"},
    "spec": {
        "defaultClass": "only",
        "classes": {"only": {"strategy": "mig"}, "whole": {"strategy": "exclusive"}},
    },
}
KINDS = {(kind.group, kind.kind): kind for kind in TABLE}


@pytest.fixture(scope="module")
def slicewise(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Slicewise on a cluster that knows every kind, with slices and a policy that gives them."""
    request.getfixturevalue("programs")
    with Cluster() as cluster:
        cluster.apply([definition(manifest(name)) for name in CUSTOM])
        found = Installation(cluster, tmp_path_factory.mktemp("kinds"))
        found.start()
        try:
            nodes.add(cluster, nodes.mig_mixed("kinds", {"1g.10gb": 7}, gpus=1))
            cluster.apply(POLICY)
            namespace(cluster, SPACE, policy="kinds")
            probe = submitted("ray.io_RayCluster")
            eventually(
                lambda: "slicewise.io/decision" in created(cluster, probe).body["metadata"]["annotations"],
                30,
                "every replica knows its world",
            )
            yield found
        finally:
            found.stop()


def table_row(item: Manifest) -> Kind | None:
    return KINDS.get((item["apiVersion"].rpartition("/")[0], item["kind"]))


def definition(item: Manifest) -> Object:
    """A definition of the manifest's kind that keeps whatever it holds."""
    group, _, version = item["apiVersion"].rpartition("/")
    row = table_row(item)
    plural = row.resource if row is not None and row.resource else item["kind"].lower() + "s"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"kind": item["kind"], "plural": plural, "singular": item["kind"].lower()}
    metadata: Object = {"name": f"{plural}.{group}"}
    if group.endswith("k8s.io"):  # a protected name; it is the kind's own, under its own approval
        metadata["annotations"] = {"api-approved.kubernetes.io": "unapproved, for tests"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": group,
            "names": names,
            "scope": "Namespaced" if row is None or row.namespaced else "Cluster",
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


def submitted(name: str) -> Object:
    """The manifest as somebody submits it here."""
    item = manifest(name)
    item["metadata"]["name"] = (
        item["metadata"].pop("generateName", item["metadata"].get("name", "")).strip("-")
    )
    row = table_row(item)
    if row is None or row.namespaced:
        item["metadata"]["namespace"] = SPACE
    else:
        item["metadata"].pop("namespace", None)
    return item


def created(cluster: AnyCluster, item: Object, *, dry_run: bool = True) -> Response:
    answer = cluster.try_create(copy.deepcopy(item), dry_run=dry_run)
    if answer.status == 201 and "annotations" not in answer.body["metadata"]:
        answer.body["metadata"]["annotations"] = {}
    return answer


def world(cluster: AnyCluster) -> World:
    """What the webhook knows."""
    spaces = {
        each["metadata"]["name"]: each["metadata"].get("labels", {})
        for each in cluster.list("v1", "Namespace")
    }
    policy = read_policy(POLICY)
    known = Inventory(msgspec.convert(each, Node) for each in cluster.list("v1", "Node"))
    return World(spaces, {policy.name: policy}, known)


def expected(cluster: AnyCluster, item: Object) -> Object | str:
    """The object as the webhook's functions leave it, or the sentence with which they refuse it."""
    group = item["apiVersion"].rpartition("/")[0]
    reader = Templates().reader(group, item["kind"])
    if reader is None:
        return item
    try:
        outcome = judge(reader, json.dumps(item).encode(), None, SPACE, world(cluster))
    except Refusal as refusal:
        return str(refusal)
    patched: Object = jsonpatch.apply_patch(copy.deepcopy(item), outcome.operations)
    return patched


def meant(item: Object) -> Any:
    """What of an object is people's and ours, not the server's."""
    return {key: value for key, value in item.items() if key not in {"metadata", "status"}}


@pytest.mark.parametrize("name", CUSTOM)
def test_what_is_stored_is_what_the_functions_say_and_applying_again_changes_nothing(
    slicewise: Installation, name: str
) -> None:
    cluster, item = slicewise.cluster, submitted(name)
    wanted = expected(cluster, item)
    answer = created(cluster, item, dry_run=False)
    if isinstance(wanted, str):
        assert answer.status == 403
        assert wanted in answer.message
        return
    assert answer.status == 201, answer.message
    first = answer.body
    assert meant(first) == meant(wanted)
    assert first["metadata"]["annotations"] == wanted["metadata"].get("annotations", {})

    space = first["metadata"].get("namespace")
    path = cluster.path(item["apiVersion"], item["kind"], item["metadata"]["name"], space)
    for content, query in (
        ("application/merge-patch+json", {}),
        ("application/apply-patch+yaml", {"fieldManager": "gitops", "force": "true"}),
    ):
        again = cluster.request("PATCH", path, item, content, query)
        assert again.status == 200, again.message
        assert meant(again.body) == meant(first)
        assert again.body["metadata"].get("annotations", {}) == first["metadata"]["annotations"]
        assert again.body["metadata"]["generation"] == first["metadata"]["generation"]
