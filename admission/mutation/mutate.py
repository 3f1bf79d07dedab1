"""One object as it came -> what becomes of it.  Pure.

CREATE decides (`creating`), UPDATE repeats (`updating`). Children that their owner compares with what it rendered are
never touched; Pods are the last resort, and a no-op when their template was done.
"""

from typing import Any, Final

import msgspec

from admission.decision.cluster_state import ClusterState
from admission.decision.gpu_requests import wanting
from admission.decision.manifest import Manifests
from admission.decision.model import Reason, Refusal
from admission.decision.policy_resolution import opted_in
from admission.decision.requester import NOBODY, Requester
from admission.mutation.create import create
from admission.mutation.outcome import Outcome, Verdict
from admission.mutation.template_patch import Operation
from admission.mutation.update import applied_again, update
from admission.workloads.builtin_kinds import COMPARING_OWNERS
from admission.workloads.decoder import Reader
from admission.workloads.model import NO_METADATA, Workload
from slicewise.api import keys

_IGNORED: Final = Outcome(Verdict.IGNORED)
MOST_CONTAINERS: Final = 500
"""In one object that asks for GPUs: more than any has, and few enough for one answer to hold up nobody."""


def judge(
    reader: Reader,
    raw: bytes,
    old: bytes | None,
    namespace: str,
    world: ClusterState,
    author: Requester = NOBODY,
) -> Outcome:
    """Judges one object; `old` is what stood before, for an UPDATE.

    Raises:
        Refusal: the policy says no.
        msgspec.DecodeError: the bytes cannot be read.
    """
    if namespace in world.protected:
        return _IGNORED
    workload = reader.read(raw, namespace)
    if not_ours(reader, workload, marks=author.may_mark(world)):
        return _IGNORED
    if (crowd := _crowd(workload)) and (labels := opted_in(namespace, world)) is not None:
        if labels.get(keys.MODE) != "audit":
            raise Refusal(crowd, Reason.TOO_LARGE)
        return Outcome(Verdict.AUDITED, warnings=[f"audit: would be refused: {crowd}"])
    if old is None:
        return _rooted(raw, workload, create(workload, world))
    before = reader.read(old, namespace)
    if workload.metadata.controller is not None and author.is_controller:
        return _IGNORED  # its owner's word: nothing is put back, so that nobody fights
    if workload.kind == "Pod" and not applied_again(workload, before):
        return _IGNORED  # a pod's devices never change (validation.go, ValidatePodUpdate)
    return _rooted(raw, workload, update(workload, before, world, Manifests(raw, old)))


def _crowd(workload: Workload) -> str:
    """Says that the object has more containers than are looked at one by one; "" when it has not.

    A record of the decision has some hundred bytes for each container, and all annotations may have 256 KiB.
    """
    count = sum(
        len(template.spec.containers or ()) + len(template.spec.init_containers or ())
        for template in workload.templates
    )
    if count <= MOST_CONTAINERS or not any(wanting(template.spec) for template in workload.templates):
        return ""
    return (
        f"{workload.title}: has {count} containers, and of an object that asks for GPUs at most {MOST_CONTAINERS} "
        "are looked at; split it into several"
    )


class _Root(msgspec.Struct, frozen=True):
    metadata: dict[str, Any] | None = None


def _rooted(raw: bytes, workload: Workload, outcome: Outcome) -> Outcome:
    """Gives an object without metadata some, where operations would write beneath it."""
    if not outcome.operations or workload.metadata != NO_METADATA:
        return outcome
    if msgspec.json.decode(raw, type=_Root).metadata is not None:
        return outcome
    first: Operation = {"op": "add", "path": "/metadata", "value": {}}
    return msgspec.structs.replace(outcome, operations=[first, *outcome.operations])


def not_ours(reader: Reader, workload: Workload, *, marks: bool = True) -> bool:
    """True for objects that must be left alone byte for byte; `marks` is whether labels that say so are believed."""
    metadata = workload.metadata
    if not reader.kind.namespaced:
        return True  # no namespace has opted it in; the pods that are made of it are mended
    if marks and metadata.label("kubevirt.io") == "virt-launcher":
        return True  # finds its devices by the name in its environment (virt-launcher, addresspool.go)
    if workload.kind == "Pod" and metadata.annotation(keys.MIRROR_POD) is not None:
        return True  # no kubelet runs one that it did not make itself
    if marks and (metadata.label(keys.KUEUE_MULTIKUEUE_ORIGIN) or metadata.label(keys.KUEUE_PREBUILT)):
        return True  # a copy that differs from its origin is called out of sync (kueue, equality/podset.go)
    owner = metadata.controller
    if owner is None or {"*", owner.group_kind} & reader.kind.safe_owners:
        return False
    return owner.group_kind in COMPARING_OWNERS
