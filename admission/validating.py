"""Our own objects at the door, and our labels on namespaces.

A SlicingPolicy or QuotaPlan that breaks a rule is refused with the sentence. The CRDs say most rules already; these
are the rest, and they are the ones that the readers of files apply. A QuotaPlan that newly takes what an older plan
has is refused too; one that took it before may still be changed, so that people can mend it. An object on its way out
is let through whatever it says, or a bad one could never be finalised. A namespace is never refused: a label that means
nothing is warned of, because the policy that it names may come later.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from admission.decision.cluster_state import ClusterState
from admission.decision.model import Reason
from admission.decision.policy_resolution import MODES, OF_NAMESPACES, nearest, nearest_key
from admission.mutation.outcome import Verdict
from admission.wire import Request, Response
from admission.workloads.builtin_kinds import TABLE, group_kinds
from slicewise.api import keys
from slicewise.api.errors import did_you_mean
from slicewise.api.policy import (
    ENGINE_LABELS,
    PIPE_DIRECTORIES,
    PlanMode,
    QuotaPlan,
    SlicingPolicy,
    SpecError,
    read_plan,
    read_policy,
    require_largest_maximum,
    require_pipe_directories,
)
from slicewise.api.quantities import MOST
from slicewise.gpu import mig
from slicewise.gpu.strategies import MultiGPU, Strategy
from slicewise.inventory.declared_pools import with_declared
from slicewise.inventory.plan_conflicts import find_conflicts
from slicewise.inventory.plan_remarks import remarks


class _Metadata(msgspec.Struct, rename="camel"):
    name: str | None = None
    labels: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class _Object(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


_IGNORED = Response(Verdict.IGNORED)
_MOST_LABELS: Final = 64
"""Of one namespace, that are looked at for misspelt keys."""


def validate(
    request: Request,
    world: ClusterState,
    pipe_directories: Iterable[str] = PIPE_DIRECTORIES,
    largest_maximum: int = MOST,
) -> Response:
    """Answers one validating review.

    Args:
        request: the review.
        world: what the cluster is known to be.
        pipe_directories: directories of nodes below which a policy may have pods meet MPS daemons.
        largest_maximum: the most devices of one name that a plan may promise of a pool.

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
                labels = metadata.labels or {}
                said = list(label_remarks(metadata.name or request.name, labels, world))
                return Response(Verdict.ACCEPTED, warnings=said)
            case "SlicingPolicy":
                policy = read_policy(_document(request))
                require_pipe_directories(policy, pipe_directories)
                said = [*_unknown_profiles(policy), *_idle_rules(policy), *misspelt_kinds(policy)]
                return Response(Verdict.ACCEPTED, warnings=said)
            case "QuotaPlan":
                plan = _plan(request)
                require_largest_maximum(plan, largest_maximum)
                sentence = plan_conflict(plan, _old_plan(request), world)
                if sentence:
                    return Response(
                        Verdict.REFUSED, sentence, code=422, status_reason="Invalid", reason=Reason.SPEC
                    )
                return Response(Verdict.ACCEPTED, warnings=list(_remarks(plan, world)))
            case _:
                return _IGNORED
    except SpecError as error:
        return Response(Verdict.REFUSED, str(error), code=422, status_reason="Invalid", reason=Reason.SPEC)


def _remarks(plan: QuotaPlan, world: ClusterState) -> Iterator[str]:
    """Warns of parts of a plan that mean nothing on the pools there are, or leave nothing of them."""
    plans = [*(other for other in world.plans.values() if other.name != plan.name), plan]
    found = remarks(plan, with_declared(world.pools, plans))
    return (f"QuotaPlan {plan.name}: {sentence}" for sentence in found)


def _unknown_profiles(policy: SlicingPolicy) -> Iterator[str]:
    """Warns of profiles that no known board has; a board that comes later may."""
    for name, work in policy.spec.classes.items():
        profile = mig.parse(work.size.profile) if work.size and work.size.profile else None
        if profile is not None and not mig.is_known(profile):
            yield (
                f"SlicingPolicy {policy.name}: spec.classes.{name}.size.profile: no known board has {profile.name}, so "
                "no pool offers it; write for example 1g.10gb"
            )


def _idle_rules(policy: SlicingPolicy) -> Iterator[str]:
    """Warns of what a class says and that holds for nothing, or leaves out nothing."""
    for name, work in policy.spec.classes.items():
        if "models" in work.model_fields_set and not work.models:
            yield (
                f"SlicingPolicy {policy.name}: spec.classes.{name}.models: it is empty, which leaves out no board; "
                "name what is meant, or remove it"
            )
        idle = work.multi_gpu in (MultiGPU.ONE, MultiGPU.REFUSE)
        if idle and {work.strategy, *work.otherwise} == {Strategy.EXCLUSIVE}:
            yield (
                f"SlicingPolicy {policy.name}: spec.classes.{name}.multiGPU: exclusive gives as many whole GPUs as are "
                f"asked for, so {work.multi_gpu} holds for none of them; remove it"
            )


def misspelt_kinds(policy: SlicingPolicy) -> Iterator[str]:
    """Says of each kind that is nearly one of ours what it was meant to be; others may be an admin's own."""
    known = {f"{each.kind}.{each.group}".rstrip(".") for each in TABLE}
    for kind in policy.spec.kinds:
        group = kind.partition(".")[2]
        same = "" if group else " or ".join(group_kinds(kind))
        meant = f"; did you mean {same}?" if same else did_you_mean(kind, known)
        if kind not in known and meant:
            yield f"SlicingPolicy {policy.name}: spec.kinds: no work is of the kind {kind}{meant}"


def _document(request: Request) -> dict[str, Any]:
    return msgspec.json.decode(request.object, type=dict[str, Any])


def _plan(request: Request) -> QuotaPlan:
    """Reads the plan; a new one is the youngest and stays, whatever it says of itself."""
    plan = read_plan(_document(request))
    new = {"created": "", "leaving": False}
    return plan.model_copy(update=new) if request.operation == "CREATE" else plan


def _old_plan(request: Request) -> QuotaPlan | None:
    """Returns the plan as it stood before an update; None for a new one, and for one that broke a rule."""
    if request.operation != "UPDATE":
        return None
    try:
        return read_plan(msgspec.json.decode(request.old_object, type=dict[str, Any]))
    except SpecError:
        return None


def plan_conflict(plan: QuotaPlan, old: QuotaPlan | None, world: ClusterState) -> str:
    """Says which older plan has what a plan newly takes; "" when none has, or when it was in conflict before.

    A plan that only reports takes nothing.
    """
    sentence = _conflict(plan, world)
    return "" if sentence and old is not None and _conflict(old, world) else sentence


def _conflict(plan: QuotaPlan, world: ClusterState) -> str:
    if plan.spec.mode is PlanMode.REPORT:
        return ""
    plans = [*(other for other in world.plans.values() if other.name != plan.name), plan]
    conflicts = find_conflicts(plans, with_declared(world.pools, plans)).get(plan.name, ())
    return conflicts[0].refusal if conflicts else ""


def label_remarks(name: str, labels: Mapping[str, str], world: ClusterState) -> Iterator[str]:
    """Says of each label of ours on a namespace why it means nothing, if it does."""
    for key in islice(labels, _MOST_LABELS):
        ours = key.startswith(keys.NAME) and key not in OF_NAMESPACES
        if ours and (meant := nearest_key(key, OF_NAMESPACES)):
            yield f"namespace {name}: the label {key} means nothing; did you mean {meant}={labels[key]}?"
    named = labels.get(keys.POLICY)
    policy = world.policy(named) if named is not None else None
    if named is not None and policy is None:
        yield (
            f"namespace {name}: there is no SlicingPolicy {named!r}, so its GPU work will be refused; "
            f"did you mean {keys.POLICY}={nearest(named, world.policy_names())}?"
        )
    for key, values in ((keys.MODE, MODES), (keys.ENGINE, ENGINE_LABELS)):
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
