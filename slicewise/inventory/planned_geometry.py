"""One node beside what is planned for it: is it on its way, can it get there, is it where it should be?  Pure.

`node_state` reads a Node alone; here the MIG manager's and the device plugin's files are known as well. A known
geometry says more than a name such as `all-1g.10gb`, so it is believed instead of the name. Names that differ make a
node unsettled; numbers that differ are told and counted as they are, because a board that could not be divided takes
nothing from the others. Where nothing is known, nothing is said.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from slicewise.api import keys
from slicewise.inventory import gpu_operator as files
from slicewise.inventory.gpu_operator import ConfigError, Configs, Planned
from slicewise.inventory.node import Node
from slicewise.inventory.node_devices import NodeDevices
from slicewise.inventory.node_resources import Doubt
from slicewise.inventory.node_state import CUSTOMARY, NodeRules, Observation, observe_status
from slicewise.inventory.sources.dra import SOURCE

NO_CONFIGS: Final = Configs()


class Concern(msgspec.Struct, frozen=True, order=True):
    """Something about a node's plan that its admin should know."""

    code: str
    """ImpossibleGeometry, UnknownGeometry, GeometryDiffers, MissingPluginConfig or SharingDiffers."""
    sentence: str
    passing: bool = False
    """True when it may be over by itself in a moment, as while a node is on its way."""


def observe(
    node: Node,
    configs: Configs = NO_CONFIGS,
    rules: NodeRules = CUSTOMARY,
    devices: NodeDevices | None = None,
) -> Observation | None:
    """Reads one node as everybody does: its status and labels, and a doubt while it is not what is planned."""
    seen = observe_status(node, rules, devices)
    if seen is None or seen.facts.source == SOURCE or not (configs.geometries or configs.by_node):
        return seen
    plan = files.planned(seen.operator.mig_config, seen.facts, configs, seen.name)
    if plan.unknown:
        return seen
    doubts = tuple(doubt for doubt in seen.doubts if doubt.code != "config")
    # A failed change differs from its plan by what it is, and there is a rule for that.
    if seen.operator.mig_state != "failed" and (words := _on_its_way(seen, plan)):
        doubts = (*doubts, Doubt("config", words, True))
    return msgspec.structs.replace(seen, doubts=doubts) if doubts != seen.doubts else seen


def _on_its_way(seen: Observation, plan: Planned) -> str:
    shown = _profiles(seen)
    if plan.names(shown):
        return ""
    if plan.impossible:
        return f"{plan.impossible}; name another configuration"
    wanted = ", ".join(sorted(plan.slices)) or "no slices"
    return (
        f"nvidia.com/mig.config asks for {seen.operator.mig_config}, which is {wanted}; the node shows "
        f"{', '.join(sorted(shown)) or 'no slices'}"
    )


def _profiles(seen: Observation) -> set[str]:
    shown = {resource.profile for resource in seen.offer.resources if resource.profile}
    return shown | ({seen.facts.profile} if seen.facts.profile else set())


def concerns(seen: Observation, configs: Configs) -> tuple[Concern, ...]:
    """What of a node's plan cannot be, is not known, or did not come about."""
    return (*_geometry(seen, configs), *_sharing(seen, configs))


def _geometry(seen: Observation, configs: Configs) -> Iterable[Concern]:
    name = seen.operator.mig_config
    if not name or not (configs.geometries or configs.by_node):
        return
    if configs.geometry(name, seen.name) is None:
        # The names of whole-board geometries may be generated where nobody but the MIG manager sees them.
        if not name.startswith("all-"):
            sentence = f"nvidia.com/mig.config asks for {name}, which no ConfigMap of the MIG manager has"
            yield Concern("UnknownGeometry", f"{sentence}; correct the label or add the configuration", True)
        return
    plan = files.planned(name, seen.facts, configs, seen.name)
    shown = _devices(seen)
    if plan.impossible and (shown is None or files.differs(plan, shown)):
        yield Concern("ImpossibleGeometry", f"{plan.impossible}; name another configuration")
    elif seen.settled and shown is not None and (words := files.differs(plan, shown)):
        sentence = f"nvidia.com/mig.config {name} has not come about: {words}; what is shown counts"
        yield Concern("GeometryDiffers", f"{sentence}, and the MIG manager's log says why", True)


def _devices(seen: Observation) -> dict[str, int] | None:
    """The devices by profile as labels count them; None where no label does."""
    facts = seen.facts
    if facts.devices is None:
        return None
    if facts.profile:
        return {facts.profile: facts.devices}
    shown = {resource.profile for resource in seen.offer.resources if resource.profile}
    if not shown <= facts.slices.keys():
        return None
    return {profile: facts.slices[profile].count for profile in shown}


def _sharing(seen: Observation, configs: Configs) -> Iterable[Concern]:
    name = seen.operator.plugin_config
    if not name or not configs.sharings:
        return
    try:
        sharing = files.sharing_of(name, configs)
    except ConfigError as error:
        yield Concern("MissingPluginConfig", str(error))
        return
    if not seen.settled:
        return
    for resource in seen.offer.resources:
        base = resource.name.removesuffix(keys.SHARED_SUFFIX)
        wanted = sharing.replicas.get(base, 1)
        if resource.replicas != wanted:
            yield Concern(
                "SharingDiffers",
                f"{keys.DEVICE_PLUGIN_CONFIG} {name} plans {wanted} shares of each {base}, the node shows "
                f"{resource.replicas}; restart its device plugin, which does not notice an edited ConfigMap",
                True,
            )
