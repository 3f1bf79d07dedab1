"""What a snapshot keeps of a live cluster, and what it must not: names of people, and what their work says."""

import json
from typing import Any, Final

import pytest

from admission.workloads.builtin_kinds import POD_LABELS
from queue_sync.planning.bypass import bypassing
from slicewise.api import keys
from slicewise.cli.inputs import READ_ALWAYS, READ_QUEUES, READ_WORK
from slicewise.cli.snapshot import reduced
from slicewise.inventory.sources import facts_of
from tests.admission.building import GPU, asking, pod, review
from tests.admission.kinds import NAMES, manifest, mig
from tests.inventory.nodes import document
from tests.inventory.resource_slices import H100, board, class_of_profile, device, resource_slice
from tests.inventory.test_sources import CLOUDS
from tests.queue_sync.scenes import exclusive, inventory

OWN_KEY: Final = "slicewise.io/mine"
# Labels and annotations by which controllers name whose something is, beside those of the table.
NAMING: Final = {
    *POD_LABELS,
    "app",
    "app.kubernetes.io/instance",
    "batch.kubernetes.io/job-name",
    "job-name",
    "kubeflow.org/notebook-name",
    "notebook-name",
    "kueue.x-k8s.io/pod-group-name",
    "kueue.x-k8s.io/workload",
    "leaderworkerset.sigs.k8s.io/leader-name",
    "ray.io/cluster",
    "scheduling.k8s.io/group-name",
    "spark-app-name",
    "statefulset.kubernetes.io/pod-name",
    "sparkoperator.k8s.io/app-name",
    "tekton.dev/taskRun",
    "volcano.sh/job-name",
    "volcano.sh/queue-of-mine",
    "workflows.argoproj.io/workflow",
    OWN_KEY,
    "kubectl.kubernetes.io/last-applied-configuration",
}
READ: Final = (*READ_ALWAYS, *READ_QUEUES, *READ_WORK)
WORK: Final = [
    (version, kind) for _, version, kind in READ if kind in {"Pod", "Workload", "PodGroup", "ResourceClaim"}
]
IN_PART: Final = {"Node", "Namespace", "ResourceSlice", "DeviceClass"}
PLATFORM: Final = [(version, kind) for _, version, kind in READ if (version, kind) not in WORK]


def test_a_snapshot_keeps_no_environment_command_or_name_of_a_person() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "ada-lovelace-0",
            "namespace": "team-a",
            "labels": {"owner": "ada"},
            "annotations": {"mail": "ada@example.org"},
        },
        "spec": {
            "containers": [
                {
                    "name": "c",
                    "image": "secret/image",
                    "env": [{"name": "TOKEN", "value": "hush"}],
                    "args": ["ada"],
                }
            ]
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    }
    (left,) = reduced([pod])
    assert left["metadata"].keys() == {"name", "namespace"}
    assert [each.keys() for each in left["spec"]["containers"]] == [{"name"}]
    assert not any(word in json.dumps(left) for word in ("lovelace", "@", "hush", "secret", "10.0.0.1"))


def test_a_snapshot_keeps_of_affinity_and_conditions_what_is_about_nodes_and_quota() -> None:
    mine = {"labelSelector": {"matchLabels": {"owner": "lovelace"}}, "topologyKey": "kubernetes.io/hostname"}
    zone = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    on_nodes = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [zone]}}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [mine]}}
    told = {
        "type": "QuotaReserved",
        "status": "False",
        "reason": "Pending",
        "message": "waits for lovelace-1",
    }
    spec = {"containers": [{"name": "c"}], "affinity": {**affinity, "nodeAffinity": on_nodes}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    workload = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": "w"},
        "spec": {"podSets": [{"name": "main", "template": {"spec": {**spec, "affinity": affinity}}}]},
        "status": {"conditions": [told]},
    }
    left = list(reduced([pod, workload]))
    assert "lovelace" not in json.dumps(left)
    assert left[0]["spec"]["affinity"] == {"nodeAffinity": on_nodes}
    assert left[1]["status"]["conditions"] == [
        {"type": "QuotaReserved", "status": "False", "reason": "Pending"}
    ]


def test_of_devices_a_snapshot_has_what_counts_and_nothing_that_tells_one_board_from_all() -> None:
    theirs = resource_slice(board(), driver="gpu.amd.com", name="theirs")
    ours = class_of_profile("1g.10gb")
    ours["spec"]["config"] = [{"opaque": {"driver": "gpu.nvidia.com", "parameters": {"secret": "x"}}}]
    published, served = reduced([resource_slice(board()), theirs, ours])
    assert published["spec"]["devices"] == [device("gpu-0", type="gpu", productName=H100)]
    assert published["spec"]["pool"] == {"name": "n1", "generation": 1, "resourceSliceCount": 1}
    assert served["spec"] == {key: ours["spec"][key] for key in ("extendedResourceName", "selectors")}


@pytest.mark.parametrize(("version", "kind"), WORK)
def test_of_work_a_snapshot_has_its_class_and_queue_and_nobodys_name(version: str, kind: str) -> None:
    queue = {keys.KUEUE_QUEUE: "team", keys.WORKLOAD_CLASS: "training"}
    left = {keys.KUEUE_MULTIKUEUE_ORIGIN: "lovelace-1", keys.KUEUE_PREBUILT: "lovelace-1"}
    named = dict.fromkeys(NAMING, "lovelace-1")
    metadata = {
        "name": "lovelace-1",
        "labels": {**named, **queue, **left},
        "annotations": {**named, keys.REWRITE: "false"},
        "ownerReferences": [{"kind": "Job", "name": "lovelace-1"}],
        "generateName": "lovelace-",
    }
    allocation = {"devices": {"results": [{"driver": "gpu.nvidia.com", "pool": "n1", "device": "gpu-0"}]}}
    item = {"apiVersion": version, "kind": kind, "metadata": metadata, "status": {"allocation": allocation}}
    (kept,) = reduced([item])
    assert "lovelace" not in json.dumps(kept)
    assert kept["metadata"]["labels"].items() >= queue.items()
    assert kept["metadata"]["labels"].keys() == {*queue, *left}
    assert kept["metadata"]["annotations"] == {keys.REWRITE: "false"}


@pytest.mark.parametrize(
    ("labels", "scheduler"),
    [
        ({keys.KUEUE_POD_SET: "lovelace"}, None),
        ({keys.KUEUE_QUEUE: "team"}, None),
        ({}, keys.VOLCANO_SCHEDULER),
        ({}, None),
    ],
)
@pytest.mark.parametrize("controls", [True, False])
@pytest.mark.parametrize("engine", ["kueue", "volcano"])
def test_whose_a_pod_is_a_snapshot_says_as_the_cluster_does(
    labels: dict[str, str], scheduler: str | None, engine: str, *, controls: bool
) -> None:
    """Kueue writes its label of pod sets into what it starts, and of nobody's pod that is believed."""
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": "lovelace",
        "uid": "u-1",
        "controller": controls,
    }
    metadata = {
        "name": "lovelace-0",
        "namespace": "lab",
        "labels": {**labels, "job-name": "lovelace"},
        "ownerReferences": [owner],
    }
    spec = {"containers": [asking({keys.GPU: 1})], "nodeName": "n1"}
    work = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    if scheduler:
        spec["schedulerName"] = scheduler
    (kept,) = reduced([work])
    assert "lovelace" not in json.dumps(kept)
    assert "u-1" not in json.dumps(kept)
    namespaces = {"lab": {keys.POLICY: "default", keys.QUEUE: "team-a", keys.ENGINE: engine}}
    live, shown = (
        [(each.kind, each.code) for each in bypassing(namespaces, [item], [], inventory(exclusive("n1")))]
        for item in (work, kept)
    )
    assert shown == live


@pytest.mark.parametrize(("version", "kind"), PLATFORM)
def test_of_the_platform_a_snapshot_has_no_label_that_nobody_reads(version: str, kind: str) -> None:
    foreign = dict.fromkeys(NAMING - {OWN_KEY}, "lovelace")
    metadata = {"name": "gpu", "labels": {**foreign, keys.PLAN: "research"}, "annotations": foreign}
    spec = {"driver": "gpu.nvidia.com"} if kind == "ResourceSlice" else {}
    (kept,) = reduced([{"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}])
    assert kept["metadata"] == {"name": "gpu", "labels": {keys.PLAN: "research"}}


@pytest.mark.parametrize("labels", [labels for labels, *_ in CLOUDS.values()], ids=CLOUDS)
def test_a_node_is_the_same_in_a_snapshot_whoever_labels_it(labels: dict[str, str]) -> None:
    item = document("n1", labels, {"gpu": 1})
    (kept,) = reduced([item])
    assert facts_of(kept["metadata"].get("labels", {})) == facts_of(item["metadata"]["labels"])


def test_labels_of_nodes_are_kept_where_a_flavor_selects_by_them() -> None:
    flavor = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ResourceFlavor",
        "metadata": {"name": "rack-7"},
        "spec": {"nodeLabels": {"example.org/rack": "7"}},
    }
    node = document("n1", {"example.org/rack": "7", "example.org/owner": "lovelace"}, {"gpu": 1})
    kept, _ = reduced([node, flavor])
    assert kept["metadata"]["labels"] == {"example.org/rack": "7"}


@pytest.mark.parametrize(("version", "kind"), [each for each in PLATFORM if each[1] not in IN_PART])
def test_quotas_and_policies_are_kept_whole(version: str, kind: str) -> None:
    spec = {"cohortName": "research", "parentName": "all"}
    (kept,) = reduced([{"apiVersion": version, "kind": kind, "metadata": {"name": "gpu"}, "spec": spec}])
    assert kept["spec"] == spec


def call_containers(value: Any, name: str) -> None:
    """Has everything that asks for resources be called by a name, as controllers call a notebook's container."""
    if isinstance(value, list):
        for each in value:
            call_containers(each, name)
    elif isinstance(value, dict):
        if "image" in value or "resources" in value:
            value["name"] = name
        for each in value.values():
            call_containers(each, name)


def test_of_what_kueue_admits_a_snapshot_has_the_numbers_and_no_name_of_a_part() -> None:
    """A JobSet's parts are called as its author likes, and so are the claims of containers."""
    amounts = {"requests": {GPU: "2"}, "limits": {GPU: "2"}}
    claimed = {"name": "main", "resources": {**amounts, "claims": [{"name": "lovelace"}]}}
    only_claimed = {"name": "side", "resources": {"claims": [{"name": "lovelace"}]}}
    part = {"name": "lovelace", "count": 3, "template": {"spec": {"containers": [claimed, only_claimed]}}}
    assigned = {"name": "lovelace", "count": 3, "flavors": {GPU: "h100"}, "resourceUsage": {GPU: "6"}}
    workload = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": "w"},
        "spec": {"podSets": [part]},
        "status": {
            "admission": {"clusterQueue": "research", "podSetAssignments": [assigned]},
            "reclaimablePods": [{"name": "lovelace", "count": 1}],
        },
    }
    (kept,) = reduced([workload])
    assert "lovelace" not in json.dumps(kept)
    (left,) = kept["spec"]["podSets"]
    assert [each.get("resources") for each in left["template"]["spec"]["containers"]] == [amounts, None]
    same = {"name": left["name"]}
    admission = {"clusterQueue": "research", "podSetAssignments": [{**assigned, **same}]}
    assert kept["status"]["admission"] == admission
    assert kept["status"]["reclaimablePods"] == [{"count": 1, **same}]


@pytest.mark.parametrize("name", NAMES)
def test_of_pods_of_every_kind_a_snapshot_has_the_decision_without_names(name: str) -> None:
    item = manifest(name)
    item["metadata"]["name"] = "lovelace"
    call_containers(item.get("spec"), "lovelace")
    metadata = review(mig(), item).item["metadata"]
    decision = json.loads(metadata.get("annotations", {}).get(keys.DECISION, "{}"))
    made = [
        asking({each["to"]: each["count"]}, container)
        for container, each in decision.get("containers", {}).items()
    ]
    work = pod(*made, metadata={**metadata, "name": "lovelace-0"})
    (kept,) = reduced([work])
    assert "lovelace" not in json.dumps(kept)
    if decision:
        whole = json.loads(kept["metadata"]["annotations"][keys.DECISION])
        assert whole["pools"] == decision["pools"]
        assert whole["containers"].keys() == {each["name"] for each in kept["spec"]["containers"]}


def test_what_nobody_decided_is_not_kept_as_a_decision() -> None:
    (kept,) = reduced([pod(metadata={"annotations": {keys.DECISION: '{"reason": "lovelace"}'}})])
    assert "lovelace" not in json.dumps(kept)


def test_labels_that_decide_are_kept_of_a_namespace() -> None:
    labels = {keys.POLICY: "default", keys.POD_SECURITY: "baseline", "owner": "lovelace"}
    (kept,) = reduced(
        [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team", "labels": labels}}]
    )
    assert kept["metadata"]["labels"] == {keys.POLICY: "default", keys.POD_SECURITY: "baseline"}
