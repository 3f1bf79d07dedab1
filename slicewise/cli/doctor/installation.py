"""Our own parts: definitions and Deployments."""

from collections.abc import Iterator
from typing import Final

from slicewise.api import keys
from slicewise.cli.doctor.cluster import Patient, is_installed, is_our_webhook, named, space
from slicewise.cli.doctor.findings import Finding
from slicewise.kube.object_types import DEFINITION, DEPLOYMENT, MUTATING, VALIDATING
from slicewise.kube.snapshot import Object

DEFINITIONS: Final = ("slicingpolicies.slicewise.io", "quotaplans.slicewise.io")
_COMPONENT: Final = "app.kubernetes.io/component"


def check(patient: Patient) -> Iterator[Finding]:
    """Definitions and Deployments."""
    if not installed(patient):
        yield Finding(
            "NotInstalled",
            "Namespace",
            keys.OWN_NAMESPACE,
            "Slicewise is not installed: there is no definition, server or webhook configuration of it",
            "Install it (docs/install.md); `slicewise explain`, `pools` and `plan` work without.",
        )
        return
    yield from _definitions(patient)
    yield from _deployments(patient)


def installed(patient: Patient) -> bool:
    """False where definitions and Deployments were looked at and there is nothing of Slicewise in the cluster."""
    return (
        not (patient.saw(DEFINITION) and patient.saw(DEPLOYMENT))
        or any(named(item) in DEFINITIONS for item in patient.snapshot.of(DEFINITION))
        or any(is_installed(item) for item in patient.snapshot.of(DEPLOYMENT))
        or any(is_our_webhook(item) for kind in (MUTATING, VALIDATING) for item in patient.snapshot.of(kind))
    )


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
        if is_installed(item):
            ours[str(item["metadata"]["labels"].get(_COMPONENT))] = item
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
