"""Manifests of every kind, and where in an object GPUs are asked for."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final

from admission.decision.cluster_state import ClusterState
from slicewise.api import keys
from slicewise.kube.yaml import load
from tests.admission.building import GPU, Object, policy, world

MANIFESTS: Final = Path(__file__).parent / "manifests"
NAMES: Final = sorted(path.stem for path in MANIFESTS.glob("*.yaml"))


@cache
def _read(name: str) -> Object:
    item: Object = load((MANIFESTS / f"{name}.yaml").read_text())[0]
    return item


def manifest(name: str, **metadata: Any) -> Object:
    """One manifest as somebody in the namespace `team` submits it."""
    item = deepcopy(_read(name))
    item["metadata"] = {"namespace": "team", **item["metadata"], **metadata}
    return item


def cluster(strategy: str, *nodes: str, labels: dict[str, str] | None = None, **spec: Any) -> ClusterState:
    """A cluster whose one class gets one strategy; `whole` is the class for whole GPUs."""
    multi = spec.pop("multiGPU", None)
    only = {"strategy": strategy, **({"multiGPU": multi} if multi else {}), **spec.pop("work", {})}
    classes = {"only": only, "whole": {"strategy": "exclusive"}}
    return world(*nodes, labels=labels, policies=(policy(classes, **spec),))


def mig(**spec: Any) -> ClusterState:
    """A cluster of MIG boards whose one class gets slices."""
    return cluster("mig", "mixed", **spec) if spec else _plain()


@cache
def _plain() -> ClusterState:
    return cluster("mig", "mixed")


def asked(value: Any, pointer: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yields (place, resource name, count) wherever an object asks for a resource of NVIDIA's by name."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key in {"annotations", "tolerations"}:
                continue
            if key.startswith(keys.VENDOR):
                yield pointer, key, str(each)
            else:
                yield from asked(each, f"{pointer}/{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from asked(each, f"{pointer}/{index}")
    elif isinstance(value, str) and value.startswith(keys.VENDOR):
        yield pointer, value, ""


def at(item: Any, place: str) -> Any:
    """The value at a dotted place; None where there is none."""
    for step in place.split("."):
        if isinstance(item, list):
            item = item[int(step)] if int(step) < len(item) else None
        else:
            item = item.get(step) if isinstance(item, dict) else None
    return item


def put(item: Object, place: str, value: Any) -> Object:
    """The object with one dotted place set."""
    *steps, last = place.split(".")
    holder: Any = item
    for step in steps:
        holder = holder[int(step)] if isinstance(holder, list) else holder.setdefault(step, {})
    if isinstance(holder, list):
        holder[int(last)] = value
    else:
        holder[last] = value
    return item


def varied(item: Any, numbers: Iterator[int]) -> Any:
    """The object with the next number asked for at every container's requests and limits."""
    if isinstance(item, list):
        return [varied(each, numbers) for each in item]
    if not isinstance(item, dict):
        return item
    maps = [each for key in ("requests", "limits") if isinstance(each := item.get(key), dict) and GPU in each]
    number = next(numbers) if maps else 0
    for each in maps:
        each[GPU] = str(number) if isinstance(each[GPU], str) else number
    return {key: varied(each, numbers) for key, each in item.items()}


def merged(live: Any, wanted: Any) -> Any:
    """What `kubectl apply` of an unchanged manifest makes of a live object whose lists merge by position."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        return {key: merged(live.get(key), wanted.get(key)) for key in {**live, **wanted}}
    if isinstance(live, list) and isinstance(wanted, list) and len(live) == len(wanted):
        return [merged(one, other) for one, other in zip(live, wanted, strict=True)]
    return live if wanted is None else wanted


def patched(live: Any, wanted: Any) -> Any:
    """What a merge patch of an unchanged manifest makes of a live object: lists come whole (RFC 7386)."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        return {key: patched(live.get(key), wanted.get(key)) for key in {**live, **wanted}}
    return live if wanted is None else deepcopy(wanted)


__all__ = [
    "GPU",
    "MANIFESTS",
    "NAMES",
    "asked",
    "at",
    "cluster",
    "manifest",
    "merged",
    "mig",
    "patched",
    "put",
    "varied",
]
