"""Side fields of Ray's kinds.  Pure."""

from collections.abc import Mapping
from typing import Any, Final

from admission.decision.model import Assigned
from admission.mutation.integrations.malformed import dicts, mapping
from admission.mutation.integrations.side_fields import Case, follow_count, forget_count, renew_count
from slicewise.api.quantities import QuantityError, parse

_Groups = Mapping[str, tuple[str, dict[str, Any]]]
"""Groups by name, each with its pointer."""


def ray(case: Case) -> None:
    """Says `num-gpus` where Ray would not count the new name: its autoscaler knows the suffix `gpu` alone."""
    before = _by_name(case.before)
    for pointer, group in _groups(case.value):
        got = dict(case.at(f"{pointer}/template/spec"))
        first = _first_container(group)
        if first not in got:
            _forget(case, pointer, group, before)
            continue
        each = got[first]
        _renew(case, pointer, group, before, each)
        own, parameters = group.get("resources"), group.get("rayStartParams")
        if isinstance(own, dict) and own:
            # It rules num-gpus, and both together are refused; a key that ends so means it (utils/resources.go).
            known = [key for key in own if key.lower().endswith("gpu")]
            for key in known:
                follow_count(own, key, [each])
            if not known and not each.to.endswith("gpu"):
                own["GPU"] = str(each.count)
        elif isinstance(parameters, dict) and "num-gpus" in parameters:
            follow_count(parameters, "num-gpus", [each])
        elif not each.to.endswith("gpu"):
            if not isinstance(parameters, dict):
                parameters = group["rayStartParams"] = {}
            parameters["num-gpus"] = str(each.count)


def without_counts(case: Case) -> None:
    """Takes the counts away that nobody but us wrote, where no group asks for a GPU any more."""
    before = _by_name(case.before)
    for pointer, group in _groups(case.value):
        _forget(case, pointer, group, before)


_COUNTS: Final = (("rayStartParams", "num-gpus"), ("resources", "GPU"))
"""Where we write how many GPUs a group has."""


def _forget(case: Case, pointer: str, group: dict[str, Any], before: _Groups) -> None:
    """Takes away the count of what a group had been given, where it is as we wrote it."""
    stood, had = _former(case, pointer, group, before)
    for field, key in _COUNTS:
        if isinstance(counts := group.get(field), dict):
            forget_count(
                case, counts, key, f"{pointer}/{field}/{key}", mapping(stood.get(field)).get(key), had
            )


def _renew(case: Case, pointer: str, group: dict[str, Any], before: _Groups, each: Assigned) -> None:
    """Likewise where it is given another number now."""
    stood, had = _former(case, pointer, group, before)
    for field, key in _COUNTS:
        if isinstance(counts := group.get(field), dict):
            number = mapping(stood.get(field)).get(key)
            renew_count(case, counts, key, f"{pointer}/{field}/{key}", number, had, each)


def _former(
    case: Case, pointer: str, group: dict[str, Any], before: _Groups
) -> tuple[dict[str, Any], list[Assigned]]:
    """Returns a group as it stood, and what it had been given of which Ray would not have counted the name."""
    place, stood = before.get(_name(pointer, group), ("", {}))
    given = case.had(f"{case.pointer}{place}/template/spec").get(_first_container(stood))
    return stood, [] if given is None or given.to.endswith("gpu") else [given]


def _groups(value: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    head = value.get("headGroupSpec")
    groups = [("/headGroupSpec", head)] if isinstance(head, dict) else []
    return groups + [(f"/workerGroupSpecs/{i}", each) for i, each in dicts(value.get("workerGroupSpecs"))]


def _by_name(value: Mapping[str, Any]) -> _Groups:
    return {_name(pointer, group): (pointer, group) for pointer, group in _groups(value)}


def _name(pointer: str, group: Mapping[str, Any]) -> str:
    return str(group.get("groupName") or pointer)


def _first_container(group: Mapping[str, Any]) -> str:
    found = mapping(mapping(group.get("template")).get("spec")).get("containers")
    return str(mapping(found[0]).get("name", "")) if isinstance(found, list) and found else ""


def rayjob(case: Case) -> None:
    """The entrypoint may not ask Ray for more GPUs than its largest group has now."""
    most = max((each.count for _, each in case.all()), default=0)
    try:
        wanted = parse(case.value.get("entrypointNumGpus") or 0)
    except QuantityError:
        return
    if wanted > most and any(each.count < each.asked for _, each in case.all()):
        case.value["entrypointNumGpus"] = most
        case.warn(f"spec.entrypointNumGpus is {most} now, as no group has more")
    if "accelerator_type" in str(case.value.get("entrypointResources", "")):
        case.warn("spec.entrypointResources names an accelerator type and is left alone")


def rayservice(case: Case) -> None:
    """A Serve configuration is a text of its own; what it asks for is left, and said where it no longer fits."""
    fewer = any(each.count < each.asked for _, each in case.all())
    if fewer and "num_gpus" in str(case.value.get("serveConfigV2", "")):
        case.warn(
            "spec.serveConfigV2 asks for num_gpus and is left alone, but its groups have fewer GPUs now"
        )
