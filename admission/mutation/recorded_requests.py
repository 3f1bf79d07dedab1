"""What containers ask for, as against what was recorded of them.  Pure."""

import msgspec

from admission.decision.model import Decision, GpuRequest
from slicewise.api import keys


def is_changed(asked: list[GpuRequest], record: Decision) -> bool:
    """True when a person changed how many GPUs a container asks for, as against what was recorded."""
    for each in asked:
        if not each.gpus:
            continue
        assigned = record.containers.get(each.container.name)
        if assigned is None:
            return True
        known = {assigned.asked, assigned.count} if assigned.to == keys.GPU else {assigned.asked}
        if each.gpus not in known:
            return True
    return False


def as_asked_before(asked: list[GpuRequest], record: Decision | None) -> list[GpuRequest]:
    """Takes our own names back out: what each container asked before it was rewritten, or asks now."""
    if record is None:
        return asked
    found = []
    for each in asked:
        assigned = record.containers.get(each.container.name)
        if assigned is not None and assigned.to in each.named:
            each = msgspec.structs.replace(each, gpus=each.gpus or assigned.asked)  # noqa: PLW2901
        found.append(each)
    return found


def without_assigned(asked: list[GpuRequest], record: Decision | None) -> list[GpuRequest]:
    """Returns what people ask for, without the names that were given before to the very containers."""
    if record is None:
        return asked
    ours = {name: each.to for name, each in record.containers.items()}
    return [
        msgspec.structs.replace(
            each, named={k: v for k, v in each.named.items() if k != ours.get(each.container.name)}
        )
        for each in as_asked_before(asked, record)
    ]
