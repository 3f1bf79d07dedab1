"""Usage and clusters made up for tests."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from slicewise.usage.series import Key, Series, Usage

START = 1_795_000_800
STEP = 3600
H100 = "NVIDIA H100 80GB HBM3"


def series(
    pod: str,
    memory: Sequence[float],
    use: float | Sequence[float] = 0.1,
    namespace: str = "team-a",
    *,
    board: str = "",
    profile: str = "",
    model: str = H100,
) -> Series:
    """One pod on one device, with memory in GiB an hour."""
    uses = [use] * len(memory) if isinstance(use, float) else use
    return Series(
        Key(namespace, pod, "main", "n1", board or f"GPU-{namespace}-{pod}"),
        model,
        profile,
        0.0,
        array("f", uses),
        array("f", uses),
        array("f", [value * 1024 for value in memory]),
    )


def usage(*every: Series, owners: dict[tuple[str, str], tuple[str, str]] | None = None) -> Usage:
    """A period with these series."""
    return Usage(START, STEP, len(every[0].memory), list(every), owners or {})


def wavy(level: float, hours: int = 24 * 8) -> list[float]:
    """Memory that goes up and down by a tenth of its level within each day."""
    return [level * (0.9 + 0.1 * (hour % 24) / 23) for hour in range(hours)]


def pod(name: str, namespace: str = "team-a", **more: Any) -> dict[str, Any]:
    """A running Pod with a whole GPU, of a ReplicaSet."""
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": {"pod-template-hash": "5d4f"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "chat-5d4f", "controller": True}],
        **more,
    }
    resources = {"limits": {"nvidia.com/gpu": "1"}}
    spec = {"nodeName": "n1", "containers": [{"name": "main", "resources": resources}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": "Running"},
    }
