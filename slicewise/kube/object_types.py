"""The shapes of objects that are kept as they came: what the quota half and doctor read of them, and no more.

An API server never shows anything else, but files are written by people. An object of another shape is bad input, named
with the very field, and never a stack trace.
"""

from typing import Any, Final

from msgspec import Struct

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


FLAVOR: Final = "ResourceFlavor.kueue.x-k8s.io"
CLUSTER_QUEUE: Final = "ClusterQueue.kueue.x-k8s.io"
COHORT: Final = "Cohort.kueue.x-k8s.io"
LOCAL_QUEUE: Final = "LocalQueue.kueue.x-k8s.io"
WORKLOAD: Final = "Workload.kueue.x-k8s.io"
VOLCANO_QUEUE: Final = "Queue.scheduling.volcano.sh"
POD_GROUP: Final = "PodGroup.scheduling.volcano.sh"
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
    WORKLOAD: _Workload,
    FLAVOR: _Flavor,
    CLUSTER_QUEUE: _ClusterQueue,
    COHORT: _Cohort,
    LOCAL_QUEUE: _LocalQueue,
    VOLCANO_QUEUE: _Queue,
    POD_GROUP: _PodGroup,
}
