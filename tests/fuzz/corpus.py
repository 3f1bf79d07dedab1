"""What the damages are done to: a manifest of every kind in namespaces of every sort, new, or applied once more."""

import base64
import json
from functools import cache, lru_cache
from random import Random
from typing import Any, Final

import jsonpatch

from admission.decision.cluster_state import ClusterState
from admission.mutating import answer
from slicewise.api import keys
from tests.admission.building import UID, asking, container, deployment, labelled, pod, policy, world
from tests.admission.kinds import NAMES, manifest

Object = dict[str, Any]

_CLASSES: Final = {
    "inference": {"strategy": "mig", "otherwise": ["exclusive"]},
    "sized": {"strategy": "mig", "size": {"memory": "15Gi"}, "multiGPU": "each"},
    "exact": {"strategy": "mig", "size": {"profile": "1g.10gb"}, "multiGPU": "one"},
    "notebook": {"strategy": "time-slicing"},
    "batch-inference": {"strategy": "mps", "otherwise": ["mig"]},
    "virtual": {"strategy": "vgpu", "models": ["*A*"]},
    "training": {"strategy": "exclusive"},
    "tuning": {"strategy": "time-slicing", "otherwise": ["mig", "exclusive"]},
}
NAMESPACES: Final[dict[str, dict[str, str]]] = {
    "team": {},
    "strict": {keys.POLICY: "strict"},
    "lenient": {keys.POLICY: "lenient", keys.WORKLOAD_CLASS: "sized"},
    "kueue": {keys.QUEUE: "queue-a", keys.WORKLOAD_CLASS: "inference"},
    "volcano": {keys.QUEUE: "queue-b", keys.ENGINE: "volcano"},
    "watched": {keys.MODE: "audit"},
    "off": {keys.MODE: "off"},
    "mistaken": {keys.MODE: "enforced"},
    "lost": {keys.POLICY: "nobody-wrote-it"},
}


@cache
def cluster() -> ClusterState:
    """Boards divided in every way, three policies, and a namespace of every sort."""
    policies = (
        policy(_CLASSES, whenNothingFits="leave"),
        policy(_CLASSES, "strict", allow=[], defaultClass="inference"),
        policy(_CLASSES, "lenient", whenNothingFits="leave", defaultClass="notebook"),
    )
    namespaces = {name: {keys.POLICY: "default", **labels} for name, labels in NAMESPACES.items()}
    return world(policies=policies, more={**namespaces, "stranger": {"team": "x"}})


@cache
def objects() -> tuple[bytes, ...]:
    """The objects that are damaged, as JSON: reading them anew is the fastest copy."""
    selecting: Object = {
        "nodeSelector": {keys.PRODUCT: "NVIDIA-H100-80GB-HBM3"},
        "tolerations": [{"key": keys.GPU, "operator": "Exists"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": keys.POOL, "operator": "Exists"}]},
                        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["whole-0"]}]},
                        {},
                    ]
                }
            }
        },
    }
    own = [
        pod(container(gpus="1", env=[{"name": "A", "value": "b"}]), container("beside", gpus=None)),
        pod(container(gpus=1), initContainers=[container("first", gpus="1")], **selecting),
        pod(asking({keys.GPU: "2", "cpu": "1"}), metadata={**labelled("inference"), "annotations": {}}),
        pod(asking({"nvidia.com/mig-1g.10gb": "1"}), asking({keys.GPU_SHARED: "1"}, "other")),
        deployment(asking({keys.GPU: "1"}), metadata=labelled("training")),
        deployment(asking({keys.GPU: "1"}), template=labelled("sized"), **selecting),
    ]
    return tuple(json.dumps(item).encode() for item in (*own, *(manifest(name) for name in NAMES)))


def review(rng: Random) -> Object:
    """Returns a review as an API server could send it, with an object to be damaged."""
    item: Object = json.loads(rng.choice(objects()))
    namespace = rng.choice([*NAMESPACES, "team", "team", "team", "stranger", "kube-system"])
    item["metadata"]["namespace"] = namespace
    if rng.random() < 0.4:
        item["metadata"].setdefault("labels", {})[keys.WORKLOAD_CLASS] = rng.choice(list(_CLASSES))
    old = None
    operation = rng.choice(["CREATE"] * 6 + ["UPDATE"] * 3 + ["DELETE"])
    if operation == "UPDATE":
        text = json.dumps(item)
        before = _as_admitted(text) if rng.random() < 0.5 else text
        old = json.loads(before)
        if rng.random() < 0.3:
            item = json.loads(before)
    return enveloped(item, namespace, operation, old)


def enveloped(item: Any, namespace: str, operation: str = "CREATE", old: Any = None) -> Object:
    """Puts an object into a review."""
    group, _, version = str(item["apiVersion"]).rpartition("/")
    kind = {"group": group, "version": version, "kind": item["kind"]}
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": UID,
            "kind": kind,
            "resource": {"group": group, "version": version, "resource": str(item["kind"]).lower() + "s"},
            "name": "x",
            "namespace": namespace,
            "operation": operation,
            "userInfo": {"username": "ada"},
            "object": None if operation == "DELETE" else item,
            "oldObject": item if operation == "DELETE" else old,
            "dryRun": False,
        },
    }


@lru_cache(maxsize=10_000)
def _as_admitted(text: str) -> str:
    item: Object = json.loads(text)
    body = json.dumps(enveloped(item, item["metadata"]["namespace"])).encode()
    patch = json.loads(answer(body, cluster()).body)["response"].get("patch")
    return json.dumps(jsonpatch.apply_patch(item, json.loads(base64.b64decode(patch)))) if patch else text
