"""Clusters, namespaces, workloads and reviews, built small; answers, read whole."""

import base64
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import jsonpatch

from admission.decision.cluster_state import ClusterState
from admission.mutating import answer
from admission.wire import Answer
from slicewise.api import keys
from slicewise.api.policy import SlicingPolicy, read_policy
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.pools import Inventory
from tests.inventory.nodes import H100, MIXED, SHAPES, Shape, slices, whole

Object = dict[str, Any]
GPU: Final = "nvidia.com/gpu"
SHARED: Final = "nvidia.com/gpu.shared"
SLICE: Final = "nvidia.com/mig-1g.10gb"
UID: Final = "3f0e7b5c-1d8f-4b57-9f5e-7a2f5d1c9a10"

# The pools that tests speak of, by a short word.
NODES: Final[dict[str, Shape]] = {
    "whole": SHAPES["exclusive, MIG off under strategy single"],
    "mixed": SHAPES["MIG mixed, all boards divided"],
    "partly": SHAPES["MIG mixed, some boards left whole: those are exclusive"],
    "single": SHAPES["MIG single"],
    "time": SHAPES["time-slicing, not renamed"],
    "time-renamed": SHAPES["time-slicing, renamed, with the zero of the old name"],
    "mps": SHAPES["MPS, not renamed: memory is divided"],
    "vgpu": SHAPES["a vGPU guest"],
    "suffixed": SHAPES["MIG mixed with media and graphics profiles"],
    "h100-both": Shape(
        {**MIXED, **whole(H100, 8, 81559), **slices(H100, "1g.10gb", 28, 9984)},
        {"gpu": 4, "mig-1g.10gb": 28},
        "h100-80gb-mig-mixed",
        Strategy.MIG,
        {},
    ),
}
EVERY: Final = ("whole", "mixed", "time", "mps", "single", "vgpu")


def inventory(*names: str) -> Inventory:
    return Inventory(NODES[name].node(f"{name}-{index}") for index, name in enumerate(names))


def policy(classes: Mapping[str, Any], name: str = "default", **spec: Any) -> SlicingPolicy:
    return read_policy(
        {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "SlicingPolicy",
            "metadata": {"name": name},
            "spec": {"defaultClass": next(iter(classes)), "classes": classes, **spec},
        }
    )


def world(
    *nodes: str,
    labels: Mapping[str, str] | None = None,
    policies: tuple[SlicingPolicy, ...] = (),
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> ClusterState:
    """A cluster with the namespace `team`, opted in to `default`, and further namespaces by name."""
    team = {keys.POLICY: "default", **(labels or {})}
    return ClusterState(
        {"team": team, **(more or {})}, {each.name: each for each in policies}, inventory(*(nodes or EVERY))
    )


# --- Workloads --------------------------------------------------------------------------------------------


def container(name: str = "main", gpus: Any = 1, **fields: Any) -> Object:
    """A container that asks for GPUs; `gpus=None` for one that does not."""
    asked = {} if gpus is None else {"resources": {"limits": {GPU: gpus}}}
    return {"name": name, "image": "busybox", **asked, **fields}


def asking(amounts: Mapping[str, Any], name: str = "main") -> Object:
    """A container that asks for anything, alike in requests and limits."""
    return {
        "name": name,
        "image": "busybox",
        "resources": {"requests": dict(amounts), "limits": dict(amounts)},
    }


def spec_of(*containers: Object, **fields: Any) -> Object:
    return {"containers": list(containers or [container()]), **fields}


def pod(*containers: Object, metadata: Object | None = None, **fields: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "work", "namespace": "team", **(metadata or {})},
        "spec": spec_of(*containers, **fields),
    }


def deployment(
    *containers: Object, metadata: Object | None = None, template: Object | None = None, **fields: Any
) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "serve", "namespace": "team", **(metadata or {})},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "serve"}},
            "template": {
                "metadata": {"labels": {"app": "serve"}, **(template or {})},
                "spec": spec_of(*containers, **fields),
            },
        },
    }


def notebook(*containers: Object, metadata: Object | None = None) -> Object:
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "Notebook",
        "metadata": {"name": "lab", "namespace": "team", **(metadata or {})},
        "spec": {"template": {"spec": spec_of(*containers)}},
    }


def labelled(class_name: str) -> Object:
    return {"labels": {keys.WORKLOAD_CLASS: class_name}}


def annotated(**notes: str) -> Object:
    """Annotations of ours, written with `_` for `-`."""
    return {"annotations": {keys.PREFIX + name.replace("_", "-"): value for name, value in notes.items()}}


def owned(item: Object, kind: str, api_version: str = "apps/v1") -> Object:
    """The same object, controlled by another."""
    owner = {"apiVersion": api_version, "kind": kind, "name": "owner", "uid": "1", "controller": True}
    return {**item, "metadata": {**item["metadata"], "ownerReferences": [owner]}}


def pod_of(item: Object, kind: str = "ReplicaSet") -> Object:
    """The Pod that controllers make of a template."""
    template = deepcopy(item["spec"]["template"])
    metadata = {"generateName": "serve-", "namespace": "team", **(template.get("metadata") or {})}
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
    return owned(made, kind)


# --- Reviews ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """What one review came to."""

    raw: Answer
    item: Object
    """The object as the API server would go on with it."""
    response: Object
    operations: list[Object]

    @property
    def allowed(self) -> bool:
        return bool(self.response["allowed"])

    @property
    def message(self) -> str:
        return str(self.response["status"]["message"])

    @property
    def warnings(self) -> list[str]:
        return list(self.response.get("warnings", []))

    @property
    def outcome(self) -> str:
        return self.raw.outcome

    @property
    def decision(self) -> Object:
        """The decision that the object records."""
        found: Object = json.loads(self.item["metadata"]["annotations"][keys.DECISION])
        return found

    @property
    def spec(self) -> Object:
        """The pod spec."""
        return pod_spec(self.item)


def pod_spec(item: Object) -> Object:
    spec: Object = item["spec"] if item["kind"] == "Pod" else item["spec"]["template"]["spec"]
    return spec


def devices(item: Object) -> dict[str, dict[str, str]]:
    """What each container asks for of NVIDIA's, where requests and limits say the same."""
    found = {}
    spec = pod_spec(item)
    for each in [*spec.get("containers", []), *spec.get("initContainers", [])]:
        resources = each.get("resources") or {}
        maps = [
            {k: str(v) for k, v in (resources.get(kind) or {}).items() if k.startswith(keys.VENDOR)}
            for kind in ("requests", "limits")
            if resources.get(kind)
        ]
        some = [amounts for amounts in maps if amounts]
        assert all(amounts == some[0] for amounts in some)
        found[each["name"]] = some[0] if some else {}
    return {name: amounts for name, amounts in found.items() if amounts}


def request(item: Object | None, old: Object | None = None, **fields: Any) -> Object:
    shown = item or old or {}
    group, _, version = str(shown.get("apiVersion", "")).rpartition("/")
    return {
        "uid": UID,
        "kind": {"group": group, "version": version, "kind": shown.get("kind", "")},
        "operation": "CREATE" if old is None else "UPDATE",
        "namespace": (shown.get("metadata") or {}).get("namespace", "team"),
        "object": item,
        "oldObject": old,
        **fields,
    }


def review(world: ClusterState, item: Object, old: Object | None = None, **fields: Any) -> Answered:
    """Sends one review and applies the patch as the API server does."""
    body = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": request(item, old, **fields),
    }
    text = json.dumps(body).encode()
    raw = answer(text, world)
    whole = json.loads(raw.body)
    assert (whole["apiVersion"], whole["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response = whole["response"]
    assert response["uid"] == UID
    assert ("patch" in response) is ("patchType" in response)
    operations = json.loads(base64.b64decode(response["patch"])) if "patch" in response else []
    # Read anew, which is faster than a copy.
    after = jsonpatch.apply_patch(json.loads(text)["request"]["object"], operations, in_place=True)
    return Answered(raw, after, response, operations)


def created(world: ClusterState, item: Object) -> Object:
    """The object as it stands after its creation."""
    answered = review(world, item)
    assert answered.allowed, answered.message
    return answered.item
