"""Which objects are left alone byte for byte, whatever they ask for.  Pure."""

from admission.decision.cluster_state import ClusterState
from admission.decision.requester import Requester
from admission.workloads.builtin_kinds import COMPARING_OWNERS
from admission.workloads.model import Workload
from slicewise.api import keys


def is_exempt(workload: Workload, author: Requester, state: ClusterState) -> bool:
    """True for objects that must be left alone: labels that say so are believed of some authors."""
    metadata = workload.metadata
    if not workload.row.namespaced:
        return True  # no namespace has opted it in; the pods that are made of it are rewritten
    if metadata.labels and keys.is_left(metadata.labels) and author.may_mark(state):
        return True
    if metadata.annotations and keys.MIRROR_POD in metadata.annotations and workload.row.is_pod:
        return True  # no kubelet runs one that it did not make itself
    owner = metadata.controller if metadata.owner_references else None
    if owner is None or {"*", owner.group_kind} & workload.row.safe_owners:
        return False
    return owner.group_kind in COMPARING_OWNERS
