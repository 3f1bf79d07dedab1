"""Every label, annotation and resource name that Slicewise reads or writes, once, and what they alone say."""

from collections.abc import Mapping
from typing import Final

NAME: Final = "slicewise"
PREFIX: Final = NAME + ".io/"

# Namespace labels
POLICY: Final = PREFIX + "policy"
MODE: Final = PREFIX + "mode"
ENGINE: Final = PREFIX + "engine"
QUEUE: Final = PREFIX + "queue"

# Namespace and workload label
WORKLOAD_CLASS: Final = PREFIX + "workload-class"

# Workload annotations that people write
GPU_MEMORY: Final = PREFIX + "gpu-memory"
PROFILE: Final = PREFIX + "profile"
NEEDS: Final = PREFIX + "needs"
REWRITE: Final = PREFIX + "rewrite"

# Written by Slicewise
DECISION: Final = PREFIX + "decision"
POOL: Final = PREFIX + "pool"
FINALIZER: Final = PREFIX + "quota"
"""On a QuotaPlan that gives its quotas back before it goes."""
OFFER: Final = PREFIX + "offer"
PLAN: Final = PREFIX + "plan"
MANAGED: Final = PREFIX + "managed"
OWNED: Final = PREFIX + "owned"

# Annotations that an admin writes, on a ClusterQueue and on the Secret of our authority
MANAGE: Final = PREFIX + "manage"
ROTATE: Final = PREFIX + "rotate"

# Both webhook configurations, and the object that the self-check sends to be refused
CONFIGURATION: Final = "admission.slicewise.io"
PROBE: Final = "slicewise-probe"

FIELD_MANAGER: Final = "slicewise"

# NVIDIA resource names (reference: k8s-device-plugin, internal/rm)
VENDOR: Final = "nvidia.com/"
GPU: Final = VENDOR + "gpu"
GPU_SHARED: Final = GPU + ".shared"
MIG_PREFIX: Final = VENDOR + "mig-"
SHARED_SUFFIX: Final = ".shared"
# Before the name of a DeviceClass, the name that any pod may ask for it by (k8s.io/api, resource/v1, types.go).
IMPLICIT_NAME: Final = "deviceclass.resource.kubernetes.io/"

# NVIDIA node labels (GPU feature discovery, MIG manager, GPU operator)
PRODUCT: Final = VENDOR + "gpu.product"
COUNT: Final = VENDOR + "gpu.count"
REPLICAS: Final = VENDOR + "gpu.replicas"
SHARING: Final = VENDOR + "gpu.sharing-strategy"
MEMORY: Final = VENDOR + "gpu.memory"
MIG_STRATEGY: Final = VENDOR + "mig.strategy"
MIG_CONFIG: Final = VENDOR + "mig.config"
MIG_CONFIG_STATE: Final = VENDOR + "mig.config.state"
DEVICE_PLUGIN_CONFIG: Final = VENDOR + "device-plugin.config"
PLUGIN_DEPLOYED: Final = VENDOR + "gpu.deploy.device-plugin"
WORKLOAD_CONFIG: Final = VENDOR + "gpu.workload.config"
VGPU_PRESENT: Final = VENDOR + "vgpu.present"
PAUSED_FOR_MIG: Final = "paused-for-mig-change"

# Kueue (reference: apis/kueue/v1beta2, pkg/controller/constants)
KUEUE_QUEUE: Final = "kueue.x-k8s.io/queue-name"
KUEUE_POD_SET: Final = "kueue.x-k8s.io/podset"
KUEUE_MULTIKUEUE_ORIGIN: Final = "kueue.x-k8s.io/multikueue-origin"
KUEUE_PREBUILT: Final = "kueue.x-k8s.io/prebuilt-workload-name"

# Volcano (reference: pkg/controllers/podgroup, staging/src/volcano.sh/apis)
VOLCANO_QUEUE: Final = "scheduling.volcano.sh/queue-name"
VOLCANO_SCHEDULER: Final = "volcano"

OF_ENGINES: Final = frozenset({KUEUE_QUEUE, KUEUE_POD_SET, VOLCANO_QUEUE})
"""Labels and annotations by which engines tell a pod's queue, or that they have started it."""

LEFT: Final[Mapping[str, str]] = {
    "kubevirt.io": "virt-launcher",  # finds its devices by the name in its environment (virt-launcher, addresspool.go)
    # A copy that differs from its origin is called out of sync (kueue, equality/podset.go).
    KUEUE_MULTIKUEUE_ORIGIN: "",
    KUEUE_PREBUILT: "",
}
"""Labels of work that must stay as its maker has it, and their values; "" is any."""

POD_SECURITY: Final = "pod-security.kubernetes.io/enforce"
BUILT_IN: Final = frozenset({"", "apps", "batch"})
"""The API groups of Kubernetes' own workloads."""
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
MIRROR_POD: Final = "kubernetes.io/config.mirror"
VISIBLE_DEVICES: Final = "NVIDIA_VISIBLE_DEVICES"
"""The variable by which nvidia-container-toolkit shows a container devices, where it is set to obey it."""
MPS_VOLUME: Final = NAME + "-mps"
"""The volume by which a pod meets an MPS daemon that is no part of the device plugin."""
NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"

# For the taint that GPU nodes customarily carry.
TOLERATION: Final[Mapping[str, str]] = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}

OWN_NAMESPACE: Final = "slicewise-system"
SYSTEM_NAMESPACES: Final = frozenset(
    {
        "kube-system",
        "kube-public",
        "kube-node-lease",
        "gpu-operator",
        "kueue-system",
        "volcano-system",
        OWN_NAMESPACE,
    }
)


def opted_in(
    namespace: str, labels: Mapping[str, str], protected: frozenset[str] = SYSTEM_NAMESPACES
) -> bool:
    """True for a namespace in which work is looked at: it names a policy, is not off, and is not protected."""
    return POLICY in labels and labels.get(MODE) != "off" and namespace not in protected


def prefixed(key: str) -> str:
    """Returns a key under our prefix, where it is under one that is nearly ours (`slicewise/policy`); else as it is."""
    if not key.startswith(NAME):
        return key
    return PREFIX + key.rpartition("/")[2].removeprefix(NAME)


def is_left(labels: Mapping[str, str]) -> bool:
    """True for labels that say that work must stay as its maker has it; who may say so is for the reader to ask."""
    if LEFT.keys().isdisjoint(labels):
        return False
    return any(labels[key] == value if value else labels[key] for key, value in LEFT.items() if key in labels)


def tolerates(key: str, operator: str, effect: str) -> bool:
    """True for a toleration that covers `TOLERATION`."""
    return operator == "Exists" and key in {"", GPU} and effect in {"", "NoSchedule"}


def is_device(name: str) -> bool:
    """True for the resource names of NVIDIA's device plugin: GPUs, shares and slices."""
    return name == GPU or is_slice(name)


def is_slice(name: str) -> bool:
    """True for a resource name that already says which slice or share it is."""
    return name.startswith(MIG_PREFIX) or name == GPU_SHARED
