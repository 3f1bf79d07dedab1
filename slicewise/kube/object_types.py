"""The shapes of objects that are kept as they came: what the quota half and doctor read of them, and no more.

An API server never shows anything else, but files are written by people. An object of another shape is bad input, named
with the very field, and never a stack trace.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from msgspec import Struct

from slicewise.api import keys
from slicewise.api.policy import Engine
from slicewise.api.quantities import value_of

Quantity = str | int | float
Quantities = dict[str, Quantity]
Words = dict[str, str]


class _Part(Struct, frozen=True, rename="camel"):
    """A part of an object; what is null is as good as left out."""


class _Metadata(_Part, frozen=True):
    name: str
    namespace: str | None = None
    labels: Words | None = None
    annotations: Words | None = None


class _Object(_Part, frozen=True):
    metadata: _Metadata


class _Condition(_Part, frozen=True):
    type: str
    status: str = ""
    reason: str | None = None
    message: str | None = None


# --- Webhooks, definitions, Deployments, ConfigMaps -------------------------------------------------------


class _Expression(_Part, frozen=True):
    key: str
    operator: str
    values: list[str] | None = None


class _Selector(_Part, frozen=True):
    match_labels: Words | None = None
    match_expressions: list[_Expression] | None = None


class _Service(_Part, frozen=True):
    name: str | None = None
    namespace: str | None = None
    path: str | None = None


class _ClientConfig(_Part, frozen=True):
    service: _Service | None = None
    ca_bundle: str | None = None


class _Rule(_Part, frozen=True):
    operations: list[str] | None = None


class _Webhook(_Part, frozen=True):
    name: str
    client_config: _ClientConfig | None = None
    rules: list[_Rule] | None = None
    failure_policy: str | None = None
    reinvocation_policy: str | None = None
    timeout_seconds: int | None = None
    namespace_selector: _Selector | None = None


class _WebhookConfiguration(_Object, frozen=True):
    webhooks: list[_Webhook] | None = None


class _Version(_Part, frozen=True):
    name: str
    served: bool = False


class _DefinitionSpec(_Part, frozen=True):
    versions: list[_Version] | None = None


class _DefinitionStatus(_Part, frozen=True):
    stored_versions: list[str] | None = None


class _Definition(_Object, frozen=True):
    spec: _DefinitionSpec
    status: _DefinitionStatus | None = None


class _Resources(_Part, frozen=True):
    requests: Quantities | None = None
    limits: Quantities | None = None


class _Container(_Part, frozen=True):
    name: str = ""
    image: str | None = None
    resources: _Resources | None = None


class _PodSpec(_Part, frozen=True):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    node_name: str | None = None


class _Template(_Part, frozen=True):
    spec: _PodSpec | None = None


class _DeploymentSpec(_Part, frozen=True):
    replicas: int = 1
    template: _Template | None = None


class _DeploymentStatus(_Part, frozen=True):
    available_replicas: int | None = None


class _Deployment(_Object, frozen=True):
    spec: _DeploymentSpec
    status: _DeploymentStatus | None = None


class _ConfigMap(_Object, frozen=True):
    data: Words | None = None


# --- Work and what limits it ------------------------------------------------------------------------------


class _Phase(_Part, frozen=True):
    phase: str | None = None


class _Pod(_Object, frozen=True):
    spec: _PodSpec | None = None
    status: _Phase | None = None


class _QuotaSpec(_Part, frozen=True):
    hard: Quantities | None = None


class _ResourceQuota(_Object, frozen=True):
    spec: _QuotaSpec


class _Limits(_Part, frozen=True):
    default: Quantities | None = None
    default_request: Quantities | None = None


class _LimitSpec(_Part, frozen=True):
    limits: list[_Limits] | None = None


class _LimitRange(_Object, frozen=True):
    spec: _LimitSpec


class _PodSet(_Part, frozen=True):
    template: _Template | None = None


class _WorkloadSpec(_Part, frozen=True):
    queue_name: str | None = None
    pod_sets: list[_PodSet] | None = None


class _Conditions(_Part, frozen=True):
    conditions: list[_Condition] | None = None


class _Workload(_Object, frozen=True):
    spec: _WorkloadSpec
    status: _Conditions | None = None


# --- Queues -----------------------------------------------------------------------------------------------


class _Toleration(_Part, frozen=True):
    key: str | None = None
    operator: str | None = None
    effect: str | None = None


class _FlavorSpec(_Part, frozen=True):
    node_labels: Words | None = None
    node_taints: list[dict[str, str]] | None = None
    tolerations: list[_Toleration] | None = None
    topology_name: str | None = None


class _Flavor(_Object, frozen=True):
    spec: _FlavorSpec


class _ResourceQuotaOf(_Part, frozen=True):
    name: str
    nominal_quota: Quantity = 0
    borrowing_limit: Quantity | None = None
    lending_limit: Quantity | None = None


class _FlavorQuotas(_Part, frozen=True):
    name: str
    resources: list[_ResourceQuotaOf]


class _Group(_Part, frozen=True):
    covered_resources: list[str]
    flavors: list[_FlavorQuotas]


class _ClusterQueueSpec(_Part, frozen=True):
    cohort_name: str | None = None
    namespace_selector: _Selector | None = None
    resource_groups: list[_Group] | None = None


class _Used(_Part, frozen=True):
    name: str
    total: Quantity = 0


class _FlavorUsage(_Part, frozen=True):
    name: str
    resources: list[_Used] | None = None


class _ClusterQueueStatus(_Conditions, frozen=True):
    flavors_usage: list[_FlavorUsage] | None = None
    flavors_reservation: list[_FlavorUsage] | None = None


class _ClusterQueue(_Object, frozen=True):
    spec: _ClusterQueueSpec
    status: _ClusterQueueStatus | None = None


class _CohortSpec(_Part, frozen=True):
    parent_name: str | None = None
    resource_groups: list[_Group] | None = None


class _Cohort(_Object, frozen=True):
    spec: _CohortSpec | None = None


class _LocalQueueSpec(_Part, frozen=True):
    cluster_queue: str


class _LocalQueue(_Object, frozen=True):
    spec: _LocalQueueSpec


class _Guarantee(_Part, frozen=True):
    resource: Quantities | None = None


class _QueueSpec(_Part, frozen=True):
    parent: str | None = None
    deserved: Quantities | None = None
    capability: Quantities | None = None
    guarantee: _Guarantee | None = None


class _QueueStatus(_Part, frozen=True):
    state: str | None = None
    allocated: Quantities | None = None


class _Queue(_Object, frozen=True):
    spec: _QueueSpec
    status: _QueueStatus | None = None


class _PodGroupSpec(_Part, frozen=True):
    queue: str | None = None
    min_resources: Quantities | None = None


class _PodGroup(_Object, frozen=True):
    spec: _PodGroupSpec
    status: _Phase | None = None


# apis/kueue/v1beta2/clusterqueue_types.go: this queue of a MultiKueue manager has its quota from the workers.
AUTOMATED: Final = "MultiKueueManagerQuotaAutomation"


def _no_status(_: Mapping[str, Any]) -> dict[str, Any]:
    return {}


def _decided_elsewhere(queue: Mapping[str, Any]) -> dict[str, Any]:
    """Of a ClusterQueue's status that which says that Kueue decides the quota itself."""
    status = queue.get("status") or {}
    kept = {"effectiveQuotas": status["effectiveQuotas"]} if status.get("effectiveQuotas") else {}
    automated = [
        {"type": AUTOMATED, "status": "True"}
        for each in status.get("conditions") or ()
        if each.get("type") == AUTOMATED and each.get("status") == "True"
    ]
    return {**kept, "conditions": automated} if automated else kept


def _counted(queue: Mapping[str, Any]) -> dict[str, Any]:
    """A Queue's state, and what runs in it of the resources that are spoken about, so that others are no event."""
    status, spec = queue.get("status") or {}, queue.get("spec") or {}
    named = {*(spec.get("deserved") or {}), *(spec.get("capability") or {})}
    kept: dict[str, Any] = {"state": status["state"]} if status.get("state") else {}
    allocated = {}
    for name, quantity in (status.get("allocated") or {}).items():
        if name == "pods" and value_of(quantity):
            allocated[name] = "1"  # that there are any is all that counts
        elif (name in named or name.startswith(keys.VENDOR)) and value_of(quantity):
            allocated[name] = str(quantity)
    return {**kept, "allocated": allocated} if allocated else kept


class ObjectType(NamedTuple):
    """A kind of an engine's, in the one version whose fields are known here."""

    api_version: str
    kind: str
    plural: str
    shape: type[Struct]
    namespaced: bool = False
    status: Callable[[Mapping[str, Any]], dict[str, Any]] = _no_status
    """What of an object's status quota depends on: a change of anything else is no event."""
    counts: bool = False
    """True where that says what runs, which changes all the time and is nobody's edit."""

    @property
    def name(self) -> str:
        """`Kind.group`: two engines may call theirs alike."""
        return f"{self.kind}.{self.group}"

    @property
    def group(self) -> str:
        """The API group."""
        return self.api_version.rpartition("/")[0]

    @property
    def collection(self) -> tuple[str, str, str]:
        """The path at which an API server lists them, apiVersion, and kind."""
        return f"/apis/{self.api_version}/{self.plural}", self.api_version, self.kind


class EngineObjects(NamedTuple):
    """The kinds of one engine's objects."""

    quota: ObjectType
    """What has the quota: a queue of a plan."""
    joined: ObjectType
    """What a workload names as its queue."""
    written: tuple[ObjectType, ...]
    """What a plan writes."""
    read: tuple[ObjectType, ...]
    """What a plan depends on beside it."""
    use: tuple[ObjectType, ...]
    """Work that tells how much is used, where none of these says it (`queue_sync.planning.observed.QuotaUsage`)."""
    work: tuple[ObjectType, ...]
    """Further work, which the command alone reads."""
    install: str
    """What to install where the cluster does not serve them."""

    @property
    def standing(self) -> tuple[ObjectType, ...]:
        """What planning sees as it stands."""
        return (*self.written, *self.read)

    @property
    def every(self) -> tuple[ObjectType, ...]:
        """All of them."""
        return (*self.standing, *self.use, *self.work)

    @property
    def definition(self) -> str:
        """Name of a CustomResourceDefinition that is there where the engine is installed."""
        return f"{self.quota.plural}.{self.quota.group}"


_KUEUE: Final = "kueue.x-k8s.io/v1beta2"
_VOLCANO: Final = "scheduling.volcano.sh/v1beta1"
_flavor = ObjectType(_KUEUE, "ResourceFlavor", "resourceflavors", _Flavor)
_cluster_queue = ObjectType(_KUEUE, "ClusterQueue", "clusterqueues", _ClusterQueue, status=_decided_elsewhere)
_cohort = ObjectType(_KUEUE, "Cohort", "cohorts", _Cohort)
_local_queue = ObjectType(_KUEUE, "LocalQueue", "localqueues", _LocalQueue, namespaced=True)
_workload = ObjectType(_KUEUE, "Workload", "workloads", _Workload, namespaced=True)
_queue = ObjectType(_VOLCANO, "Queue", "queues", _Queue, status=_counted, counts=True)
_pod_group = ObjectType(_VOLCANO, "PodGroup", "podgroups", _PodGroup, namespaced=True)

ENGINE_OBJECTS: Final[Mapping[Engine, EngineObjects]] = {
    Engine.KUEUE: EngineObjects(
        quota=_cluster_queue,
        joined=_local_queue,
        written=(_flavor, _cluster_queue, _local_queue),
        read=(_cohort,),
        use=(_workload,),
        work=(),
        install="Kueue 0.17 or later",
    ),
    Engine.VOLCANO: EngineObjects(
        quota=_queue,
        joined=_queue,
        written=(_queue,),
        read=(),
        use=(),
        work=(_pod_group,),
        install="Volcano",
    ),
}
OBJECT_TYPES: Final = {each.name: each for objects in ENGINE_OBJECTS.values() for each in objects.every}
"""Every kind of every engine, by `Kind.group`."""
STANDING: Final = tuple(each.name for objects in ENGINE_OBJECTS.values() for each in objects.standing)
"""The kinds of objects that planning sees as they stand."""

FLAVOR: Final = _flavor.name
CLUSTER_QUEUE: Final = _cluster_queue.name
COHORT: Final = _cohort.name
LOCAL_QUEUE: Final = _local_queue.name
WORKLOAD: Final = _workload.name
VOLCANO_QUEUE: Final = _queue.name
POD_GROUP: Final = _pod_group.name
MUTATING: Final = "MutatingWebhookConfiguration.admissionregistration.k8s.io"
VALIDATING: Final = "ValidatingWebhookConfiguration.admissionregistration.k8s.io"
DEFINITION: Final = "CustomResourceDefinition.apiextensions.k8s.io"
DEPLOYMENT: Final = "Deployment.apps"
CONFIG_MAP: Final = "ConfigMap"
RESOURCE_SLICE: Final = "ResourceSlice.resource.k8s.io"
DEVICE_CLASS: Final = "DeviceClass.resource.k8s.io"
RESOURCE_CLAIM: Final = "ResourceClaim.resource.k8s.io"
DEVICE_TAINT_RULE: Final = "DeviceTaintRule.resource.k8s.io"

SHAPES: Final[dict[str, Any]] = {
    MUTATING: _WebhookConfiguration,
    VALIDATING: _WebhookConfiguration,
    DEFINITION: _Definition,
    DEPLOYMENT: _Deployment,
    CONFIG_MAP: _ConfigMap,
    "Pod": _Pod,
    "ResourceQuota": _ResourceQuota,
    "LimitRange": _LimitRange,
    **{name: each.shape for name, each in OBJECT_TYPES.items()},
}


def kind_of(item: Mapping[str, Any]) -> str:
    """Returns `Kind.group` of an object, `Kind` alone for the core group."""
    return _named(str(item["apiVersion"]), str(item["kind"]))


@lru_cache(maxsize=256)
def _named(api_version: str, kind: str) -> str:
    """There are few kinds, and each object of hundreds is asked for its own at every look."""
    group = api_version.rpartition("/")[0]
    return f"{kind}.{group}" if group else kind
