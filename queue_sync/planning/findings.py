"""What slipped through, as data: one object, one code, one sentence."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is not as it should be."""

    kind: str
    namespace: str
    name: str
    code: str
    """NameNotOffered, QuotaWithoutNodes, UseAboveQuota, OnOtherEnginesNodes, ResourceQuotaMissesWork or
    LimitRangeRestoresName."""
    sentence: str
    group: str = ""
    """API group of the kind, where that alone does not say it: a Job is one of batch, or of Volcano."""
