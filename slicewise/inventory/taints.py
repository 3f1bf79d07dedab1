"""Taints of nodes: which pass by themselves, and which make a supply of its own.

A node that is leaving or not there yet is not counted. What stays on a node keeps pods out that do not tolerate it,
so nodes with other lasting taints are another pool and another flavor (Kueue compares `nodeTaints` with tolerations).
"""

from collections.abc import Iterable
from typing import Final

from slicewise.api import keys
from slicewise.inventory.node import Taint

LEAVING: Final = "the taint {} says that the node is about to be removed"
STARTING: Final = "the taint {} says that the node is not ready for work yet"
UNWELL: Final = "the node has the taint {}"

# A taint's key, or a prefix of it that ends with "/". Sources: reference pages of each project, by the key's domain;
# Cluster Autoscaler's FAQ ("startup taints", "status taints"; "ignore taints" are startup taints), Node Readiness
# Controller's README, AKS "node auto-repair" and its release notes, which renamed the taint.
TRANSIENT: Final = {
    "node.kubernetes.io/": UNWELL,
    "node.cloudprovider.kubernetes.io/shutdown": UNWELL,
    "remediator.aks.microsoft.com/unschedulable": UNWELL,
    "remediator.kubernetes.azure.com/unschedulable": UNWELL,
    "status-taint.cluster-autoscaler.kubernetes.io/": UNWELL,
    "ToBeDeletedByClusterAutoscaler": LEAVING,
    "karpenter.sh/disruption": LEAVING,
    "karpenter.sh/disrupted": LEAVING,
    "cloud.google.com/impending-node-termination": LEAVING,
    "aws-node-termination-handler/": LEAVING,
    "karpenter.sh/unregistered": STARTING,
    "node.cloudprovider.kubernetes.io/uninitialized": STARTING,
    "startup-taint.cluster-autoscaler.kubernetes.io/": STARTING,
    "ignore-taint.cluster-autoscaler.kubernetes.io/": STARTING,
    "readiness.k8s.io/": STARTING,
    "node.cilium.io/agent-not-ready": STARTING,
    "ebs.csi.aws.com/agent-not-ready": STARTING,
    "efs.csi.aws.com/agent-not-ready": STARTING,
}


def keeps_out(taint: Taint) -> bool:
    """True for a taint that the scheduler obeys; the soft ones (PreferNoSchedule) keep nobody out."""
    return taint.effect in {"NoSchedule", "NoExecute"}


def passing(taint: Taint, more: Iterable[str] = ()) -> str:
    """Says why a node with this taint is not counted for now; "" for a taint that stays.

    Args:
        taint: one taint of a node.
        more: further keys, or prefixes that end with "/", from `--transient-taints`.
    """
    if not keeps_out(taint):
        return ""
    for key, words in (*TRANSIENT.items(), *((key, STARTING) for key in more)):
        if taint.key == key or (key.endswith("/") and taint.key.startswith(key)):
            return words.format(taint.key)
    return ""


def lasting(taints: Iterable[Taint], more: Iterable[str] = ()) -> tuple[Taint, ...]:
    """Returns the taints that make nodes a supply of their own, in order of key.

    The customary one of GPU nodes does not: everything that asks for a GPU tolerates it.
    """
    extra = tuple(more)
    stay = {
        taint
        for taint in taints
        if keeps_out(taint)
        and not passing(taint, extra)
        and (taint.key, taint.effect) != (keys.GPU, keys.TOLERATION["effect"])
    }
    return tuple(sorted(stay, key=lambda taint: (taint.key, taint.value, taint.effect)))
