"""Our own objects at the door, and our labels on namespaces.

A SlicingPolicy or QuotaPlan that breaks a rule is refused with the sentence. The CRDs say most rules already; these
are the rest, and they are the ones that the readers of files apply. An object on its way out is let through whatever
it says, or a bad one could never be finalised. A namespace is never refused: a label that means nothing is warned of,
because the policy that it names may come later.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from admission.decision.cluster_state import ClusterState
from admission.decision.model import Reason
from admission.decision.policy_resolution import MODES, nearest
from admission.mutation.outcome import Verdict
from admission.wire import Request, Response
from slicewise.api import keys
from slicewise.api.policy import (
    PIPE_DIRECTORIES,
    Engine,
    SpecError,
    read_plan,
    read_policy,
    require_pipe_directories,
)


class _Metadata(msgspec.Struct, rename="camel"):
    name: str | None = None
    labels: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class _Object(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


_IGNORED = Response(Verdict.IGNORED)


def validate(
    request: Request, world: ClusterState, pipe_directories: Iterable[str] = PIPE_DIRECTORIES
) -> Response:
    """Answers one validating review.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: the object cannot be read.
    """
    if request.operation not in {"CREATE", "UPDATE"}:
        return _IGNORED
    metadata = msgspec.json.decode(request.object, type=_Object).metadata
    if request.operation == "UPDATE" and metadata.deletion_timestamp:
        return _IGNORED
    try:
        match request.kind.kind:
            case "Namespace":
                remarks = label_remarks(metadata.name or request.name, metadata.labels or {}, world)
                return Response(Verdict.ACCEPTED, warnings=list(remarks))
            case "SlicingPolicy":
                require_pipe_directories(read_policy(_document(request)), pipe_directories)
            case "QuotaPlan":
                read_plan(_document(request))
            case _:
                return _IGNORED
    except SpecError as error:
        return Response(Verdict.REFUSED, str(error), code=422, status_reason="Invalid", reason=Reason.SPEC)
    return Response(Verdict.ACCEPTED)


def _document(request: Request) -> dict[str, Any]:
    return msgspec.json.decode(request.object, type=dict[str, Any])


def label_remarks(name: str, labels: Mapping[str, str], world: ClusterState) -> Iterator[str]:
    """Says of each label of ours on a namespace why it means nothing, if it does."""
    named = labels.get(keys.POLICY)
    policy = world.policy(named) if named is not None else None
    if named is not None and policy is None:
        yield (
            f"namespace {name}: there is no SlicingPolicy {named!r}, so its GPU work will be refused; "
            f"did you mean {keys.POLICY}={nearest(named, world.policy_names())}?"
        )
    for key, values in ((keys.MODE, MODES), (keys.ENGINE, tuple(Engine))):
        value = labels.get(key)
        if value is not None and value not in values:
            yield f"namespace {name}: {key}={value} means nothing; write one of {', '.join(values)}"
    work = labels.get(keys.WORKLOAD_CLASS)
    if work is not None and policy is not None and work not in policy.spec.classes:
        classes = list(policy.spec.classes)
        yield (
            f"namespace {name}: policy {policy.name} has no class {work!r}; "
            f"did you mean {keys.WORKLOAD_CLASS}={nearest(work, classes)}?"
        )
    if named is None and any(
        key in labels for key in (keys.MODE, keys.WORKLOAD_CLASS, keys.QUEUE, keys.ENGINE)
    ):
        yield f"namespace {name}: has no label {keys.POLICY}, so its other labels of ours mean nothing"
