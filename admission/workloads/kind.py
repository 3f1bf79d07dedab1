"""One row of the table of kinds, and the rules that send such kinds to the webhook.

A row is data: where the pods of a kind stand, who may own it without comparing, what steers its pods, where
the engines read the queue, and which side fields must follow a new resource name. docs/kinds.md is the same
for people.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from slicewise.api import keys


class Steering(StrEnum):
    """How pods whose kind keeps no pod spec are kept to their pools and given their toleration."""

    NONE = "none"
    """Not at all: only what needs no steering is written."""
    SPEC = "spec"
    """By the pod spec in the object."""
    MENDER = "mender"
    """By other fields of the kind, which its mender writes."""
    RECORD = "record"
    """By the pod's own admission: the pod carries the recorded decision."""
    PODS = "pods"
    """The pods are decided on themselves, and the object is left: engines charge nothing but its pods."""
    TOTAL = "total"
    """It makes no pods: it is a total over them."""


class Queueing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Where the engines read the queue of a kind."""

    engine: str = ""
    """The engine whose own kind it is."""
    counts_requests: bool = False
    """True where that engine sums up the requests in its templates, and takes no limit for one."""
    kueue: str = "metadata"
    """Place of the metadata whose labels take Kueue's label; "" where Kueue does not queue the kind."""
    volcano: tuple[str, ...] = ()
    """Places of fields that take the name of Volcano's queue."""
    volcano_scheduler: str = ""
    """Place of the field beside them that names the scheduler."""
    volcano_label: str = ""
    """A label of the object that takes it."""
    volcano_annotation: bool = False
    """True where the object's own annotation takes it."""
    volcano_templates: bool = True
    """True where each pod template takes the annotation and the scheduler's name."""
    keeper: str = ""
    """The engine that stops what runs, or takes no update, when its pods ask for something else (docs/kinds.md,
    "While an engine runs it"); "" where a change is an ordinary rollout."""
    suspend: str = ""
    """Place of the field by which Kueue keeps it from running."""


OWN_LABELS: Final = Queueing()
UNQUEUED: Final = Queueing(kueue="", volcano_templates=False)


class SideField(msgspec.Struct, frozen=True):
    """Fields beside a request that follow the resource's name, and who mends them."""

    mender: str
    """Its name in the table of menders."""
    place: str
    """What it mends."""
    field: str = ""
    """The field beneath it, for `total` and `follow`."""


class Kind(msgspec.Struct, frozen=True):
    """One kind of workload and where its templates are."""

    group: str
    kind: str
    paths: tuple[str, ...]
    safe_owners: frozenset[str] = frozenset()
    """Controllers (Kind.group) of the table that never compare this kind with what they rendered; "*" is any."""
    versions: tuple[str, ...] = ("v1",)
    plural: str = ""
    """The resource's name; the kind in lower case with an s unless said."""
    namespaced: bool = True
    """Cluster-scoped objects have no namespace that could opt in and are never rewritten."""
    means: Steering = Steering.NONE
    """For pods without a pod spec in the object; Steering.RECORD holds for those with one too, where writing
    affinity or tolerations there would be refused or would replace others."""
    side_fields: tuple[SideField, ...] = ()
    queueing: Queueing = OWN_LABELS
    every_node: bool = False
    """It makes a pod on every node that matches, so it is always steered: no node is without what its pod asks for."""
    pod_label: str = ""
    """The label by which its pods, however deep, say which object of the kind they belong to."""
    homes: tuple[str, ...] = ()
    """Namespaces in which its controllers run: what they say of what they make is believed."""

    @property
    def group_kind(self) -> str:
        """`Kind.group`, the kind alone for the core group."""
        return f"{self.kind}.{self.group}".rstrip(".")

    @property
    def resource(self) -> str:
        """The name of the resource in a URL."""
        return self.plural or self.kind.lower() + "s"

    @property
    def is_pod(self) -> bool:
        """True for the Pod itself: what the others make."""
        return self.kind == "Pod" and not self.group

    @property
    def built_in(self) -> bool:
        """True for Kubernetes' own kinds, whose schemas everybody knows."""
        return self.group in keys.BUILT_IN

    @property
    def rewritten(self) -> bool:
        """True when there is something in it that may be rewritten."""
        return any(not path.startswith("X ") for path in self.paths)


class Rule(msgspec.Struct, frozen=True, rename="camel"):
    """One rule of a webhook configuration, as Kubernetes spells it."""

    api_groups: tuple[str, ...]
    api_versions: tuple[str, ...]
    resources: tuple[str, ...]
    scope: str
    """Namespaced, or Cluster: those are never rewritten and need no webhook."""


def rules(kinds: Iterable[Kind]) -> list[Rule]:
    """Returns webhook rules for kinds that may be rewritten: one for each group, set of versions and scope."""
    gathered: dict[tuple[str, tuple[str, ...], bool], list[str]] = {}
    for kind in kinds:
        if kind.rewritten:
            gathered.setdefault((kind.group, kind.versions, kind.namespaced), []).append(kind.resource)
    return [
        Rule((group,), versions, tuple(dict.fromkeys(resources)), "Namespaced" if namespaced else "Cluster")
        for (group, versions, namespaced), resources in gathered.items()
    ]
