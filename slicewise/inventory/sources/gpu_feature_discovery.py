"""NVIDIA's GPU feature discovery, and the same labels set by hand.

Sources: k8s-device-plugin, internal/lm (labels), internal/rm (what they count). Under `mixed` the count holds every
board, under `single` the slices. A product longer than 63 characters, or with brackets, is left out (issue 1876).
"""

from collections.abc import Mapping
from typing import Final

from slicewise.api import keys
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.sources.facts import HAND_SET, Facts, Slices, number

SOURCE: Final = "gpu-feature-discovery"
INVALID: Final = "INVALID"
"""What stands for the profile of boards that are not divided alike under `single`."""
_SHARING_WORDS: Final = {"": None, "none": None, "mps": Strategy.MPS, "time-slicing": Strategy.TIME_SLICING}
_TIMESTAMP: Final = keys.VENDOR + "gfd.timestamp"


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
    problems = [
        f"the label {key} says {labels[key]}, which is no number; correct it"
        for key, read_as in ((keys.COUNT, devices), (keys.REPLICAS, replicas))
        if labels.get(key) and read_as is None
    ]
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
        vgpu=labels.get(keys.VGPU_PRESENT) == "true",
        slices=slices,
        lists_slices=runs,
        problems=tuple(problems),
    )


def split_product(product: str) -> tuple[str, str, bool]:
    """Splits a product label into base model, MIG profile ("" without) and whether it says shared.

    k8s-device-plugin, internal/lm/resource.go: `<model>[-MIG-<profile>][-SHARED]`.
    """
    base = product.removesuffix("-SHARED")
    model, _, profile = base.partition("-MIG-")
    return model, profile, base != product


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
