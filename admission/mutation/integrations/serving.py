"""Side fields of what serves: KServe, LLMInferenceService, Dynamo.  Pure."""

from collections.abc import Mapping
from typing import Any, Final

from admission.mutation.integrations.side_fields import WHOLE, Case
from slicewise.api import keys
from slicewise.gpu.strategies import Strategy

_PIECES: Final = frozenset({Strategy.MIG, Strategy.TIME_SLICING, Strategy.MPS})


def kserve(case: Case) -> None:
    """KServe knows `nvidia.com/gpu` and `nvidia.com/mig…` for GPUs, and one exact list in multi-node serving."""
    shared = [name for name in case.names if name.endswith(keys.SHARED_SUFFIX) and not _mig(name)]
    if shared:
        raise case.unfit(
            f"its predictor would get {shared[0]}, which KServe takes for no GPU and gives the image for CPUs; "
            f"use a class that gets MIG slices, or {WHOLE}"
        )
    if "workerSpec" in case.value and case.names:
        raise case.unfit(
            f"its predictor has a workerSpec and would get {case.names[0]}, but multi-node serving in KServe "
            f"takes {keys.GPU} alone; {WHOLE}, or remove workerSpec"
        )
    if "workerSpec" in case.value and (piece := _piece(case)):
        raise case.unfit(
            f"its predictor has a workerSpec, but its class gets {piece}, and pieces of GPUs cannot be joined; "
            f"{WHOLE}, or remove workerSpec"
        )


def _mig(name: str) -> bool:
    return name.startswith(keys.MIG_PREFIX)  # IsGPUEnabled asks for this prefix alone


def llm(case: Case) -> None:
    """Pieces of GPUs cannot be joined by tensor or pipeline parallelism."""
    for field in ("parallelism", "prefill.parallelism"):
        holder: Any = case.value
        for step in field.split("."):
            holder = holder.get(step) if isinstance(holder, Mapping) else None
        for way in ("tensor", "pipeline"):
            size = holder.get(way) if isinstance(holder, Mapping) else None
            if isinstance(size, int) and size > 1 and (piece := _piece(case)):
                raise case.unfit(
                    f"spec.{field}.{way} is {size}, but its class gets {piece}, and pieces of GPUs cannot be joined; "
                    f"set it to 1, or {WHOLE}"
                )


def dynamo(case: Case) -> None:
    """Several nodes of one model need whole GPUs."""
    multinode = case.value.get("multinode")
    nodes = multinode.get("nodeCount", 1) if isinstance(multinode, dict) else 1
    if isinstance(nodes, int) and nodes > 1 and (piece := _piece(case)):
        raise case.unfit(
            f"multinode.nodeCount is {nodes}, but its class gets {piece}, and pieces of GPUs cannot be joined; "
            f"set it to 1, or {WHOLE}"
        )
    shared = [name for name in case.names if name.endswith(keys.SHARED_SUFFIX)]
    if shared:
        raise case.unfit(
            f"it would get {shared[0]}, which Dynamo takes for no GPU; use a class that gets MIG slices, or {WHOLE}"
        )


def _piece(case: Case) -> str:
    """Names what the pods get when it is less than a whole GPU; "" when it is whole."""
    for _, decision in case.given:
        if decision.strategy in _PIECES:
            names = {each.to for each in decision.containers.values()}
            return f"{decision.strategy} ({', '.join(sorted(names))})"
    return ""
