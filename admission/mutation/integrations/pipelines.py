"""Side fields of Argo Workflows and Tekton.  Pure."""

from admission.mutation.integrations.malformed import dicts, mapping
from admission.mutation.integrations.side_fields import Case
from slicewise.api import keys


def argo(case: Case) -> None:
    """Patches of pod specs are texts, applied last."""
    spec = case.value
    texts = [spec.get("podSpecPatch"), mapping(spec.get("templateDefaults")).get("podSpecPatch")]
    texts += [each.get("podSpecPatch") for _, each in dicts(spec.get("templates"))]
    if any(keys.VENDOR in str(text) for text in texts):
        case.warn(
            f"podSpecPatch names {keys.VENDOR}… and is left alone; each pod is decided on when it is made"
        )


def taskrun(case: Case) -> None:
    """Task-level limits are repeated on every step."""
    steps = mapping(case.value.get("taskSpec")).get("steps")
    if isinstance(steps, list) and len(steps) > 1 and any(name == "main" for name, _ in case.all()):
        case.warn(
            "spec.computeResources repeats its limit on each step; ask for GPUs in one step's own instead"
        )
