"""What comes of working out a plan, as values: objects, the writes that are missing, and what is wrong."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from queue_sync.planning.observed import Object
from queue_sync.planning.quota import Numbers
from slicewise.kube.object_types import kind_of

Key = tuple[str, str]
"""`Kind.group`, and name or `namespace/name`."""


def key_of(document: Object) -> Key:
    """By what an object is told from all others."""
    return kind_of(document), kind_and_name(document)[1]


def kind_and_name(document: Object) -> tuple[str, str]:
    """Kind and name of an object, as people say it: two engines may have one of the same."""
    metadata = document["metadata"]
    namespace = metadata.get("namespace")
    return document["kind"], f"{namespace}/{metadata['name']}" if namespace else metadata["name"]


Parts = Mapping[str, Mapping[str, Mapping[str, int]]]
"""pool -> resource -> queue -> units"""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that an admin should know of a plan."""

    plan: str
    code: str
    """UpperCamelCase, fit for an event's or a condition's reason."""
    sentence: str
    refused: bool = False
    """True when the whole plan is refused and writes nothing."""
    kind: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One write: `before` is None for what is to be created, `after` for what is to be deleted."""

    plan: str
    before: Object | None
    after: Object | None
    target: Object | None = None
    """The object as it would be made; None where there is no such form. Equal targets want the same."""
    tier: int = 0
    """Everybody must have seen the changes of one tier before those of the next are taken."""
    stage: int = 0
    """Within a tier: changes of one stage do not depend on each other, and those of the one before come first."""

    @property
    def document(self) -> Object:
        """The object in the form that says what it is."""
        found = self.after if self.after is not None else self.before
        return found or {}

    @property
    def verb(self) -> str:
        """create, update or delete."""
        if self.before is None:
            return "create"
        return "delete" if self.after is None else "update"


def by_object(changes: Iterable[Change]) -> list[Change]:
    """One change for each object, from how it stands to how it should, where several writes lead there."""
    found: dict[Key, Change] = {}
    for change in changes:
        key = key_of(change.document)
        found[key] = replace(change, before=found.get(key, change).before)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What plans want: every object as it should stand, the writes that are missing, and what is wrong."""

    objects: tuple[Object, ...] = ()
    changes: tuple[Change, ...] = ()
    problems: tuple[Problem, ...] = ()
    assigned: Parts = field(default_factory=dict)
    targets: Mapping[Key, tuple[Object, Object]] = field(default_factory=dict)
    """For each object that is there, the form in which it would be made, and as it is."""
    draining: bool = False
    """True while something has 0 and waits until no Workload holds it."""
    kept: Mapping[Key, Numbers] = field(default_factory=dict)
    """By queue, how much more it has of some numbers than it is to have, that none of these changes takes from it."""
