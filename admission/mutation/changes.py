"""What each container of a template gets or loses.  Pure."""

from collections.abc import Mapping
from typing import Final

from admission.decision.gpu_requests import containers, plain, zero_devices
from admission.decision.model import Decision, GpuRequest
from admission.mutation.model import Change, Changes
from admission.workloads.model import Template
from slicewise.api import keys

_NOTHING: Final = Change(frozenset({keys.GPU}), keys.GPU, 0)


def is_readable(each: GpuRequest) -> bool:
    """True when it can be told what a container asks for."""
    return not each.unreadable and plain(each)


def still_matches(each: GpuRequest, record: Decision) -> bool:
    """True when a container still asks for what was decided, whatever it asks for beside that."""
    assigned = record.containers.get(each.container.name)
    return assigned is not None and each.named.get(assigned.to) == assigned.count


def given(template: Template, asked: list[GpuRequest], decision: Decision, withdrawn: Changes) -> Changes:
    """Returns what containers get by a decision, and what is `withdrawn` from others."""
    changes = dict(withdrawn)
    for each in asked:
        assigned = decision.containers.get(each.container.name)
        if assigned is None or each.pointer in changes:
            continue
        if each.gpus or still_matches(each, decision):
            drop = frozenset([name for name in (keys.GPU, *each.named) if name != assigned.to])
            changes[each.pointer] = Change(drop, assigned.to, assigned.count)
    if changes:
        changes.update(_without_zeros(template, changes))
    return changes


def _without_zeros(template: Template, changes: Changes) -> dict[str, Change]:
    """Returns what takes zeros of devices out of a template that is rewritten: Kueue and Volcano count the names."""
    found = {}
    for pointer, container in containers(template.spec):
        zeros = zero_devices(container)
        if zeros and pointer in changes:
            change = changes[pointer]
            found[pointer] = Change(change.drop | (zeros - {change.name}), change.name, change.count)
        elif zeros:
            found[pointer] = Change(zeros, keys.GPU, 0)
    return found


def withdrawn(asked: list[GpuRequest]) -> dict[str, Change]:
    """Returns what has containers ask for no GPU any more."""
    return {each.pointer: _NOTHING for each in asked if each.gpus}


def as_asked(asked: list[GpuRequest], record: Decision) -> dict[str, Change]:
    """Returns what leaves containers as a person asks, where nothing is decided any more: no pod may ask for both
    names."""
    changes = {}
    for each in asked:
        assigned = record.containers.get(each.container.name)
        if assigned is not None and each.gpus and assigned.to in each.named:
            # Where requests and limits differ, each stays as it is written.
            changes[each.pointer] = Change(
                frozenset({assigned.to}), keys.GPU, each.gpus if plain(each) else 0
            )
    return changes


def as_named(
    asked: list[GpuRequest], renamed: Mapping[str, Mapping[str, int]], *, rewritten: bool
) -> dict[str, Change]:
    """Returns what leaves containers what their manifest names; zeros go where another container of the template is
    `rewritten`, and stay as they were written where none is."""
    changes = {}
    for each in asked:
        asks = renamed.get(each.container.name)
        if asks is not None:
            zeros = zero_devices(each.container) if rewritten else frozenset()
            drop = (each.amounts.keys() | zeros) - asks.keys()
            changes[each.pointer] = Change(frozenset(drop), keys.GPU, 0)
    return changes


def as_stood(asked: list[GpuRequest], stood: Mapping[str, Mapping[str, int]]) -> dict[str, Change]:
    """Returns what has containers ask for what they asked for before, by name of the container."""
    changes = {}
    for each in asked:
        amounts = stood.get(each.container.name)
        if amounts and each.amounts != amounts:
            name, number = next(iter(amounts.items()))
            changes[each.pointer] = Change(frozenset({keys.GPU, *each.named} - amounts.keys()), name, number)
    return changes


def one_name(asked: list[GpuRequest]) -> dict[str, Change]:
    """Returns what drops the old name from containers that ask for both."""
    found = {}
    for each in asked:
        if each.gpus and each.named:
            name, number = next(iter(each.named.items()))
            found[each.pointer] = Change(frozenset({keys.GPU}), name, number)
    return found
