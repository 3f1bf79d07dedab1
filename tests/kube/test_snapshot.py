"""Snapshots: what kubectl prints is read, and what is wrong is said in one line."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from slicewise.api.errors import BadInput
from slicewise.kube.object_types import kind_of
from slicewise.kube.snapshot import Snapshot, collect, read_file, read_text
from tests.inventory.nodes import SHAPES

NODE = SHAPES["MIG single"].document("worker-1")
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", "labels": {"team": "a"}}}
POLICY: dict[str, Any] = {
    "apiVersion": "slicewise.io/v1alpha1",
    "kind": "SlicingPolicy",
    "metadata": {"name": "mine"},
    "spec": {"defaultClass": "training", "classes": {"training": {"strategy": "exclusive"}}},
}
PLAN: dict[str, Any] = {
    "apiVersion": "slicewise.io/v1alpha1",
    "kind": "QuotaPlan",
    "metadata": {"name": "research"},
    "spec": {"engine": "kueue", "queues": [{"name": "team-a"}]},
}
QUEUE = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": "team-a"}}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "pod", "creationTimestamp": "2026-01-01T00:00:00Z"},
}
ALL = [NODE, NAMESPACE, POLICY, PLAN, QUEUE, POD]
LIST = {"apiVersion": "v1", "kind": "List", "items": ALL}
TYPED = {
    "apiVersion": "v1",
    "kind": "NodeList",
    "metadata": {"resourceVersion": "12"},
    "items": [{key: value for key, value in NODE.items() if key not in {"apiVersion", "kind"}}],
}


OTHER_VERSIONS = {
    ("kueue.x-k8s.io/v1beta1", "ClusterQueue"): "clusterqueues.v1beta2.kueue.x-k8s.io",
    ("kueue.x-k8s.io/v1beta1", "LocalQueue"): "localqueues.v1beta2.kueue.x-k8s.io",
    ("kueue.x-k8s.io/v1beta1", "ResourceFlavor"): "resourceflavors.v1beta2.kueue.x-k8s.io",
    ("kueue.x-k8s.io/v1alpha1", "Cohort"): "cohorts.v1beta2.kueue.x-k8s.io",
    ("kueue.x-k8s.io/v1beta1", "Workload"): "workloads.v1beta2.kueue.x-k8s.io",
    ("scheduling.volcano.sh/v1alpha2", "Queue"): "queues.v1beta1.scheduling.volcano.sh",
}


@pytest.mark.parametrize(("version", "kind"), OTHER_VERSIONS)
def test_an_old_version_of_an_engines_object_is_refused_with_what_to_get_instead(
    version: str, kind: str
) -> None:
    item = {"apiVersion": version, "kind": kind, "metadata": {"name": "old"}}
    with pytest.raises(BadInput) as refused:
        snapshot(yaml.safe_dump(item))
    told = str(refused.value)
    assert f"{kind} old is in version {version.rpartition('/')[2]}" in told
    assert OTHER_VERSIONS[version, kind] in told
    assert told.startswith("cluster.yaml")


def test_other_kinds_of_the_group_may_be_of_any_version() -> None:
    item = {"apiVersion": "kueue.x-k8s.io/v1alpha1", "kind": "Topology", "metadata": {"name": "old"}}
    assert snapshot(yaml.safe_dump(item)).of("Topology.kueue.x-k8s.io") == [item]


def snapshot(text: str) -> Snapshot:
    return collect(read_text("cluster.yaml", text))


@pytest.mark.parametrize(
    "text",
    [
        yaml.safe_dump(LIST),
        yaml.safe_dump_all(ALL),
        json.dumps(LIST),
        json.dumps(LIST, indent=2),
        "---\n" + yaml.safe_dump_all(ALL, explicit_start=True) + "---\n",
        "# a comment\n---\n---\n" + yaml.safe_dump(LIST),
        yaml.safe_dump_all([NODE, {"apiVersion": "v1", "kind": "List", "items": ALL[1:]}]),
    ],
    ids=["a List", "documents", "JSON", "JSON on many lines", "empty documents", "comments", "both"],
)
def test_a_cluster_is_read_however_it_was_printed(text: str) -> None:
    found = snapshot(text)
    assert [node.name for node in found.nodes] == ["worker-1"]
    assert found.namespaces == {"team-a": {"team": "a"}}
    assert list(found.policies) == ["mine"]
    assert list(found.plans) == ["research"]
    assert found.of("ClusterQueue.kueue.x-k8s.io") == [QUEUE]
    assert found.of("Pod") == [POD]
    assert found.of("LocalQueue.kueue.x-k8s.io") == []
    assert [pool.name for pool in found.pools] == ["a100-80gb-mig-single-1g-10gb"]


def test_the_items_of_a_typed_list_take_kind_and_version_from_it() -> None:
    assert [node.name for node in snapshot(json.dumps(TYPED)).nodes] == ["worker-1"]


def test_a_list_within_a_list_is_read_as_kubectl_reads_it() -> None:
    inner = {"apiVersion": "v1", "kind": "List", "items": [NODE, {**LIST, "items": [NAMESPACE]}]}
    found = snapshot(json.dumps({**LIST, "items": [inner, POD]}))
    assert ([node.name for node in found.nodes], list(found.namespaces)) == (["worker-1"], ["team-a"])
    assert found.of("Pod") == [POD]


def test_a_namespace_that_is_being_deleted_is_known_as_such() -> None:
    leaving = {**NAMESPACE, "metadata": {"name": "team-a", "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert snapshot(yaml.safe_dump_all([NAMESPACE, leaving])).leaving == {"team-a"}
    assert snapshot(yaml.safe_dump_all([leaving, NAMESPACE])).leaving == set()


def test_of_two_objects_of_one_name_the_later_one_holds() -> None:
    later = SHAPES["a vGPU guest"].document("worker-1")
    found = snapshot(
        yaml.safe_dump_all([NODE, NAMESPACE, later, {**NAMESPACE, "metadata": {"name": "team-a"}}])
    )
    assert [pool.name for pool in found.pools] == ["a10-12q-vgpu"]
    assert found.namespaces == {"team-a": {}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "---\n",
        "# nothing\n",
        '{"apiVersion": "v1", "kind": "List", "items": []}',
        '{"apiVersion": "v1", "kind": "List", "items": null}',
    ],
)
def test_an_empty_snapshot_is_an_empty_cluster(text: str) -> None:
    found = snapshot(text)
    assert (found.nodes, found.namespaces, found.others) == ([], {}, {})


@pytest.mark.parametrize(
    ("item", "kind"), [(POD, "Pod"), (QUEUE, "ClusterQueue.kueue.x-k8s.io"), (PLAN, "QuotaPlan.slicewise.io")]
)
def test_a_kind_is_named_with_its_group(item: dict[str, Any], kind: str) -> None:
    assert kind_of(item) == kind


def test_what_an_alias_shares_is_written_out() -> None:
    (document,) = read_text("cluster.yaml", "a: &x {limits: {gpu: 1}}\nb: *x\nc:\n  <<: *x\n  d: [*x, *x]\n")
    places = [document.value["a"], document.value["b"], document.value["c"], *document.value["c"]["d"]]
    assert [place["limits"] for place in places] == [{"gpu": 1}] * 5
    assert len({id(place["limits"]) for place in places}) == 5


# --- What is wrong, in one line ---------------------------------------------------------------------------

BROKEN: dict[str, tuple[str, str]] = {
    "no YAML": ("a: [1\nb: 2\n", "cluster.yaml: is not YAML at line 2: "),
    "no YAML for Kubernetes": ("a: !!python/object:os.system {}\n", "cluster.yaml: is not YAML at line 1: "),
    "no object": (
        "just words\n",
        "cluster.yaml: document 1: is no object; write a Kubernetes object or a List",
    ),
    "no object, in the second document": (
        yaml.safe_dump(POD) + "---\n- 1\n",
        "cluster.yaml: document 2: is no object",
    ),
    "an alias that holds itself": ("a: &x\n  b: *x\n", "cluster.yaml: document 1: holds itself; "),
    "no kind": ("apiVersion: v1\n", "cluster.yaml: document 1: kind: is missing; "),
    "no version": ("kind: Pod\n", "cluster.yaml: document 1: apiVersion: is missing; "),
    "no version, in a list": (
        json.dumps({**LIST, "items": [POD, {"kind": "Pod"}]}),
        "cluster.yaml: document 1: items[1]: apiVersion: is missing; ",
    ),
    "an item that is no object": (
        json.dumps({**LIST, "items": [POD, 3]}),
        "cluster.yaml: document 1: items[1]: is no object; ",
    ),
    "metadata that is no map": (
        json.dumps({**POD, "metadata": []}),
        "cluster.yaml: document 1: metadata: is no map; ",
    ),
    "a List of no items": (
        json.dumps({**LIST, "items": "none"}),
        "cluster.yaml: document 1: items: is no list; write the objects as a list",
    ),
    "no version, in a List within a List": (
        json.dumps({**LIST, "items": [POD, {**LIST, "items": [{"kind": "Pod"}]}]}),
        "cluster.yaml: document 1: items[1]: items[0]: apiVersion: is missing; ",
    ),
    "a name that is no text": (
        json.dumps({**POD, "metadata": {"name": 7}}),
        "cluster.yaml: document 1: metadata.name: 7 is no text; put it in quotes",
    ),
    "an annotation that is no text": (
        "{apiVersion: v1, kind: Pod, metadata: {annotations: {slicewise.io/rewrite: false}}}",
        "cluster.yaml: document 1: metadata.annotations[slicewise.io/rewrite]: false is no text; put it in quotes",
    ),
    "owners that are none": (
        json.dumps({**POD, "metadata": {"ownerReferences": [3]}}),
        "cluster.yaml: document 1: metadata.ownerReferences: is no list of owners; ",
    ),
    "a key that stands twice": (
        "apiVersion: v1\nkind: Pod\nkind: Job\n",
        "cluster.yaml: is not YAML at line 3: the key kind stands twice; ",
    ),
    "a node's field of another shape": (
        json.dumps({**NODE, "metadata": {"name": "a"}, "spec": {"taints": "none"}}),
        "cluster.yaml: document 1: Node a: Expected `array | null`, got `str` - at `$.spec.taints`; ",
    ),
    "a node without a name": (
        json.dumps({**NODE, "metadata": {}}),
        "cluster.yaml: document 1: Node: Object missing required field `name` - at `$.metadata`; ",
    ),
    "a node's label that is no text, in a list": (
        json.dumps({**LIST, "items": [POD, {**NODE, "metadata": {"name": "a", "labels": {"x": 1}}}]}),
        "cluster.yaml: document 1: items[1]: metadata.labels[x]: 1 is no text; put it in quotes",
    ),
    "a namespace without a name": (
        json.dumps({**NAMESPACE, "metadata": {"labels": {}}}),
        "cluster.yaml: document 1: Namespace: Object missing required field `name` - at `$.metadata`; ",
    ),
    "a namespace with labels that are none": (
        json.dumps({**NAMESPACE, "metadata": {"name": "a", "labels": ["b"]}}),
        "cluster.yaml: document 1: metadata.labels: is no map; write key: value",
    ),
    "a policy with a bad field": (
        yaml.safe_dump_all([NODE, {**POLICY, "spec": {**POLICY["spec"], "defaultClass": "none"}}]),
        "cluster.yaml: document 2: spec.defaultClass: there is no class 'none'; classes are training",
    ),
    "a plan with a bad field, in a list": (
        json.dumps({**LIST, "items": [NODE, {**PLAN, "spec": {"engine": "kueue", "queues": 3}}]}),
        "cluster.yaml: document 1: items[1]: spec.queues: ",
    ),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_said_with_file_document_and_field(text: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        snapshot(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


# --- Files ------------------------------------------------------------------------------------------------


def test_a_dash_is_standard_input() -> None:
    (document,) = read_file("-", io.StringIO(json.dumps(POD)))
    assert document.where == "standard input: document 1"


def test_a_directory_is_all_its_yaml_and_json_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name, item in {"b.yaml": NODE, "a.json": POD, "more/c.yml": QUEUE}.items():
        (tmp_path / name).write_text(json.dumps(item), encoding="utf-8")
    (tmp_path / "notes.txt").write_text("not for us", encoding="utf-8")
    documents = read_file(str(tmp_path), io.StringIO())
    assert [document.value["kind"] for document in documents] == ["Pod", "Node", "ClusterQueue"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file or directory"), (b"\xff\xfe\x00", "is not UTF-8 text")],
    ids=["a file that is not there", "a file that is no text"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "cluster.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        read_file(str(path), io.StringIO())
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_directory_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no \.yaml, \.yml or \.json file"):
        read_file(str(tmp_path), io.StringIO())
