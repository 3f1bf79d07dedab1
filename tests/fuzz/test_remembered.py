"""Whoever is answered by what is remembered gets, byte for byte, what nobody remembers: one webhook that goes on while
objects come and the cluster changes, beside one that begins anew for each and reads each object as it is."""

import json
from collections.abc import Callable
from random import Random
from typing import Any, Final

import pytest

from admission.decision.cluster_state import ClusterState
from admission.mutating import answer
from admission.wire import Answer
from admission.workloads.decoder import Templates
from slicewise.api import keys
from slicewise.api.policy import SlicingPolicy, read_plan
from tests.admission.building import EVERY, NODES, Object, asking, container, pod, policy, request, world
from tests.fuzz.damage import SAID

Change = Callable[[Random, Any], object]

_SHAPES: Final = 80
"""Few, so that all come again after each change."""
_CLASSES: Final = {
    "inference": {"strategy": "mig"},
    "sized": {"strategy": "mig", "size": {"memory": "15Gi"}, "multiGPU": "one"},
    "training": {"strategy": "exclusive"},
    "shares": {"strategy": "mps", "otherwise": ["time-slicing"]},
    "daemon": {"strategy": "time-slicing", "pipeDirectory": "/run/mps"},
}
_KINDS: Final = (
    ("v1", "Pod"),
    ("v1", "PodTemplate"),
    ("v1", "ReplicationController"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("apps/v1", "ReplicaSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
)
_AUTHORS: Final = (
    {"username": "ada"},
    {"username": "root", "groups": ["system:masters"]},
    {"username": "system:serviceaccount:team:deployer"},
    {"username": "system:serviceaccount:kube-system:job-controller"},
    {"username": "system:serviceaccount:kueue-system:kueue-controller-manager"},
)
_OWNERS: Final = (
    {"apiVersion": "batch/v1", "kind": "Job", "name": "train-0", "uid": "1", "controller": True},
    {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "2", "controller": True},
    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "serve-abc", "uid": "3", "controller": True},
    {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": "ray", "uid": "4", "controller": True},
    {"apiVersion": "v1", "kind": "ConfigMap", "name": "kept", "uid": "5"},
)
_LABELS: Final[dict[str, tuple[str, ...]]] = {
    "app": ("a", "b"),
    "job-name": ("train-0", "train-1"),
    "pod-template-hash": ("abc",),
    "training.kubeflow.org/job-name": ("train-0",),
    keys.KUEUE_POD_SET: ("main",),
    keys.POLICY: ("other",),
    keys.GPU_MEMORY: ("16Gi",),
    "slicewise.io/workloadclass": ("training",),
    "slicewise/workload-class": ("training",),
    "workload_class": ("training",),
}
_OFTEN: Final = (
    (keys.KUEUE_POD_SET, "main"),
    (keys.KUEUE_QUEUE, "own"),
    (keys.WORKLOAD_CLASS, "daemon"),
    (keys.WORKLOAD_CLASS, "training"),
)
_ANNOTATIONS: Final[dict[str, tuple[str, ...]]] = {
    keys.VOLCANO_QUEUE: ("mine", ""),
    "scheduling.k8s.io/group-name": ("group",),
    keys.WORKLOAD_CLASS: ("training",),
    "checksum/config": ("1", "2"),
}
_NAMESPACE: Final[dict[str, tuple[str, ...]]] = {
    keys.POLICY: ("default", "other", "other", "nobody-wrote-it"),
    keys.MODE: ("enforce", "enforce", "audit", "off", "mistaken"),
    keys.ENGINE: ("kueue", "volcano", "none"),
    keys.QUEUE: ("a", "b"),
    keys.WORKLOAD_CLASS: tuple(_CLASSES),
    keys.POD_SECURITY: ("privileged", "restricted"),
}
_LABELS_AT_FIRST: Final = {keys.POLICY: "default", keys.ENGINE: "kueue", keys.QUEUE: "a"}


# --- What comes ---------------------------------------------------------------------------------------------


def _say(chance: Random, metadata: Object) -> None:
    said = {**_LABELS, **_ANNOTATIONS, **SAID}
    key = chance.choice(list(said))
    place = chance.choice(["labels", "annotations"]) if chance.random() < 0.3 else ""
    place = place or ("annotations" if key in _ANNOTATIONS else "labels" if key in _LABELS else "")
    for each in [place] if place else ["labels", "annotations"]:
        metadata[each] = {**(metadata.get(each) or {}), key: chance.choice(said[key])}


def _owned(chance: Random, metadata: Object) -> None:
    metadata["ownerReferences"] = chance.sample(_OWNERS, chance.choice([0, 1, 1, 2]))


def _empty(chance: Random, metadata: Object) -> None:
    metadata.update(
        chance.choice([{"labels": {}}, {"labels": None}, {"annotations": {}}, {"ownerReferences": []}])
    )


_OF_METADATA: Final[tuple[Change, ...]] = (_say, _say, _say, _owned, _empty)


def _variable(chance: Random, holder: Object) -> None:
    name = chance.choice([keys.VISIBLE_DEVICES, "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "SOME"])
    value: Object = chance.choice(
        [{"value": "all"}, {"value": "void"}, {"value": '"\\\n'}, {}, {"valueFrom": {}}]
    )
    holder["env"] = [*(holder.get("env") or []), {"name": name, **value}]


def _mount(chance: Random, holder: Object) -> None:
    path = chance.choice(["/run/mps", "/dev/shm", "/dev/shm/", "/data"])  # noqa: S108
    mount = {"name": "data", "mountPath": path, "subPath": "x"}
    holder["volumeMounts"] = [*(holder.get("volumeMounts") or []), mount]


def _resources(chance: Random, holder: Object) -> None:
    name = chance.choice([keys.GPU, keys.GPU, "nvidia.com/mig-1g.10gb", "nvidia.com/gpus", "cpu"])
    amounts = {name: chance.choice([1, "1", "2", "0", "1k", None])}
    holder["resources"] = chance.choice([{"limits": amounts}, {"requests": amounts, "limits": amounts}, {}])
    if chance.random() < 0.2:
        holder["resources"]["claims"] = [{"name": "one"}]


def _nothing(chance: Random, holder: Object) -> None:
    holder[chance.choice(["env", "volumeMounts", "resources", "restartPolicy"])] = None


_OF_CONTAINERS: Final[tuple[Change, ...]] = (_variable, _variable, _mount, _resources, _resources, _nothing)


def _node(chance: Random, spec: Object) -> None:
    wanted = {
        "key": chance.choice([keys.POOL, "zone"]),
        "operator": chance.choice(["Exists", "DoesNotExist"]),
    }
    terms = {"nodeSelectorTerms": [chance.choice([{"matchExpressions": [wanted]}, {}])]}
    required = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    spec.update(
        chance.choice(
            [
                {"nodeSelector": {"zone": chance.choice(["a", "b"])}},
                {"nodeName": chance.choice(["whole-0", "time-2"])},
                {"affinity": chance.choice([required, {}, None])},
                {"tolerations": [{"key": chance.choice(["dedicated", keys.GPU]), "operator": "Exists"}]},
            ]
        )
    )


def _around(chance: Random, spec: Object) -> None:
    spec.update(
        chance.choice(
            [
                {"hostIPC": chance.choice([True, None])},
                {"schedulerName": chance.choice(["volcano", "default-scheduler", "mine"])},
                {"resourceClaims": [{"name": chance.choice(["one", "two"])}]},
                {"resources": {"limits": {chance.choice([keys.GPU, "cpu"]): "1"}}},
                {"volumes": chance.choice([None, [], [{"name": keys.MPS_VOLUME, "emptyDir": {}}]])},
                {"initContainers": [container("first", chance.choice([1, None]), restartPolicy="Always")]},
                {"ephemeralContainers": [container("debugger")]},
            ]
        )
    )


_OF_SPECS: Final[tuple[Change, ...]] = (_node, _node, _around, _around)


def _object(chance: Random, number: int) -> Object:
    """One of many that have little to choose from, and names and a volume of their own."""
    group, kind = chance.choice([*_KINDS[:1] * 16, *_KINDS])
    base: Object = chance.choice(
        [
            pod(container(), container("beside", gpus=None)),
            pod(container(gpus=None)),
            pod(asking({keys.GPU: "1"})),
        ]
    )
    template: Object = {}
    metadata: Object = {"namespace": "team"}
    spec = base["spec"]
    for _ in range(chance.choice([0, 0, 1, 1, 1, 2, 3])):
        what, changes = chance.choice(
            [
                (metadata, _OF_METADATA),
                (template, _OF_METADATA),
                (spec, _OF_SPECS),
                (chance.choice(spec["containers"]), _OF_CONTAINERS),
            ]
        )
        chance.choice(changes)(chance, what)
    if chance.random() < 0.3:
        _owned(chance, metadata)
    if chance.random() < 0.2:
        key, value = chance.choice(_OFTEN)
        metadata["labels"] = {**(metadata.get("labels") or {}), key: value}
    metadata |= {"name": f"work-{number}", "generateName": "work-", "uid": str(number)}
    if chance.random() < 0.7 and isinstance(spec.get("volumes", []), list):
        token = f"kube-api-access-{number:05}"
        spec.setdefault("volumes", []).append({"name": token, "projected": {"sources": [number]}})
        for each in spec["containers"]:
            each["volumeMounts"] = [
                *(each.get("volumeMounts") or []),
                {"name": token, "mountPath": "/var/run/secrets"},
            ]
            each["args"] = [str(number)]
    holder: Object = (
        {"spec": spec} if not template and chance.random() < 0.5 else {"metadata": template, "spec": spec}
    )
    item: Object = {"apiVersion": group, "kind": kind, "metadata": metadata}
    if kind == "Pod":
        return item | {"spec": spec}
    if kind == "PodTemplate":
        return item | {"template": holder}
    if kind == "CronJob":
        return item | {"spec": {"jobTemplate": {"spec": {"template": holder, "suspend": number % 2 == 0}}}}
    return item | {
        "spec": {"replicas": number, "suspend": chance.choice([True, False, None]), "template": holder}
    }


# --- What changes ---------------------------------------------------------------------------------------------


def _relabel(chance: Random, cluster: ClusterState) -> None:
    labels = dict(_LABELS_AT_FIRST)
    for _ in range(chance.randrange(3)):
        key = chance.choice(list(_NAMESPACE))
        labels[key] = chance.choice(_NAMESPACE[key])
    cluster.namespaces = {"team": labels}


def _policy(chance: Random) -> SlicingPolicy:
    classes = dict(chance.sample(list(_CLASSES.items()), chance.randrange(2, len(_CLASSES) + 1)))
    return policy(
        classes,
        chance.choice(["default", "other"]),
        rollout={"percent": chance.choice([50, 100, 100])},
        whenNothingFits=chance.choice(["leave", "refuse"]),
        allow=chance.choice([[], ["gpu-memory", "profile", "needs", "opt-out"]]),
    )


def _repolicy(chance: Random, cluster: ClusterState) -> None:
    made = _policy(chance)
    cluster.policies = {**cluster.policies, made.name: made}


def _renode(chance: Random, cluster: ClusterState) -> None:
    shape = chance.choice(EVERY)
    name = f"{shape}-{EVERY.index(shape)}"
    if chance.random() < 0.2:
        cluster.pools.put(name, None)
        return
    taints = chance.choice([[], [], [{"key": "dedicated", "value": "x", "effect": "NoSchedule"}]])
    document = NODES[shape].document(name, spec={"taints": taints})
    document["metadata"]["labels"]["zone"] = chance.choice(["a", "b"])
    cluster.pools.see(NODES[shape].node(name, spec={"taints": taints}, metadata=document["metadata"]))


def _replan(chance: Random, cluster: ClusterState) -> None:
    spec = {
        "engine": chance.choice(["kueue", "volcano"]),
        "pools": {"matchNames": [chance.choice(["*mig*", "*exclusive", "*time-slicing*"])]},
        "queues": [{"name": "a"}],
    }
    plan = read_plan(
        {"apiVersion": "slicewise.io/v1alpha1", "kind": "QuotaPlan", "metadata": {"name": "p"}, "spec": spec}
    )
    cluster.plans = chance.choice([{}, {"p": plan}])
    cluster.replanned()


def _protect(chance: Random, cluster: ClusterState) -> None:
    cluster.protected = keys.SYSTEM_NAMESPACES | ({"team"} if chance.random() < 0.1 else set())


_CHANGES: Final[tuple[Change, ...]] = (_relabel, _relabel, _repolicy, _renode, _replan)


def _reading_whole() -> Templates:
    found = Templates()
    for version, kind in _KINDS:
        reader = found.reader(version.rpartition("/")[0], kind)
        assert reader is not None
        reader._decode_gist = None
    return found


@pytest.mark.parametrize("seed", range(4))
def test_what_is_remembered_is_what_would_be_answered_anew(seed: int) -> None:
    chance, whole = Random(seed), _reading_whole()  # noqa: S311
    cluster = world(
        policies=(policy(_CLASSES, whenNothingFits="leave"), policy(_CLASSES, "other")),
        labels=_LABELS_AT_FIRST,
    )
    found_again = 0
    for number in range(600):
        if number % 15 == 0:
            chance.choice(_CHANGES)(chance, cluster)
            _protect(chance, cluster)
        body = json.dumps(
            {
                "apiVersion": "admission.k8s.io/v1",
                "request": request(
                    _object(Random(f"{seed}:{chance.randrange(_SHAPES)}"), number),  # noqa: S311
                    userInfo=chance.choice(_AUTHORS),
                    dryRun=chance.random() < 0.1,
                    namespace="team",
                ),
            }
        )
        if chance.random() < 0.1:
            body = body.replace("CUDA_MPS", "CUDA\\u005fMPS").replace(keys.MPS_VOLUME, "\\u0073licewise-mps")
        anew = ClusterState(
            cluster.namespaces, cluster.policies, cluster.pools, cluster.protected, cluster.plans
        )
        before = len(cluster.outcomes())
        answered: Answer = answer(body.encode(), cluster)
        assert answered == answer(body.encode(), anew, whole), body
        response = json.loads(answered.body)["response"]
        found_again += len(cluster.outcomes()) == before and "warnings" not in response
    assert found_again > 100
