"""What a plan says of its ClusterQueues beside quota, in Kueue's own fields (v1beta2, ClusterQueueSpec).

A field that is left out is not written, so that Kueue's default, or what an admin wrote into the queue, stays.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from slicewise.api.models import FieldError, Glob, Model, Name, Number
from slicewise.api.quantities import MOST, QuantityError, parse

CheckName = Annotated[str, StringConstraints(min_length=1, max_length=316)]


class BorrowWithinCohort(Model):
    """Whom a workload of this queue may preempt in others while it borrows."""

    policy: Literal["Never", "LowerPriority"] = Field("Never", description="Whom; left out: nobody.")
    max_priority_threshold: Number | None = Field(
        None, ge=-(2**31), le=2**31 - 1, description="Only workloads of this priority or less."
    )


class Preemption(Model):
    """Whom workloads of this queue may preempt."""

    within_cluster_queue: Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority"] | None = Field(
        None, description="In the queue itself."
    )
    reclaim_within_cohort: Literal["Never", "LowerPriority", "Any"] | None = Field(
        None, description="In other queues of the cohort, to get back what they borrow."
    )
    borrow_within_cohort: BorrowWithinCohort | None = Field(
        None, description="In other queues, while borrowing."
    )

    @model_validator(mode="after")
    def _reclaims(self) -> Self:
        borrows = self.borrow_within_cohort is not None and self.borrow_within_cohort.policy != "Never"
        if borrows and self.reclaim_within_cohort in {None, "Never"}:
            raise FieldError(
                "borrowWithinCohort",
                "Kueue takes it only beside reclaimWithinCohort; set that to LowerPriority or Any",
            )
        return self


class FairSharing(Model):
    """How the queue shares what its cohort leaves unused."""

    weight: int | str = Field(1, description="Relative to other queues of the cohort; a quantity, 0 or more.")

    @model_validator(mode="after")
    def _positive(self) -> Self:
        try:
            weight = parse(self.weight)
        except QuantityError as error:
            raise FieldError("weight", f"{error}; write for example 2") from None
        if not 0 <= weight <= MOST:
            raise FieldError("weight", f"it is not between 0 and {MOST}; write for example 2")
        return self


class AdmissionCheck(Model):
    """A check that workloads of the queue must pass."""

    name: CheckName = Field(description="Name of the AdmissionCheck.")
    on_flavors: tuple[Glob, ...] = Field(
        (), description="Only on these pools, by glob on their names; left out: on all.", max_length=64
    )


Search = Literal["MayStopSearch", "TryNextFlavor"]


class FlavorFungibility(Model):
    """When Kueue tries the next flavor, so the next pool, instead of borrowing or preempting in this one."""

    when_can_borrow: Search | None = Field(None, description="Where the workload would have to borrow.")
    when_can_preempt: Search | None = Field(None, description="Where the workload would have to preempt.")
    preference: Literal["BorrowingOverPreemption", "PreemptionOverBorrowing"] | None = Field(
        None, description="Which of the two, where both try the next flavor."
    )

    @model_validator(mode="after")
    def _both_search(self) -> Self:
        both = self.when_can_borrow == self.when_can_preempt == "TryNextFlavor"
        if self.preference is not None and not both:
            raise FieldError(
                "preference", "Kueue takes it only where both others are TryNextFlavor; set them or remove it"
            )
        return self


class KueueFields(Model):
    """Fields of the ClusterQueues and LocalQueues of a plan that say nothing of quota."""

    preemption: Preemption | None = Field(None, description="Whom workloads of the queue may preempt.")
    fair_sharing: FairSharing | None = Field(None, description="fairSharing of the queue.")
    admission_checks: tuple[AdmissionCheck, ...] | None = Field(
        None, description="admissionChecksStrategy of the queue.", max_length=64
    )
    flavor_fungibility: FlavorFungibility | None = Field(
        None, description="When the next pool is tried instead of borrowing or preempting."
    )
    queueing_strategy: Literal["BestEffortFIFO", "StrictFIFO"] | None = Field(
        None, description="Whether a workload that does not fit holds up those behind it."
    )
    stop_policy: Literal["None", "Hold", "HoldAndDrain"] | None = Field(
        None, description="Whether the queue admits work."
    )
    local_queue_name: Name | None = Field(
        None, description="What the LocalQueues are called; left out: as the queue."
    )

    @model_validator(mode="after")
    def _checks_once(self) -> Self:
        names = [check.name for check in self.admission_checks or ()]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise FieldError("admissionChecks", f"{twice} is listed twice; give every check once")
        return self

    def over(self, defaults: "KueueFields") -> "KueueFields":
        """Returns these fields, each that is left out as the defaults have it."""
        return defaults.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})
