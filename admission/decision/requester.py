"""Who sent an object, and whose word is enough to leave it alone.  Pure.

Pods of virtual machines and copies of MultiKueue must stay as they are, and labels say which they are. Anybody can
write a label, and would be rid of the policy with it; but nobody can choose who he is. So these labels are believed of
those who make such objects, KubeVirt's and Kueue's controllers, and of people to whom everything is allowed anyway.

The controllers of kube-system are not among them: they copy the labels of templates that anybody may have written.
"""

from typing import Final

import msgspec

from admission.decision.cluster_state import ClusterState
from admission.workloads.builtin_kinds import HOMES

_CLUSTER: Final = frozenset({"kube-system", "kube-public", "kube-node-lease"})
_ACCOUNT: Final = "system:serviceaccount:"
_PEOPLES: Final = ("kubectl", "helm")
"""How the field managers of people's tools begin."""
_ADMINS: Final = frozenset({"system:masters", "kubeadm:cluster-admins"})


class Requester(msgspec.Struct, frozen=True):
    """The identity that the API server saw; empty where there is none, as when a file is read."""

    name: str = ""
    groups: frozenset[str] = frozenset()
    field_manager: str = ""
    """The name that the client gave itself as an owner of fields."""

    @property
    def is_controller(self) -> bool:
        """True for programs: service accounts, the controller manager and nodes, and whoever comes by none of the
        tools of people. A controller may have a certificate with any name; kubectl and Helm always say who they are."""
        if self.name.startswith("system:"):
            return True
        return bool(self.name) and not self.field_manager.startswith(_PEOPLES)

    def may_mark(self, state: ClusterState) -> bool:
        """True when a label of this author's is reason enough to leave an object alone."""
        if not self.name or self.groups & _ADMINS:
            return True
        return self._home not in _CLUSTER and (self._home in state.protected or self._home in HOMES)

    def names_owners(self, namespace: str) -> bool:
        """True when the owner that this author names for an object of a namespace is the owner: controllers copy
        labels, but say themselves whose an object is. As an account of the namespace, anybody there may come."""
        if not self.name or self.groups & _ADMINS:
            return True
        return self.name.startswith("system:") and self._home != namespace

    @property
    def _home(self) -> str:
        """The namespace of a service account; "" for everybody else."""
        return self.name.removeprefix(_ACCOUNT).partition(":")[0] if self.name.startswith(_ACCOUNT) else ""


NOBODY: Final = Requester()
