"""Side fields that an admin's own kinds may name: totals, and counts that follow.  Pure."""

from admission.mutation.integrations.side_fields import Case, follow_count, rename_total, without_total
from admission.workloads.path_language import places, steps_of


def total(case: Case) -> None:
    """A resource map of any kind that is a total over its pods, each counted once."""
    place = f"{case.pointer[1:].replace('/', '.')}.{case.field}"
    for _, amounts in places(case.value, steps_of(case.field)):
        rename_total(case, amounts, place, {})


def without(case: Case) -> None:
    """Takes what its pods asked for out of such a total, where they ask for no GPU any more."""
    for _, amounts in places(case.value, steps_of(case.field)):
        without_total(case, amounts)


def follow(case: Case) -> None:
    """A field of any kind that repeats how many GPUs a container asks for."""
    *holder, last = steps_of(case.field)
    got = [each for _, each in case.all()]
    for _, value in places(case.value, tuple(holder)):
        if isinstance(value, dict):
            follow_count(value, last, got)
