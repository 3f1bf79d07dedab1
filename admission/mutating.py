"""A mutating review: what is asked about an object, and what becomes of it.

Own failures are exceptions (the server answers 5xx and the failure policy applies); a no is said only for a refusal
that is meant.
"""

from functools import partial
from typing import Final

from admission import wire
from admission.decision.cluster_state import ClusterState
from admission.decision.requester import Requester
from admission.mutation import mutate as mutation
from admission.mutation.outcome import Verdict
from admission.wire import Notice, Request, Response
from admission.workloads.decoder import Templates

_TEMPLATES: Final = Templates()


def answer(body: bytes, state: ClusterState, templates: Templates = _TEMPLATES) -> wire.Answer:
    """Answers one mutating review as bytes.

    Raises:
        BadReview: the body is no AdmissionReview v1 with a request.
    """
    return wire.answer(body, partial(mutate, state=state, templates=templates))


def mutate(request: Request, state: ClusterState, templates: Templates = _TEMPLATES) -> Response:
    """Answers one mutating review.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: the object cannot be read.
    """
    reader = templates.reader(request.kind.group, request.kind.kind)
    if reader is None or request.operation not in {"CREATE", "UPDATE"}:
        return Response(Verdict.IGNORED)
    outcome = mutation.mutate(
        reader,
        request.object,
        request.old_object if request.operation == "UPDATE" else None,
        request.namespace,
        state,
        Requester(
            request.user_info.username,
            frozenset(request.user_info.groups),
            request.options.field_manager if request.options else "",
        ),
    )
    return Response(
        outcome.name,
        outcome.refusal,
        operations=outcome.drafted,
        warnings=outcome.warnings,
        policy=outcome.policy,
        strategy=outcome.strategy,
        reason=outcome.reason,
        deviation=outcome.deviation or "",
        notice=(
            Notice(outcome.owner, request.namespace, outcome.name, outcome.warnings)
            if outcome.owner
            else None
        ),
        patch=outcome.patch,
    )
