"""(template, what holds for it, pools) -> Decision.  Pure.

What is required (`policy_resolution`) is put to the pools, those of the workload's engine and queue first. Every
refusal is one sentence that names the object, the rule and the fix.
"""

from itertools import islice
from typing import Final

import msgspec

from admission.decision import mps_daemon, node_selector
from admission.decision.cluster_state import ClusterState
from admission.decision.effective_policy import EffectivePolicy
from admission.decision.gpu_requests import gpu_requests
from admission.decision.model import AS_ASKED, Assigned, Decision, GpuRequest, Left, Reason, Refusal
from admission.decision.policy_resolution import of_flavor, said
from admission.decision.trace import Allocated, Trace
from admission.engines import queueing
from admission.engines.queueing import Named
from admission.workloads.kind import Steering
from admission.workloads.model import PodSpec, Template, Workload
from slicewise.api import keys
from slicewise.api.policy import Engine, WhenNothingFits
from slicewise.gpu import mig
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.allocation import Choice, NothingFits, TooMany
from slicewise.inventory.gpu_requirement import ContainerRequest, GpuRequirement, Stage, Toleration

_MOST_CLASSES: Final = 8
"""Of a policy, that are tried for a refusal: each is put to all pools."""


def decide(
    named: Named,
    template: Template,
    asked: list[GpuRequest],
    effective: EffectivePolicy,
    state: ClusterState,
    trace: Trace,
) -> Decision | Left:
    """Decides one template whose containers ask for GPUs; what was looked at is added to the trace.

    Raises:
        Refusal: the policy says no; the sentence says what to change.
    """
    workload = named.workload
    choice = _allocated(named, template, asked, effective, state, trace)
    if isinstance(choice, NothingFits) and choice.own and queueing.started_by(workload):
        effective, choice = _where_started(named, template, asked, effective, state, trace, choice)
    if isinstance(choice, TooMany):
        raise Refusal(_too_many(workload, effective, choice, asked), Reason.TOO_MANY)
    if isinstance(choice, NothingFits):
        words = _nothing_fits(named, template, asked, effective, state, choice)
        if effective.spec.when_nothing_fits is WhenNothingFits.LEAVE:
            return Left(f"{words}; {AS_ASKED}")
        raise Refusal(words, Reason.OTHER_ENGINE if choice.elsewhere else Reason.NOTHING_FITS)
    containers = {}
    for each in asked:
        if each.gpus:
            name, number = choice.of(each.gpus)
            containers[each.container.name] = Assigned(keys.GPU, name, number, each.gpus)
    return Decision(
        effective.policy.name,
        effective.class_name,
        effective.class_from,
        choice.strategy,
        choice.pools,
        containers,
        _reason(effective, choice),
        choice.steered,
        pipe_directory=_pipe_directory(workload, template, choice, effective, state),
        node_labels=choice.node_labels,
    )


def _allocated(
    named: Named,
    template: Template,
    asked: list[GpuRequest],
    effective: EffectivePolicy,
    state: ClusterState,
    trace: Trace,
    *,
    anywhere: bool = False,
) -> Choice | TooMany | NothingFits:
    """Puts one template to the pools; `anywhere` whatever it says itself about where it may run."""
    engine, queue = queued(named, template, state)
    node_filter = None if anywhere else node_selector.narrowing(template.spec)
    allocation = state.allocate(_requirement(effective, asked, template.spec), engine, queue, node_filter)
    quota, reserved = None, False
    if engine is not None:
        quota, reserved = state.fed(engine, queue), bool(state.elsewhere(engine))
    trace.append(Allocated(template.spec_pointer, engine, queue, quota, reserved, allocation))
    return allocation.outcome


def _requirement(effective: EffectivePolicy, asked: list[GpuRequest], spec: PodSpec) -> GpuRequirement:
    """Returns what to ask the pools for one template with such containers."""
    if len(asked) == 1 and not spec.tolerations and _is_plain(asked[0]):
        return effective.ask  # which is for one such container
    containers = [
        ContainerRequest(each.gpus, tuple(sorted(each.named.items())) if each.named else (), _stage(each))
        for each in asked
    ]
    tolerations = [
        Toleration(each.key, each.operator, each.value, each.effect) for each in spec.tolerations or ()
    ]
    return msgspec.structs.replace(
        effective.ask, containers=tuple(containers), tolerations=tuple(tolerations)
    )


def _is_plain(request: GpuRequest) -> bool:
    return request.gpus == 1 and not request.named and not request.pointer.startswith("/initContainers/")


def _stage(request: GpuRequest) -> Stage:
    if not request.pointer.startswith("/initContainers/"):
        return Stage.MAIN
    return Stage.SIDECAR if request.container.restart_policy == "Always" else Stage.INIT


def _where_started(
    named: Named,
    template: Template,
    asked: list[GpuRequest],
    effective: EffectivePolicy,
    state: ClusterState,
    trace: Trace,
    nothing: NothingFits,
) -> tuple[EffectivePolicy, Choice | TooMany | NothingFits]:
    """Returns what a pod gets that an engine keeps to nodes where its class gets nothing: its parent was left as it was
    asked, and charged so.

    It is what the engine has charged, as a class of its policy that gets that there: people may choose any of them,
    so nobody gains by writing the engine's label himself. Where none does, `nothing` stands if the policy leaves such
    work, and else it is what its class gets elsewhere; then the pod waits, and the warning says why. The trace has the
    last try.
    """
    for name in effective.spec.classes:
        other = of_flavor(named.workload, effective, name, state)
        tried: Trace = []
        found = _allocated(named, template, asked, other, state, tried)
        if isinstance(found, Choice) and all(found.of(n.gpus) == (keys.GPU, n.gpus) for n in asked if n.gpus):
            trace[-1:] = tried
            return other, found
    if effective.spec.when_nothing_fits is WhenNothingFits.LEAVE:
        return effective, nothing
    trace.pop()
    return effective, _allocated(named, template, asked, effective, state, trace, anywhere=True)


def _pipe_directory(
    workload: Workload, template: Template, choice: Choice, effective: EffectivePolicy, state: ClusterState
) -> str:
    """Returns where the pod meets its class's own MPS daemon: on what the class names first, and in a pod spec."""
    work = effective.policy.spec.classes[effective.class_name]
    if not work.pipe_directory or choice.strategy != work.strategy or template.means is not Steering.SPEC:
        return ""
    if template.slots:
        return ""  # there is no pod spec that could hold the mount
    enforced = state.namespaces.get(workload.namespace, {}).get(keys.POD_SECURITY, "privileged")
    if enforced != "privileged":
        raise Refusal(
            f"{workload.title}: class {effective.class_name} of policy {effective.policy.name} works through an MPS "
            f"daemon (pipeDirectory {work.pipe_directory}), which needs hostIPC and a hostPath volume, and namespace "
            f"{workload.namespace} enforces the Pod Security Standard {enforced}, which allows neither; label the "
            f"namespace {keys.POD_SECURITY}=privileged or use another class",
            Reason.POD_SECURITY,
        )
    return work.pipe_directory


def queued(named: Named, template: Template, state: ClusterState) -> tuple[Engine | None, str]:
    """Returns the engine whose pools a template must keep to, and the queue whose quota it should; None and "" where
    that does not matter or is not known."""
    if not state.divided():
        return None, ""
    labels = state.namespaces.get(named.workload.namespace, {})
    engine = queueing.engine_of(named, labels)
    return engine, queueing.queue_of(named, template, labels, engine)


def cautions(
    named: Named, template: Template, decision: Decision, state: ClusterState, *, again: bool
) -> list[str]:
    """Returns what to warn of in a decision: fewer than were asked for, no quota, or a share that may not be found.

    Args:
        named: the object, with the queues that it names.
        template: the template as it came.
        decision: what was decided of it.
        state: the cluster.
        again: True where it takes the place of an earlier decision.
    """
    workload = named.workload
    found = [
        f"{workload.title}: container {name!r} asked for {each.asked} GPUs and gets one {each.to} (multiGPU: one)"
        for name, each in decision.containers.items()
        if each.count < each.asked
    ]
    found += _where_it_was_started(workload, template, decision, state)
    if decision.strategy != Strategy.MIG:
        found += _without_the_profile(workload, template, decision, state)
    if state.divided():
        found += _without_quota(named, template, decision, state)
    if decision.strategy == Strategy.MPS:
        found += mps_daemon.shadowed(workload.title, template.spec, decision)
    found += _shown_by_hand(workload, template, again=again)
    return found


def _where_it_was_started(
    workload: Workload, template: Template, decision: Decision, state: ClusterState
) -> list[str]:
    """Warns of what is decided for a pod by the nodes where its engine has started it, or in spite of them."""
    engine = queueing.started_by(workload)
    if engine is None:
        return []
    if decision.class_from == "flavor":
        words = (
            f"{workload.title}: {engine.title()} has charged what it asks in a flavor where its class gets nothing, "
            f"so it gets what class {decision.class_name} gets there; label the object that it is made of "
            f"{keys.WORKLOAD_CLASS}={decision.class_name} if that is meant"
        )
        return [words]
    where = node_selector.narrowing(template.spec)
    if where is None:
        return []
    pools = [pool for pool in state.all_pools() if pool.name in decision.pools]
    if any(map(where.allows, (node for pool in pools for node in pool.members))):
        return []
    words = (
        f"{workload.title}: {engine.title()} has started it in a flavor where no class of policy {decision.policy} "
        "gets what it asks for, so no node takes it; add such a class to the policy, or take the flavor out of its "
        "queue"
    )
    return [words]


def _without_the_profile(
    workload: Workload, template: Template, decision: Decision, state: ClusterState
) -> list[str]:
    """Warns of a MIG profile that is asked for by name where something else is given."""
    asked = said(workload, template.said, keys.PROFILE)
    profile = mig.parse(asked) if asked else None
    if profile is None:
        return []
    which = "" if mig.is_known(profile) else ", which no known board has"
    resources = (each for pool in state.all_pools() for each in pool.resources.values())
    offered = sorted({each.profile for each in resources if each.strategy is Strategy.MIG})
    fix = f"remove {keys.PROFILE} if that will do"
    if offered:
        fix = f"write one of {', '.join(offered)}, or {fix}"
    gets = f"it gets {decision.strategy} instead; {fix}"
    return [f"{workload.title}: no pool offers the profile {asked:.80}{which}, and {gets}"]


def _shown_by_hand(workload: Workload, template: Template, *, again: bool) -> list[str]:
    """Warns of containers that say themselves which devices they are shown. Their environment goes before what the
    device plugin sets (kubernetes, pkg/kubelet/kubelet_pods.go, GenerateRunContainerOptions).

    Decided `again`, what hid a container that asks for GPUs now is ours, and is taken out.
    """
    shown = [
        (container, variable.value)
        for group in (template.spec.containers, template.spec.init_containers)
        for container in group or ()
        for variable in container.env or ()
        if variable.name == keys.VISIBLE_DEVICES
    ]
    if not shown:
        return []
    asking = {each.container.name for each in gpu_requests(template.spec)}
    ours = {"void"} if again else set()
    return [
        f"{workload.title}: container {container.name!r} sets {keys.VISIBLE_DEVICES}, by which some container runtimes "
        "show it other GPUs than it is given, or none; leave that out"
        for container, value in shown
        if value not in (ours if container.name in asking else {"", "void", "none"})
    ]


def _without_quota(named: Named, template: Template, decision: Decision, state: ClusterState) -> list[str]:
    """Warns of a decision for which the workload's queue has no quota, as far as plans say."""
    engine, queue = queued(named, template, state)
    quota = state.fed(engine, queue)
    if quota is None:
        return []
    gets = {each.to for each in decision.containers.values()}
    if any(gets <= quota.get(pool, frozenset()) for pool in decision.pools):
        return []
    title = named.workload.title
    words = (
        f"{title}: queue {queue} has no quota of {', '.join(decision.pools)}, so it may wait for ever; its "
        f"QuotaPlan feeds it from {', '.join(sorted(quota)) or 'no pool that there is now'}; use another class or "
        "have the plan take such a pool"
    )
    return [words]


def _reason(effective: EffectivePolicy, choice: Choice) -> str:
    why = f" ({choice.why})" if choice.why else ""
    sized = effective.ask.memory is not None or effective.ask.profile
    which = "the smallest that holds what is asked" if sized else "the smallest offered"
    return f"class {effective.class_name} gets {choice.strategy}{why}; {which} is a {choice.unit}"


def _too_many(workload: Workload, effective: EffectivePolicy, found: TooMany, asked: list[GpuRequest]) -> str:
    most = max(asked, key=lambda each: each.gpus)
    rule = "multiGPU: refuse" if found.explicit else "shares cannot be added up"
    whole = [n for n, c in effective.spec.classes.items() if c.strategy is Strategy.EXCLUSIVE]
    fix = f", or label the workload {keys.WORKLOAD_CLASS}={whole[0]} to get whole GPUs" if whole else ""
    return (
        f"{workload.title}: container {most.container.name!r} asks for {most.gpus} GPUs, but class "
        f"{effective.class_name} of policy {effective.policy.name} gets {found.strategy} ({rule}); "
        f"ask for {keys.GPU}: 1{fix}"
    )


def _nothing_fits(
    named: Named,
    template: Template,
    asked: list[GpuRequest],
    effective: EffectivePolicy,
    state: ClusterState,
    found: NothingFits,
) -> str:
    workload, ask, engine = named.workload, effective.ask, queued(named, template, state)[0]
    fix = ""
    if found.elsewhere and engine is not None:
        fix = f"submit it where {keys.ENGINE} is that engine, have a QuotaPlan give such a pool to {engine.title()},"
    elif found.tainted:
        fix = "add tolerations for them"
    elif found.pinned:
        fix = "remove spec.nodeName"
    elif found.own:
        fix = "change its nodeSelector or affinity"
    elif found.most:
        fix = f"ask for at most {found.most} in one pod"
    elif found.largest:
        fix = f"ask for at most {found.largest}Mi ({keys.GPU_MEMORY})"
    elif ask.profile:
        fix = f"ask for another profile than {ask.profile}"
    elif said(workload, template.said, keys.NEEDS) or said(workload, template.said, keys.GPU_MEMORY):
        fix = "use another class"  # of which they change what it gets
    elif other := _class_that_fits(named, template, asked, effective, state):
        fix = f"use another class, such as {other},"
    return (
        f"{workload.title}: no pool can serve class {effective.class_name} of policy {effective.policy.name} "
        f"({'; '.join(found.tried) or 'no node offers GPUs'}); "
        f"{fix}{' or ' if fix else ''}ask whoever keeps the cluster"
    )


def _class_that_fits(
    named: Named, template: Template, asked: list[GpuRequest], effective: EffectivePolicy, state: ClusterState
) -> str:
    """Returns one of the policy's first classes that would get something for a template; "" where none would."""
    for name in islice(effective.spec.classes, _MOST_CLASSES):
        other = of_flavor(named.workload, effective, name, state)
        if isinstance(_allocated(named, template, asked, other, state, []), Choice):
            return name
    return ""
