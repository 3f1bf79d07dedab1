"""AdmissionReviews as the API server sends them, of about 2, 10 and 60 kB.

What makes objects large in real clusters makes these large: environment variables, and `managedFields` which says
everything once more. No two are the same bytes: each object has a name, uid and image of its own, each Pod the volume
of its token and a label that numbers it, and each other object the label of its app.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

from admission.decision.cluster_state import MOST_OUTCOMES
from slicewise.api import keys
from tests.benchmarks.admission.world import NAMESPACE, STRANGER

Object = dict[str, Any]

SIZES: Final = {"2 kB": 2_000, "10 kB": 10_000, "60 kB": 60_000}
LARGE: Final = "200 kB"
_BYTES: Final = {**SIZES, LARGE: 200_000}
_EACH: Final = 16
"""Reviews of one kind and class in a case."""
_UNLIKE: Final = MOST_OUTCOMES + 100
"""Reviews of which no two are alike: when one comes again, it has been forgotten."""
_ROOM: Final = 20
"""Bytes by which the number of a review may make it longer."""
_CONTAINERS: Final = {"2 kB": 1, "10 kB": 3, "60 kB": 6, LARGE: 6}
_INDEX: Final = "apps.kubernetes.io/pod-index"
_MOMENT: Final = "2026-11-23T08:30:00Z"
_RESOURCE: Final = {
    "Pod": ("", "v1", "pods"),
    "Job": ("batch", "v1", "jobs"),
    "Deployment": ("apps", "v1", "deployments"),
}


class Case(NamedTuple):
    """Reviews that are sent in turn and measured together."""

    size: str
    what: str
    bodies: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """The case in words."""
        return f"{self.size}, {self.what}"


def cases() -> Iterator[Case]:
    """Yields every size of every sort."""
    for size in SIZES:
        for what, kinds, gpus in (
            ("Pods with GPUs", ("Pod",), 1),
            ("Jobs and Deployments with GPUs", ("Job", "Deployment"), 1),
            ("Pods and Deployments without", ("Pod", "Deployment"), 0),
        ):
            bodies = [
                review(kind, size, gpus=gpus, work=work, number=number)
                for number in range(_EACH)
                for kind in kinds
                for work in ("inference", "training")
            ]
            yield Case(size, what, tuple(bodies))
    unlike = [
        review("Pod", "2 kB", gpus=1, work="training").replace(b'"server-0"', b'"server-%04d"' % number)
        for number in range(_UNLIKE)
    ]
    yield Case("2 kB", "Pods with GPUs, no two alike", tuple(unlike))
    ignored = review("Deployment", LARGE, gpus=1, work="training").replace(
        f'"namespace":"{NAMESPACE}"'.encode(), f'"namespace":"{STRANGER}"'.encode()
    )
    yield Case(LARGE, "of a namespace that has not opted in", (ignored,))


def review(kind: str, size: str, *, gpus: int, work: str, number: int = 0) -> bytes:
    """Makes one review of at most the size, or the least there is; `number` makes it another's."""
    return _body(kind, size, gpus, work, _variables(kind, size, gpus, work), number)


@cache
def _variables(kind: str, size: str, gpus: int, work: str) -> int:
    """Returns how many variables there is room for."""
    low, high = 0, _BYTES[size] // 100
    while low < high:
        middle = (low + high + 1) // 2
        if len(_body(kind, size, gpus, work, middle, 0)) <= _BYTES[size] - _ROOM:
            low = middle
        else:
            high = middle - 1
    return low


def _body(kind: str, size: str, gpus: int, work: str, variables: int, number: int) -> bytes:
    made = _review(kind, _CONTAINERS[size], gpus, work, variables, number)
    return json.dumps(made, separators=(",", ":")).encode()


def _review(kind: str, containers: int, gpus: int, work: str, variables: int, number: int) -> Object:
    group, version, resource = _RESOURCE[kind]
    gvk = {"group": group, "version": version, "kind": kind}
    gvr = {"group": group, "version": version, "resource": resource}
    return {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": f"5c1a2c9f-7a64-4be2-9c0d-{number:012}",
            "kind": gvk,
            "resource": gvr,
            "requestKind": gvk,
            "requestResource": gvr,
            "name": f"model-server-{number:02}",
            "namespace": NAMESPACE,
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:team-a:deployer",
                "groups": ["system:serviceaccounts", "system:authenticated"],
            },
            "object": _object(kind, containers, gpus, work, variables, number),
            "oldObject": None,
            "dryRun": False,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    }


def _object(kind: str, containers: int, gpus: int, work: str, variables: int, number: int) -> Object:
    group, version, _ = _RESOURCE[kind]
    name = f"model-server-{number:02}"
    metadata: Object = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"0b9c6d59-0f8f-4d3c-8d8e-{number:012}",
        "creationTimestamp": _MOMENT,
        "labels": {"app": name, keys.WORKLOAD_CLASS: work},
    }
    pod_spec = _pod_spec(containers, gpus, variables, number)
    spec: Object = pod_spec
    if kind == "Pod":
        metadata["labels"] = {"app": "model-server", _INDEX: str(number), keys.WORKLOAD_CLASS: work}
        _give_token(pod_spec, number)
    else:
        template = {"metadata": {"creationTimestamp": None, "labels": {"app": name}}, "spec": pod_spec}
        spec = {"template": template}
        if kind == "Deployment":
            spec |= {"replicas": 1, "selector": {"matchLabels": {"app": name}}}
    if variables:
        metadata["managedFields"] = [
            {
                "manager": "kubectl-client-side-apply",
                "operation": "Update",
                "apiVersion": f"{group}/{version}".lstrip("/"),
                "time": _MOMENT,
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": _fields(spec)},
            }
        ]
    return {"kind": kind, "apiVersion": f"{group}/{version}".lstrip("/"), "metadata": metadata, "spec": spec}


def _fields(value: Any) -> Object:
    """What `managedFields` says of a value that was applied."""
    if isinstance(value, dict):
        return {f"f:{key}": _fields(each) for key, each in value.items()}
    if isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value):
        return {f'k:{{"name":"{each["name"]}"}}': {".": {}, **_fields(each)} for each in value}
    return {}


def _give_token(pod_spec: Object, number: int) -> None:
    """Adds what the API server gives each pod before it asks webhooks: a volume of its own name."""
    volume = f"kube-api-access-{number:05}"
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    pod_spec["volumes"].append({"name": volume, "projected": {"sources": sources, "defaultMode": 420}})
    for container in pod_spec["containers"]:
        container.setdefault("volumeMounts", []).append(
            {"name": volume, "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
        )


def _pod_spec(containers: int, gpus: int, variables: int, number: int) -> Object:
    each, more = divmod(variables, containers)
    return {
        "volumes": [{"name": "model", "persistentVolumeClaim": {"claimName": "model-server"}}],
        "containers": [
            _container(n, gpus if n % 3 != 2 else 0, each + (more if n == 0 else 0), number)
            for n in range(containers)
        ],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
    }


def _container(number: int, gpus: int, variables: int, tag: int) -> Object:
    amounts = {"cpu": "4", "memory": "16Gi"} | ({keys.GPU: str(gpus)} if gpus else {})
    found: Object = {
        "name": f"server-{number}",
        "image": f"registry.example.com/team-a/server-{number}:2026.{tag:02}",
        "resources": {"limits": amounts, "requests": dict(amounts)},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }
    if variables:
        found["env"] = [
            {"name": f"SETTING_{n:03}", "value": f"value {n} of container {number}"} for n in range(variables)
        ]
        found["volumeMounts"] = [{"name": "model", "mountPath": "/model", "readOnly": True}]
    return found
