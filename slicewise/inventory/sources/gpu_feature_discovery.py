"""NVIDIA's own labels: GPU feature discovery's, or the same set by hand, and those of the GPU operator.

No other file reads them. Sources: k8s-device-plugin, internal/lm (labels), internal/rm (what they count). Under `mixed`
the count holds every board, under `single` the slices. A product longer than 63 characters, or with brackets, is left
out (issue 1876). GPU operator, controllers/state_manager.go (`gpu.deploy.*`, `gpu.workload.config`), and mig-parted,
deployments/container (`mig.config`, its state, what is paused meanwhile).
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from slicewise.api import keys
from slicewise.gpu import mig
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.sources.facts import HAND_SET, Facts, Slices, misread, number

SOURCE: Final = "gpu-feature-discovery"
LABELS: Final = (keys.VENDOR,)
INVALID: Final = "INVALID"
"""What stands for the profile of boards that are not divided alike under `single`."""
_SHARING_WORDS: Final = {"": None, "none": None, "mps": Strategy.MPS, "time-slicing": Strategy.TIME_SLICING}
# The part of a product that says MIG, also as people mistype it.
_MIG_PART: Final = re.compile(r"(-mig.*|-\d+g\.\d+gb.*)$", re.ASCII | re.IGNORECASE)
# NVIDIA's vGPU types (docs.nvidia.com, "Virtual GPU Types"): `NVIDIA-A10-4Q`, `GRID-A100-1-5C`.
_VGPU_TYPE: Final = re.compile(r"(?:-\d+){1,2}[ABCQ](?:ME)?$", re.ASCII)
_TIMESTAMP: Final = keys.VENDOR + "gfd.timestamp"
_PRESENT: Final = keys.VENDOR + "gpu.present"
# NVIDIA's page "DRA Driver for NVIDIA GPUs" has an admin select the driver's nodes by the second.
_DRA_DEPLOYED: Final = (keys.VENDOR + "gpu.deploy.dra-driver", keys.VENDOR + "dra-kubelet-plugin")


class OperatorLabels(msgspec.Struct, frozen=True, gc=False):
    """What an admin asks of the GPU operator for one node, and how far it is with that."""

    present: bool = False
    """True where the operator has found an NVIDIA GPU."""
    mig_config: str = ""
    """The geometry that is asked for, by its name in the MIG manager's file."""
    mig_state: str = ""
    """How far the MIG manager is: `pending`, `rebooting`, `success`, `failed`; "" where it says nothing."""
    mig_strategy: str = ""
    """The device plugin's: `none`, `single`, `mixed`."""
    paused: bool = False
    """True while the operands wait for the MIG manager."""
    plugin_config: str = ""
    """The device plugin's configuration, by its key in the ConfigMap."""
    plugin_deployed: bool = True
    dra_deployed: str = ""
    """The label that gives the node to a DRA driver; "" where none does."""
    passthrough: bool = False
    """True where the boards go to virtual machines."""


def read(labels: Mapping[str, str]) -> Facts | None:
    """Reads the labels; None where there are none of these."""
    slices = {
        key.removeprefix(keys.MIG_PREFIX).removesuffix(".count"): _slices(labels, key.removesuffix(".count"))
        for key in labels
        if key.startswith(keys.MIG_PREFIX) and key.endswith(".count")
    }
    runs = keys.COUNT in labels or _TIMESTAMP in labels
    if not slices and not runs and keys.PRODUCT not in labels:
        return None
    model, profile, shared = split_product(labels.get(keys.PRODUCT, ""))
    devices, replicas = number(labels, keys.COUNT), number(labels, keys.REPLICAS)
    problems = [*misread(labels, keys.COUNT, keys.REPLICAS)]
    if part := _unread_part(labels.get(keys.PRODUCT, ""), model, profile):
        problems.append(
            f"the label {keys.PRODUCT} says {part}, which is no MIG profile; correct it, as in -MIG-1g.10gb"
        )
        profile = ""
    if (said := labels.get(keys.SHARING, "")) not in _SHARING_WORDS:
        problems.append(f"the label {keys.SHARING} says {said}; write time-slicing, mps or none")
    sharing = _sharing(labels.get(keys.SHARING), is_shared=shared or replicas is None or replicas > 1)
    if sharing is None and (shared or (replicas or 0) > 1):
        sharing = Strategy.TIME_SLICING  # old versions wrote no strategy, and knew this one alone
    return Facts(
        source=SOURCE,
        model=model or next((each.model for each in slices.values() if each.model), ""),
        says_plain=bool(model),
        unsaid="" if model else _unsaid(runs=runs),
        profile=profile,
        devices=devices,
        bounds=any(each.count for each in slices.values()) or labels.get(keys.MIG_STRATEGY) == "mixed",
        replicas=replicas,
        sharing=sharing,
        memory=number(labels, keys.MEMORY) or None,
        vgpu=labels.get(keys.VGPU_PRESENT) == "true" or _VGPU_TYPE.search(model) is not None,
        slices=slices,
        lists_slices=runs,
        problems=tuple(problems),
    )


def split_product(product: str) -> tuple[str, str, bool]:
    """Splits a product label into base model, MIG profile ("" without) and whether it says shared.

    k8s-device-plugin, internal/lm/resource.go: `<model>[-MIG-<profile>][-SHARED]`.
    """
    base = product.removesuffix("-SHARED")
    model, *part = _MIG_PART.split(base, maxsplit=1)
    return model, "".join(part).removeprefix("-MIG-"), base != product


def _unread_part(product: str, model: str, profile: str) -> str:
    """The MIG part of a product label that names no profile; "" where there is no part, or one that can be read."""
    part = product.removeprefix(model).removesuffix("-SHARED")
    return part if part and profile != INVALID and mig.parse(profile) is None else ""


def operator_labels(labels: Mapping[str, str]) -> OperatorLabels:
    """Reads the labels of the GPU operator and of the MIG manager."""
    return OperatorLabels(
        present=labels.get(_PRESENT) == "true",
        mig_config=labels.get(keys.MIG_CONFIG, ""),
        mig_state=labels.get(keys.MIG_CONFIG_STATE, ""),
        mig_strategy=labels.get(keys.MIG_STRATEGY, ""),
        paused=keys.PAUSED_FOR_MIG in labels.values(),
        plugin_config=labels.get(keys.DEVICE_PLUGIN_CONFIG, ""),
        plugin_deployed=labels.get(keys.PLUGIN_DEPLOYED) != "false",
        dra_deployed=next((key for key in _DRA_DEPLOYED if labels.get(key) == "true"), ""),
        passthrough=labels.get(keys.WORKLOAD_CONFIG, "").startswith("vm-"),
    )


def product_label(labels: Mapping[str, str]) -> str:
    """Returns the label by which node affinity tells packagings of one model apart; "" where there is none."""
    return labels.get(keys.PRODUCT, "")


def _slices(labels: Mapping[str, str], prefix: str) -> Slices:
    replicas = number(labels, f"{prefix}.replicas")
    model = split_product(labels.get(f"{prefix}.product", ""))[0]
    sharing = _sharing(labels.get(f"{prefix}.sharing-strategy"), is_shared=True)
    if sharing is None and (replicas or 0) > 1:
        sharing = Strategy.TIME_SLICING
    return Slices(
        number(labels, f"{prefix}.count") or 0, replicas, sharing, number(labels, f"{prefix}.memory"), model
    )


def _sharing(label: str | None, *, is_shared: bool) -> Strategy | None:
    return _SHARING_WORDS.get(label or "") if is_shared else None


def _unsaid(*, runs: bool) -> str:
    if runs:
        return (
            f"GPU feature discovery runs here, but the label {keys.PRODUCT} is missing: it drops a name that is longer "
            f"than 63 characters or has brackets; set {keys.PRODUCT} by hand"
        )
    return f"no label says what {keys.GPU} is here; set {HAND_SET} on the node"
