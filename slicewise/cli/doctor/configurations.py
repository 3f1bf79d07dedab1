"""The configuration files of the MIG manager and the device plugin, against the nodes that ask for them."""

from collections.abc import Iterator
from typing import Final

from slicewise.api import keys
from slicewise.cli.doctor.cluster import Patient, named, space
from slicewise.cli.doctor.findings import Finding, parted
from slicewise.inventory import gpu_operator, planned_geometry
from slicewise.kube.object_types import CONFIG_MAP

# The controller's word for a concern -> doctor's, where they differ.
_CODES: Final = {
    "ImpossibleGeometry": "GeometryImpossible",
    "UnknownGeometry": "GeometryUnknown",
    "MissingPluginConfig": "PluginConfigMissing",
}
_FIXES: Final = {
    "ImpossibleGeometry": "Choose a geometry that the board has; nothing changes on the node until then.",
    "GeometryDiffers": f"Write {keys.MIG_CONFIG} again to have the MIG manager repeat it, and look at its log.",
}


def check(patient: Patient) -> Iterator[Finding]:
    """Files that cannot be read or promise too much, and nodes that ask for what cannot be."""
    for item in patient.snapshot.of(CONFIG_MAP):
        found, complaints = gpu_operator.collect([item])
        for complaint in complaints:
            sentence = complaint.removeprefix(f"ConfigMap {named(item)}: ")
            fix = "Correct the entry; the program that reads the file refuses it too."
            yield Finding("ConfigUnreadable", "ConfigMap", named(item), sentence, fix, space(item))
        for name, sharing in sorted(found.sharings.items()):
            if sharing.replicas and not sharing.fails_above_one:
                sentence = f"{name}: a pod that asks for two shares gets two and no more than one GPU's time"
                fix = f"Set sharing.{_field(sharing)}.failRequestsGreaterThanOne: true."
                yield Finding("SharesAddUp", "ConfigMap", named(item), sentence, fix, space(item))
    known = patient.configs
    examples = ", ".join(sorted(known.geometries)[:8])
    for node, seen in patient.gpu_nodes:
        for concern in planned_geometry.concerns(seen, known):
            sentence, fix = parted(concern.sentence)
            if concern.code == "UnknownGeometry":
                fix = f"Correct the label {keys.MIG_CONFIG}; there are for example: {examples}."
            code = _CODES.get(concern.code, concern.code)
            yield Finding(code, "Node", node.name, sentence, _FIXES.get(concern.code, fix))


def _field(sharing: gpu_operator.Sharing) -> str:
    return "mps" if sharing.strategy == "mps" else "timeSlicing"
