"""Who says what a node's GPUs are: one adapter a source, labels in, `Facts` out.

A cloud is one file here, a `Source`, and its place in `SOURCES`; nothing else knows it.
"""

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from slicewise.inventory.sources import ack, aks, coreweave, doks, gke, gpu_feature_discovery, karpenter
from slicewise.inventory.sources.facts import HAND_SET, Facts, Slices


class Source(Protocol):
    """What a module here has."""

    @property
    def LABELS(self) -> tuple[str, ...]:  # noqa: N802  a constant of the module
        """What the labels that it reads begin with, beside the instance type; a snapshot keeps these."""

    def read(self, labels: Mapping[str, str], /) -> Facts | None:
        """Says what the labels of a node mean; None for nodes of others."""


# In the order in which they are believed: whoever looks at the boards, then whoever sells the machine.
SOURCES: Final[tuple[Source, ...]] = (gpu_feature_discovery, gke, karpenter, ack, coreweave, doks, aks)
NOBODY: Final = Facts(unsaid=f"no label says what nvidia.com/gpu is here; set {HAND_SET} on the node")


def facts_of(labels: Mapping[str, str]) -> Facts:
    """Returns what the first source says that explains a plain `nvidia.com/gpu`, else what the first says.

    A product that people set by hand makes no whole board of the part that a machine has.
    """
    every = [facts for source in SOURCES if (facts := source.read(labels)) is not None]
    first = next((facts for facts in every if facts.says_plain), every[0] if every else NOBODY)
    part = next((facts for facts in every if facts.vgpu), None)
    if part is None or first.vgpu or first.lists_slices:
        return first
    return msgspec.structs.replace(first, model=part.model, memory=part.memory, vgpu=True)


__all__ = ["NOBODY", "SOURCES", "Facts", "Slices", "Source", "facts_of"]
