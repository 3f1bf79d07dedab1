"""What labels say of the way one node is divided, whoever wrote them."""

from collections.abc import Mapping

import msgspec

from slicewise.gpu.strategies import Strategy

# What an admin sets by hand where nothing else says what a plain `nvidia.com/gpu` is.
HAND_SET = "nvidia.com/gpu.product, nvidia.com/gpu.replicas and nvidia.com/gpu.sharing-strategy"

INSTANCE_TYPE = "node.kubernetes.io/instance-type"


class Slices(msgspec.Struct, frozen=True, gc=False):
    """The slices of one MIG profile that have a resource name of their own."""

    count: int
    """Slices, over all boards of the node."""
    replicas: int | None = None
    """Shares of each; None where no label says."""
    sharing: Strategy | None = None
    memory: int | None = None
    """MiB of one."""
    model: str = ""
    """The base model of its board; "" where no label says."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What one source says of a node; what it does not say is None or empty."""

    source: str = ""
    model: str = ""
    """The base model, as GPU feature discovery writes it (`NVIDIA-H100-80GB-HBM3`)."""
    says_plain: bool = False
    """True when the source says what a plain `nvidia.com/gpu` is on the node."""
    unsaid: str = ""
    """Where it does not: why, and what to do."""
    profile: str = ""
    """The MIG profile, dotted, that every plain device is a slice of (strategy `single`)."""
    devices: int | None = None
    """Plain devices before sharing: boards, or slices of `profile`."""
    bounds: bool = False
    """True when `devices` counts boards that are divided too, so that it bounds the whole ones from above."""
    replicas: int | None = None
    """Shares of each plain device."""
    sharing: Strategy | None = None
    memory: int | None = None
    """MiB of one plain device; None leaves it to the tables of boards."""
    vgpu: bool = False
    slices: Mapping[str, Slices] = {}
    """By dotted profile."""
    lists_slices: bool = False
    """True when the source lists every profile that has a name, so that one it leaves out is old or too new."""
    problems: tuple[str, ...] = ()
    """Labels that cannot be read, each in a sentence."""


def number(labels: Mapping[str, str], key: str) -> int | None:
    """Returns a label's whole number; None when it is absent or none."""
    text = labels.get(key, "")
    return int(text) if text.isascii() and text.isdecimal() else None


def misread(labels: Mapping[str, str], *read: str) -> tuple[str, ...]:
    """Returns a sentence for each of these labels that is there and is no whole number."""
    return tuple(
        f"the label {key} says {labels[key]}, which is no number; correct it"
        for key in read
        if labels.get(key) and number(labels, key) is None
    )
