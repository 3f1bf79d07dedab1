"""Side fields of Spark's kinds.  Pure."""

from admission.mutation.integrations.malformed import mapping, number
from admission.mutation.integrations.side_fields import Case, rename_total, without_total


def spark(case: Case) -> None:
    """Spark's own settings speak of `gpu` alone; totals of the batch scheduler follow the pods."""
    options = case.value.get("batchSchedulerOptions")
    if isinstance(options, dict):
        executors = number(mapping(case.value.get("executor")).get("instances", 1))
        replicas = {
            f"{case.pointer}/executor": executors,
            f"{case.pointer}/executor/template/spec": executors,
        }
        rename_total(case, options.get("resources"), "spec.batchSchedulerOptions.resources", replicas)
    sparkconf(case)


def without_resources(case: Case) -> None:
    """Takes what its pods asked for out of the batch scheduler's total, where they ask for no GPU any more."""
    without_total(case, mapping(case.value.get("batchSchedulerOptions")).get("resources"))


def sparkconf(case: Case) -> None:
    """Settings that make Spark ask by itself are left: it schedules tasks by the word `gpu`."""
    settings = case.value.get("sparkConf")
    found = [key for key in settings if ".resource.gpu." in key] if isinstance(settings, dict) else []
    if found:
        case.warn(
            f"spec.sparkConf {sorted(found)[0]} is left alone; its pods are decided on when they are made"
        )
