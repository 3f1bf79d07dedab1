"""Every kind of the table on a real API server: what comes out is what the webhook's functions say, and stays so.

A kind has the definition that its own project publishes (`schemas.py`), with its pruning, defaults and rules; where
none can be had from a registry, one that keeps whatever it is given. Controllers and webhooks of the kinds are not
here. The manifests are those of the unit tests.
"""

import copy
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jsonpatch
import msgspec
import pytest

from admission.decision.cluster_state import ClusterState
from admission.mutation.mutate import mutate
from admission.workloads.builtin_kinds import TABLE
from admission.workloads.decoder import Templates
from admission.workloads.kind import Kind
from e2e.harness import nodes, schemas
from e2e.harness.client import APPLY_PATCH, MERGE_PATCH, Object, Objects, Response, eventually
from e2e.harness.cluster import AnyCluster, Cluster, prepared
from e2e.harness.definitions import permissive, undescribed, without_status
from e2e.harness.installation import Installation, namespace
from slicewise.api.policy import read_policy
from slicewise.inventory.node import Node
from slicewise.inventory.pools import Inventory
from tests.admission.kinds import NAMES, at, manifest, put

# Taking in ten megabytes of definitions, once, is half a minute's work for an API server alone.
pytestmark = pytest.mark.timeout(600)

BUILT_IN = frozenset({"core", "apps", "batch"})
CUSTOM = [name for name in NAMES if name.partition("_")[0] not in BUILT_IN]
KINDS = {(kind.group, kind.kind): kind for kind in TABLE}
# Between them they make the webhook write all that it can: names of slices, steering, and what each engine reads.
SPACES = {
    "kinds": {"engine": "kueue", "queue": "team"},
    "kinds-steered": {"engine": "volcano", "queue": "team", "workload_class": "whole"},
}
PLAIN = "kinds-plain"
POLICY: Object = {
    "apiVersion": "slicewise.io/v1alpha1",
    "kind": "SlicingPolicy",
    "metadata": {"name": "kinds"},
    "spec": {
        "defaultClass": "only",
        "classes": {"only": {"strategy": "mig"}, "whole": {"strategy": "exclusive"}},
    },
}


def row(item: Object) -> Kind:
    return KINDS[item["apiVersion"].rpartition("/")[0], item["kind"]]


def has_schema(name: str) -> bool:
    """Whether the kind's own project publishes its definition: another keeps whatever it is given."""
    kind = row(manifest(name))
    return (kind.group, kind.kind) in schemas.published()


CASES = [
    (name, space)
    for space in SPACES
    for name in CUSTOM
    if space == "kinds" or (row(manifest(name)).namespaced and has_schema(name))
]


@pytest.fixture(scope="module")
def slicewise(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Slicewise on a cluster that knows every kind, with slices, whole boards and a policy that gives them."""
    request.getfixturevalue("programs")
    definitions = [definition(manifest(name)) for name in CUSTOM]
    key = json.dumps(definitions).encode()
    with Cluster(etcd=prepared("kinds", key, partial(define, definitions))) as cluster:
        found = Installation(cluster, tmp_path_factory.mktemp("kinds"), replicas=1)
        found.start()
        try:
            boards = nodes.mig_mixed("kinds-mig", {"1g.10gb": 7}, gpus=1), nodes.exclusive("kinds-whole")
            nodes.add(cluster, *boards)
            cluster.apply(POLICY)
            namespace(cluster, PLAIN)
            for space, labels in SPACES.items():
                namespace(cluster, space, policy="kinds", **labels)
            eventually(lambda: ready(cluster), "the replica knows its world")
            yield found
        finally:
            found.stop()


def definition(item: Object) -> Object:
    """The definition of the manifest's kind: its project's own, or one that keeps whatever it holds."""
    group, _, version = item["apiVersion"].rpartition("/")
    published = schemas.definition(group, item["kind"], version)
    if published is not None:
        return without_status(undescribed(published))
    scope = "Namespaced" if row(item).namespaced else "Cluster"
    return permissive(group, item["kind"], version, row(item).resource, scope)


def define(definitions: Objects, cluster: AnyCluster) -> None:
    """Has the API server take the definitions, and waits until it serves them: minutes where others work."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(cluster.create, definitions))
    for each in definitions:
        spec = each["spec"]
        kind = f"{spec['group']}/{spec['versions'][0]['name']}", spec["names"]["kind"]
        eventually(partial(cluster.resource, *kind), f"{' '.join(kind)} is served")


def ready(cluster: AnyCluster) -> bool:
    probes = [submitted("ray.io_RayCluster", space) for space in SPACES]
    return all("slicewise.io/decision" in annotations(created(cluster, each).body) for each in probes)


def submitted(name: str, space: str) -> Object:
    """The manifest as somebody submits it in a namespace."""
    item = manifest(name, namespace=space)
    metadata = item["metadata"]
    metadata["name"] = metadata.pop("generateName", metadata.get("name", "")).strip("-")
    if not row(item).namespaced:
        del metadata["namespace"]
    return item


def created(cluster: AnyCluster, item: Object, *, dry_run: bool = True) -> Response:
    return cluster.try_create(item, dry_run=dry_run)


def world(cluster: AnyCluster) -> ClusterState:
    """What the webhook knows."""
    spaces = {
        each["metadata"]["name"]: each["metadata"].get("labels", {})
        for each in cluster.list("v1", "Namespace")
    }
    policy = read_policy(POLICY)
    known = Inventory(msgspec.convert(each, Node) for each in cluster.list("v1", "Node"))
    return ClusterState(spaces, {policy.name: policy}, known)


def expected(cluster: AnyCluster, item: Object) -> Object | str:
    """The object as the webhook's functions leave it, or the sentence with which they refuse it."""
    reader = Templates().reader(row(item).group, item["kind"])
    assert reader is not None
    space = item["metadata"].get("namespace", "")
    # By their keys, as the API server sends custom resources: the record lists templates as they come.
    sent = json.dumps(item, sort_keys=True).encode()
    outcome = mutate(reader, sent, None, space, world(cluster))
    if outcome.refusal:
        return outcome.refusal
    patched: Object = jsonpatch.apply_patch(copy.deepcopy(item), outcome.operations)
    return patched


def undisturbed(cluster: AnyCluster, item: Object) -> Object:
    """The object as its schema alone makes it, in a namespace that has not opted in: with defaults, and refused
    where it holds anything that the schema does not know."""
    item = copy.deepcopy(item)
    if row(item).namespaced:
        item["metadata"]["namespace"] = PLAIN
    path = cluster.path(item["apiVersion"], item["kind"], None, item["metadata"].get("namespace"))
    answer = cluster.request("POST", path, item, query={"dryRun": "All", "fieldValidation": "Strict"})
    assert answer.status == 201, answer.message
    found: Object = answer.body
    return found


def stored(cluster: AnyCluster, item: Object) -> Object:
    """The object as it is read from the store: what its schema does not know is gone only there."""
    metadata = item["metadata"]
    return cluster.get(item["apiVersion"], item["kind"], metadata["name"], metadata.get("namespace"))


def meant(item: Object) -> Any:
    """What of an object is people's and ours, not the server's."""
    own = {key: value for key, value in item.items() if key not in {"metadata", "status"}}
    return own, item["metadata"].get("labels", {}), annotations(item)


def annotations(item: Object) -> Object:
    found: Object = item["metadata"].get("annotations", {})
    return found


@pytest.mark.parametrize(("name", "space"), CASES)
def test_what_is_stored_is_what_the_functions_say_and_applying_again_changes_nothing(
    slicewise: Installation, name: str, space: str
) -> None:
    cluster, item = slicewise.cluster, submitted(name, space)
    undisturbed(cluster, item)  # a manifest that its own schema refuses would show nothing
    wanted = expected(cluster, item)
    if isinstance(wanted, str):
        answer = created(cluster, item)
        assert answer.status == 403
        assert wanted in answer.message
        return
    wanted = undisturbed(cluster, wanted)
    path = cluster.path(item["apiVersion"], item["kind"], item["metadata"]["name"], space)
    answer = applied(cluster, path, item) if space == "kinds" else created(cluster, item, dry_run=False)
    assert answer.status == 201, answer.message
    first = stored(cluster, item)
    assert meant(first) == meant(wanted)

    for send in (merged, applied, applied, replaced):
        answer = send(cluster, path, item)
        assert answer.status == 200, answer.message
        again = stored(cluster, item)
        assert meant(again) == meant(first)
        assert again["metadata"]["generation"] == first["metadata"]["generation"]


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        (
            "jobset.x-k8s.io_JobSet",
            "spec.replicatedJobs.0.template.spec.template",
            "spec.replicatedJobs.1.template.spec.template",
        ),
        (
            "leaderworkerset.x-k8s.io_LeaderWorkerSet",
            "spec.leaderWorkerTemplate.leaderTemplate",
            "spec.leaderWorkerTemplate.workerTemplate",
        ),
        ("ray.io_RayCluster", "spec.headGroupSpec.template", "spec.workerGroupSpecs.0.template"),
    ],
)
def test_a_container_that_gets_the_name_of_another_templates_keeps_what_it_names_itself(
    slicewise: Installation, name: str, one: str, other: str
) -> None:
    cluster, item = slicewise.cluster, submitted(name, "kinds")
    item["metadata"]["name"] += "-renamed"
    for place, called in ((one, "one"), (other, "other")):
        container = at(item, f"{place}.spec.containers.0")
        container |= {"name": called, "resources": {"limits": {"nvidia.com/gpu": 1}}}
    answer = created(cluster, item, dry_run=False)
    assert answer.status == 201, answer.message
    path = cluster.path(item["apiVersion"], item["kind"], item["metadata"]["name"], "kinds")
    live = stored(cluster, item)
    slices = at(live, f"{one}.spec.containers.0.resources.limits")
    assert [*slices] == [*at(live, f"{other}.spec.containers.0.resources.limits")] != ["nvidia.com/gpu"]

    put(live, f"{one}.spec.containers.0.name", "other")
    answer = cluster.request("PUT", path, live)
    assert answer.status == 200, answer.message
    after = stored(cluster, item)
    assert at(after, f"{one}.spec.containers.0.resources.limits") == slices
    containers = json.loads(annotations(after)["slicewise.io/decision"])["containers"]
    pointer = other.replace(".", "/")
    assert f"/{pointer}/spec:other" in containers
    answer = cluster.request("PUT", path, after)
    assert answer.status == 200, answer.message
    assert meant(stored(cluster, item)) == meant(after)


def merged(cluster: AnyCluster, path: str, item: Object) -> Response:
    """What `kubectl apply` sends, for kinds whose lists are no more than lists."""
    return cluster.request("PATCH", path, item, MERGE_PATCH)


def applied(cluster: AnyCluster, path: str, item: Object) -> Response:
    """Server-side apply, as Argo CD and Flux do it."""
    return cluster.request("PATCH", path, item, APPLY_PATCH, {"fieldManager": "gitops", "force": "true"})


def replaced(cluster: AnyCluster, path: str, item: Object) -> Response:
    """`kubectl replace`: nothing of what stood comes along."""
    version = stored(cluster, item)["metadata"]["resourceVersion"]
    return cluster.request(
        "PUT", path, {**item, "metadata": {**item["metadata"], "resourceVersion": version}}
    )
