"""What doctor can find: one entry for each code, and findings in order of importance.

A finding is data: which object, one sentence on what is wrong, one on how to mend it. docs/doctor.md lists every
code (tests/docs compares the two).
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """Something does not work now."""
    WARNING = "warning"
    """Something will not work in a case that is to be expected."""
    NOTE = "note"
    """Something that is good to know."""


_E, _W, _N = Severity.ERROR, Severity.WARNING, Severity.NOTE

# Every code and its severity, by the part of the cluster that is looked at.
CODES: Final[dict[str, Severity]] = {
    # The installation
    "CallerMayNotRead": _N,
    "NotInstalled": _E,
    "DefinitionMissing": _E,
    "DeploymentMissing": _E,
    "DeploymentUnavailable": _E,
    "DeploymentSingle": _W,
    # The webhook
    "WebhookMissing": _E,
    "ValidatingWebhookMissing": _W,
    "WebhookOrder": _E,
    "WebhookNotReinvoked": _W,
    "WebhookSkipsNamespace": _E,
    "WebhookBlocksSystem": _E,
    "WebhookPolicyMixed": _W,
    "WebhookSlow": _W,
    "CABundleMissing": _E,
    "CABundleUnreadable": _E,
    "CABundleExpired": _E,
    "CABundleEndsSoon": _W,
    # Kueue and Volcano
    "EngineMissing": _E,
    "KueueTooOld": _E,
    "KueueStoresOldVersion": _N,
    "KueueRetriesLate": _N,
    "KueueExcludesNames": _E,
    "KueueTransformsNames": _W,
    "KueueMapsClasses": _E,
    "TooManyFlavors": _W,
    "QueueInactive": _E,
    "QueueSelectsNobody": _E,
    "LocalQueueDangling": _E,
    "VolcanoIgnoresDeserved": _W,
    "VolcanoHierarchyFragile": _W,
    "VolcanoParentMissing": _E,
    "VolcanoWorkInParent": _E,
    # Namespaces
    "PolicyMissing": _E,
    "ModeUnknown": _E,
    "ClassUnknown": _E,
    "EngineUnknown": _E,
    "EngineWithoutQueue": _W,
    "QueueMissing": _E,
    "NamespaceNotQueued": _N,
    "LabelUnknown": _W,
    "LabelsWithoutPolicy": _W,
    "SystemNamespaceLabelled": _W,
    "ResourceQuotaMissesWork": _W,
    "LimitRangeRestoresName": _E,
    # Policies
    "PolicyUnusable": _E,
    "PolicyUnused": _N,
    "ClassUnserved": _W,
    "ClassFallsBack": _N,
    "ClassPrefersScarce": _W,
    "NeedUnserved": _N,
    "FallbackNeverFits": _W,
    "ProfileImpossible": _E,
    "ProfileIgnored": _W,
    "PolicyKindUnknown": _W,
    # Nodes
    "NoGPUNode": _W,
    "NodeUnusable": _E,
    "NodeUnlabelled": _E,
    "NodeInvalidGeometry": _E,
    "NodeStrategyNone": _E,
    "NodeGeometryFailed": _E,
    "NodeHeldTooLong": _E,
    "NodeNotBelieved": _W,
    "NodeHeld": _N,
    "NodePartlyCounted": _W,
    "NodeDevicesLost": _W,
    "NodeOfferedTwice": _W,
    "NodeTwoModels": _W,
    "NodePoolLabelStale": _W,
    "PluginHidesProfiles": _W,
    # The configuration of the MIG manager and the device plugin
    "GeometryImpossible": _E,
    "GeometryDiffers": _W,
    "GeometryUnknown": _W,
    "PluginConfigMissing": _E,
    "SharingDiffers": _W,
    "SharesAddUp": _W,
    "ConfigUnreadable": _W,
    # Plans and quota
    "PlanUnusable": _E,
    "PlanRefused": _E,
    "PlanProblem": _W,
    "PoolNeverMade": _W,
    "PoolNamedAlike": _N,
    "MaximumWithoutPerNode": _N,
    "PlanWithoutPools": _W,
    "PlanPartIdle": _W,
    "QueueGetsNothing": _N,
    "PlanNotWritten": _N,
    "QuotaNotWritten": _W,
    "FlavorsOverlap": _E,
    "QuotaWithoutNodes": _E,
    "UseAboveQuota": _W,
    "NameNotOffered": _W,
    "ClaimBesideQuota": _W,
    "OnOtherEnginesNodes": _W,
}

_RANK: Final = {severity: rank for rank, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or risky, and how to mend it."""

    code: str
    kind: str
    name: str
    sentence: str
    fix: str
    namespace: str = ""
    group: str = ""
    """API group of the kind, where that alone does not say it: a Job is one of batch, or of Volcano."""

    @property
    def severity(self) -> Severity:
        """How much it matters."""
        return CODES.get(self.code, Severity.WARNING)

    @property
    def object(self) -> str:
        """The object that it is about, as kubectl would name it."""
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"

    def document(self) -> dict[str, Any]:
        """The finding as `slicewise doctor -o json` prints it."""
        fields = asdict(self)
        order = ("code", "kind", "namespace", "name", "sentence", "fix")
        return {"severity": str(self.severity), **{field: fields[field] for field in order}}


def parted(sentence: str) -> tuple[str, str]:
    """What is wrong, and what to do: the sentences of the other parts hold both, the second after a semicolon."""
    what, _, fix = sentence.rpartition("; ")
    return (what, f"{fix[:1].upper()}{fix[1:]}.") if what else (sentence, "See docs/debug.md.")


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once; what matters most first, then by code and object."""
    unique = dict.fromkeys(findings)
    return sorted(unique, key=lambda f: (_RANK[f.severity], f.code, f.kind, f.namespace, f.name, f.sentence))
