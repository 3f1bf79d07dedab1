"""Our own parts: definitions and Deployments."""

from collections.abc import Iterator
from typing import Final

from slicewise.api import keys
from slicewise.cli.doctor.cluster import Patient, named, space
from slicewise.cli.doctor.findings import Finding
from slicewise.kube.object_types import DEFINITION, DEPLOYMENT
from slicewise.kube.snapshot import Object

DEFINITIONS: Final = ("slicingpolicies.slicewise.io", "quotaplans.slicewise.io")
_APP, _COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"


def check(patient: Patient) -> Iterator[Finding]:
    """Definitions and Deployments."""
    yield from _definitions(patient)
    yield from _deployments(patient)


def _definitions(patient: Patient) -> Iterator[Finding]:
    if not patient.saw(DEFINITION):
        return
    there = {named(item) for item in patient.snapshot.of(DEFINITION)}
    for name in DEFINITIONS:
        if name not in there:
            yield Finding(
                "DefinitionMissing",
                "CustomResourceDefinition",
                name,
                "the definition is not there, so its objects cannot be written",
                "Apply manifests/crds/ or the chart again.",
            )


def _deployments(patient: Patient) -> Iterator[Finding]:
    if not patient.saw(DEPLOYMENT):
        return
    ours: dict[str, Object] = {}
    for item in patient.snapshot.of(DEPLOYMENT):
        labels = item["metadata"].get("labels") or {}
        if labels.get(_APP) == "slicewise":
            ours[str(labels.get(_COMPONENT))] = item
    for part, without in (
        ("webhook", "nothing is rewritten"),
        ("controller", "quotas no longer follow the nodes"),
    ):
        if part not in ours:
            yield Finding(
                "DeploymentMissing",
                "Deployment",
                f"slicewise-{part}",
                f"the {part} is not installed, so {without}",
                "Apply manifests/ or the chart again.",
                keys.OWN_NAMESPACE,
            )
            continue
        item = ours[part]
        wanted = int(item.get("spec", {}).get("replicas", 1))
        available = int((item.get("status") or {}).get("availableReplicas") or 0)
        if available < min(wanted, 1) or wanted == 0:
            sentence = f"{available} of {wanted} replicas are available, so {without}"
            fix = f"Look at its pods: kubectl -n {space(item)} describe deployment {named(item)}."
            yield Finding("DeploymentUnavailable", "Deployment", named(item), sentence, fix, space(item))
        elif part == "webhook" and min(wanted, available) < 2:
            sentence = f"{available} of {wanted} replicas are available; with a single one, a drained node is an outage"
            fix = "Run two replicas or more."
            yield Finding("DeploymentSingle", "Deployment", named(item), sentence, fix, space(item))
