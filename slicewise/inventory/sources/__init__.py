"""Who says what a node's GPUs are: one adapter a source, labels in, `Facts` out.

A cloud is one file here with `read(labels) -> Facts | None` and its place in `SOURCES`; nothing else knows it.
"""

from collections.abc import Callable, Mapping
from typing import Final

from slicewise.inventory.sources import ack, aks, coreweave, doks, gke, gpu_feature_discovery, karpenter
from slicewise.inventory.sources.facts import HAND_SET, Facts, Slices

# In the order in which they are believed: whoever looks at the boards, then whoever sells the machine.
SOURCES: Final[tuple[Callable[[Mapping[str, str]], Facts | None], ...]] = (
    gpu_feature_discovery.read,
    gke.read,
    karpenter.read,
    ack.read,
    coreweave.read,
    doks.read,
    aks.read,
)
NOBODY: Final = Facts(unsaid=f"no label says what nvidia.com/gpu is here; set {HAND_SET} on the node")


def facts_of(labels: Mapping[str, str]) -> Facts:
    """Returns what the first source says that explains a plain `nvidia.com/gpu`, else what the first says."""
    said = [facts for read in SOURCES if (facts := read(labels)) is not None]
    return next((facts for facts in said if facts.says_plain), said[0] if said else NOBODY)


__all__ = ["NOBODY", "SOURCES", "Facts", "Slices", "facts_of"]
