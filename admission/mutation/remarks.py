"""What is said of a new object's requests as people wrote them, whatever is decided.  Pure."""

from difflib import get_close_matches
from itertools import islice
from typing import Final

from admission.decision.cluster_state import ClusterState
from admission.decision.gpu_requests import (
    anywhere,
    containers,
    gpu_requests,
    of_the_pod,
    other_names,
    plain,
    unlimited,
)
from admission.decision.model import Decision, GpuRequest, Reason, Refusal
from admission.decision.node_selector import requirement_count
from admission.mutation.changes import is_readable
from admission.workloads.model import Template, Workload
from slicewise.api import keys

MOST_CONTAINERS: Final = 500
"""In one object that asks for GPUs: more than any has, and few enough for one answer to hold up nobody."""
MOST_REQUIREMENTS: Final = 500
"""Of nodes, likewise: each is held against each node that has GPUs."""

_MOST_NAMES: Final = 8
_LONGEST_NAME: Final = 64
_ALIKE: Final = 0.8
"""Of two names: as `gpus` and `gpu` are, and `gpumem` of HAMi and `gpu` are not."""


def check_size(workload: Workload, old: Workload | None = None) -> None:
    """Checks that an object that asks for GPUs has no more containers, and asks no more of nodes, than is looked at.

    One that asked for GPUs as it stood may have as many as then: what keeps its pods to pools stands in each of its
    alternatives, and what stands must be open to change.

    A record of the decision has some hundred bytes for each container, and all annotations may have 256 KiB.

    Raises:
        Refusal: it has more.
    """
    stood = old if old is not None and any(gpu_requests(each.spec) for each in old.templates) else None
    count = _container_count(workload)
    if count > MOST_CONTAINERS and (stood is None or count > _container_count(stood)):
        raise Refusal(
            f"{workload.title}: has {count} containers, and of an object that asks for GPUs at most "
            f"{MOST_CONTAINERS} are looked at; split it into several",
            Reason.TOO_LARGE,
        )
    count = _requirement_count(workload)
    if count > MOST_REQUIREMENTS and (stood is None or count > _requirement_count(stood)):
        raise Refusal(
            f"{workload.title}: asks {count} things of its nodes by nodeSelector and required affinity, and of an "
            f"object that asks for GPUs at most {MOST_REQUIREMENTS} are looked at; list the values that will do in one "
            "requirement",
            Reason.TOO_LARGE,
        )


def _container_count(workload: Workload) -> int:
    count = 0
    for template in workload.templates:
        count += len(template.spec.containers or ()) + len(template.spec.init_containers or ())
    return count


def _requirement_count(workload: Workload) -> int:
    count = 0
    for template in workload.templates:
        count += requirement_count(template.spec)
    return count


def check_names(workload: Workload, asked: list[GpuRequest]) -> None:
    """Checks that no container asks for a GPU by the old name and by another.

    Raises:
        Refusal: one does.
    """
    for each in asked:
        if each.gpus and each.named:
            raise Refusal(
                f"{workload.title}: container {each.container.name!r} asks for {keys.GPU} and for "
                f"{', '.join(each.named)}; ask for one of them",
                Reason.BOTH_NAMES,
            )


def repeated_name(template: Template) -> str:
    """Returns a name that two containers of a pod spec have, which makes no pod (validation.go, validateContainers) and
    says of neither what it was given; "" where each has its own. What a kind keeps elsewhere it names itself."""
    names = [
        container.name for pointer, container in containers(template.spec) if pointer not in template.slots
    ]
    return "" if len({*names}) == len(names) else next(name for name in names if names.count(name) > 1)


def misplaced(workload: Workload) -> list[str]:
    """Warns of devices that a template asks for where Kubernetes gives none."""
    return [
        f"{workload.title}: {template.spec_pointer}/resources asks for {name} for the pod as a whole, which "
        "Kubernetes gives to containers alone, and is left alone; ask for it in a container"
        for template in workload.templates
        if template.spec.resources
        for name in of_the_pod(template)
    ]


def of_unknown_kinds(workload: Workload) -> list[str]:
    """Warns of objects within a workload that ask for devices and are of kinds that are not known here."""
    found = []
    for pointer, value in workload.of_unknown_kinds[:_MOST_NAMES]:
        if where := anywhere(value):
            kind = f"{value.get('kind', '')} of {value.get('apiVersion', '')}"
            found.append(
                f"{workload.title}: {pointer}{where} asks for GPUs and is left alone, for the kind {kind:.128} is not "
                "known here; its pods are decided on when they are made, and a row of --kinds-file makes the kind known"
            )
    return found


def misspelt_devices(workload: Workload, state: ClusterState) -> list[str]:
    """Warns of names that are nearly those of devices, and that no pool offers."""
    if not (others := other_names(workload.templates)):
        return []
    offered = {name for pool in state.all_pools() for name in pool.resources}
    known = {_rest(name): name for name in (keys.GPU, *offered)}
    found = []
    for container, name in islice(others, _MOST_NAMES):
        if name not in offered and (near := get_close_matches(_rest(name), known, 1, _ALIKE)):
            found.append(
                f"{workload.title}: container {container.name!r} asks for {name:.100}, which no pool offers; "
                f"did you mean {known[near[0]]}?"
            )
    return found


def _rest(name: str) -> str:
    return name[len(keys.VENDOR) :][:_LONGEST_NAME].lower()


def remarks(
    workload: Workload, asked: list[GpuRequest], state: ClusterState, record: Decision | None
) -> list[str]:
    """Warns of requests that nobody can read, and of names that no pool offers.

    What the `record` in the object gives is ours: another webhook changed the object, and this is its second round.
    """
    given = record.containers if record is not None else {}
    found = [
        f"{workload.title}: container {each.container.name!r} asks for {name} in its requests alone, which Kubernetes "
        "refuses; write the same number in its limits"
        for each in asked
        for name in unlimited(each)
        if workload.row.built_in and ((to := given.get(each.container.name)) is None or to.to != name)
    ]
    for each in asked:
        if not each.named and is_readable(each):
            continue
        title = f"{workload.title}: container {each.container.name!r}"
        if each.unreadable:
            found.append(f"{title} is left alone, its {each.unreadable}; write a whole number")
        elif not plain(each):
            found.append(
                f"{title} is left alone, its requests and limits of {keys.GPU} differ, which Kubernetes takes of "
                "nobody; write the same number in both"
            )
        found += [
            f"{title} asks for {name}, which no pool offers; ask for {keys.GPU} and let the policy choose"
            for name in each.named
            if not any(name in pool.resources for pool in state.all_pools())
        ]
    return found
