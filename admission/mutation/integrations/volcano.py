"""Side fields of Volcano's kinds, and of the scheduler plugins' PodGroup.  Pure."""

from admission.mutation.integrations.malformed import dicts
from admission.mutation.integrations.side_fields import WHOLE, Case, moved
from slicewise.api import keys


def hyperjob(case: Case) -> None:
    """`acceleratorType` is a resource name; it follows its own replicated job."""
    for index, job in dicts(case.value.get("replicatedJobs")):
        policy = job.get("splitPolicy")
        if not isinstance(policy, dict) or policy.get("acceleratorType") != keys.GPU:
            continue
        base = f"{case.pointer}/replicatedJobs/{index}/"
        beneath = [each for each in case.given if each[0].spec_pointer.startswith(base)]
        got = {each.to: each for given in beneath for each in moved(*given)}
        if len(got) > 1:
            raise case.unfit(
                f"spec.replicatedJobs[{index}].splitPolicy counts one resource, but its tasks get "
                f"{' and '.join(sorted(got))}; ask for the same number of GPUs in each task, or {WHOLE}"
            )
        for name, each in got.items():
            policy["acceleratorType"] = name
            if each.count != each.asked and isinstance(policy.get("accelerators"), int):
                policy["accelerators"] = policy["accelerators"] * each.count // each.asked


def jobflow(case: Case) -> None:
    """Volcano does not read `patch` yet."""
    case.warn("spec.flows[].patch asks for GPUs, but Volcano takes them from the JobTemplate; ask there")


def podgroup(case: Case) -> None:
    """A total does not say how many GPUs each pod asks for."""
    if case.names:
        case.warn(
            f"spec.minResources is read as a total over pods of one GPU each, so it asks for {', '.join(case.names)}"
        )
