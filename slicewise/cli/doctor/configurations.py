"""The configuration files of the MIG manager and the device plugin, against the nodes that ask for them."""

from collections.abc import Iterator

from slicewise import configs, keys
from slicewise.cli.doctor.findings import Finding
from slicewise.cli.doctor.patient import CONFIG_MAP, Patient, named, space
from slicewise.nodes.observing import Observation, observe
from slicewise.nodes.projection import Node


def check(patient: Patient) -> Iterator[Finding]:
    """Files that cannot be read or promise too much, and nodes that ask for what cannot be."""
    if not patient.saw(CONFIG_MAP):
        return
    items = patient.snapshot.of(CONFIG_MAP)
    for item in items:
        found, complaints = configs.collect([item])
        for complaint in complaints:
            sentence = complaint.removeprefix(f"ConfigMap {named(item)}: ")
            fix = "Correct the entry; the program that reads the file refuses it too."
            yield Finding("ConfigUnreadable", "ConfigMap", named(item), sentence, fix, space(item))
        for name, sharing in sorted(found.sharings.items()):
            if sharing.replicas and not sharing.fails_above_one:
                sentence = f"{name}: a pod that asks for two shares gets two and no more than one GPU's time"
                fix = f"Set sharing.{_field(sharing)}.failRequestsGreaterThanOne: true."
                yield Finding("SharesAddUp", "ConfigMap", named(item), sentence, fix, space(item))
    known, _ = configs.collect(items)
    for node in patient.snapshot.nodes:
        seen = observe(node)
        if seen is not None:
            yield from _geometry(node, seen, known)
            yield from _sharing(node, known)


def _field(sharing: configs.Sharing) -> str:
    return "mps" if sharing.strategy == "mps" else "timeSlicing"


def _geometry(node: Node, seen: Observation, known: configs.Configs) -> Iterator[Finding]:
    config = node.labels.get(keys.MIG_CONFIG)
    if not config or not known.geometries:
        return
    plan = configs.planned(node.labels, known)
    if plan.unknown:
        names = ", ".join(sorted(known.geometries)[:8])
        fix = f"Correct the label {keys.MIG_CONFIG}; there are for example: {names}."
        yield Finding("GeometryUnknown", "Node", node.name, plan.unknown, fix)
    elif plan.impossible:
        fix = "Choose a geometry that the board has; nothing changes on the node until then."
        yield Finding("GeometryImpossible", "Node", node.name, plan.impossible, fix)
    elif seen.settled and keys.COUNT in node.labels:
        shown = {r.profile: r.quantity // max(1, r.replicas) for r in seen.offer.resources if r.profile}
        if words := configs.differs(plan, shown):
            fix = f"Write {keys.MIG_CONFIG} again to have the MIG manager repeat it, and look at its log."
            yield Finding("GeometryDiffers", "Node", node.name, f"{config}: {words}", fix)


def _sharing(node: Node, known: configs.Configs) -> Iterator[Finding]:
    if not known.sharings:
        return
    try:
        configs.sharing_of(node.labels, known)
    except configs.ConfigError as error:
        sentence, _, fix = str(error).partition("; ")
        yield Finding("PluginConfigMissing", "Node", node.name, sentence, f"{fix[:1].upper()}{fix[1:]}.")
