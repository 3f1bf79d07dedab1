"""(template, namespace, policy, pools) -> Decision.  Pure.

Who is asked, in this order: the namespace (opted in? enforced?), the workload's own labels and annotations
(within what the policy allows), the policy's class, the pools. Every refusal is one sentence that names the
object, the rule and the fix.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

import msgspec

from admission.judgement import queues, selectors
from admission.judgement.asking import Wanting
from admission.judgement.world import World
from admission.kinds.reading import Metadata, PodSpec, Template, Workload
from admission.kinds.rows import Means
from slicewise import keys, mig
from slicewise.choose import Ask, Choice, NothingFits, TooMany, choose
from slicewise.policy import Allowed, Engine, PolicySpec, SlicingPolicy, WhenNothingFits, WorkloadClass
from slicewise.pools import Pool
from slicewise.quantities import QuantityError, mebibytes
from slicewise.strategies import Need, Strategy

MODES: Final = ("enforce", "audit", "off")

# Where a class comes from: the word in a decision, and the words for people.
FROM: Final = {
    "label": "its label",
    "kind": "the policy's rule for its kind",
    "namespace": "the namespace's label",
    "default": "the policy's default",
}


class Assigned(msgspec.Struct, frozen=True, rename={"source": "from"}):
    """What one container asked and what it gets."""

    source: str
    to: str
    count: int
    asked: int


class Placed(msgspec.Struct, frozen=True):
    """Where the pods of one template of several may run."""

    strategy: str
    pools: tuple[str, ...]
    steered: bool


class Decision(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    rename={"class_name": "class", "class_from": "classFrom", "pipe_directory": "pipeDirectory"},
):
    """What was done to one template and why; the JSON of the annotation `slicewise.io/decision`."""

    policy: str
    class_name: str
    class_from: str
    strategy: str
    pools: tuple[str, ...]
    containers: dict[str, Assigned]
    reason: str
    steered: bool
    """True when the pod is kept to the pools by affinity."""
    templates: dict[str, Placed] = {}
    """In the decision of a whole object: by pointer of the pod spec, where templates with no record of their own
    got different things."""
    pipe_directory: str = ""
    """Where the pod meets an MPS daemon that is no part of the device plugin; "" where it meets none."""


class Reason(StrEnum):
    """Why an object is refused, in a word: what it is counted under."""

    NAMESPACE = "namespace"
    """A label of its namespace means nothing, or names a policy that does not exist."""
    CLASS = "class"
    """Its class is none of the policy's."""
    ANNOTATION = "annotation"
    """An annotation of its own means nothing."""
    NOT_ALLOWED = "not-allowed"
    """An annotation of its own is one that the policy leaves out."""
    TOO_MANY = "too-many"
    NOTHING_FITS = "nothing-fits"
    OTHER_ENGINE = "other-engine"
    """What fits is given to the other engine."""
    BOTH_NAMES = "both-names"
    POD_SECURITY = "pod-security"
    KIND = "kind"
    """What it would get cannot work with its kind."""
    SPEC = "spec"
    """It is a policy or a plan that breaks a rule."""


class Refusal(Exception):  # noqa: N818  it is an answer, not a failure
    """The object is refused; the message is the sentence that people read."""

    def __init__(self, sentence: str, reason: Reason = Reason.KIND) -> None:
        super().__init__(sentence)
        self.reason = reason


class Left(msgspec.Struct, frozen=True):
    """The template stays as it was asked; the warning says why ("" when there is nothing to say)."""

    warning: str = ""


class Orders(msgspec.Struct, frozen=True):
    """What holds for all GPU work of one object: its policy, its class and what it says for itself."""

    policy: SlicingPolicy
    class_name: str
    class_from: str
    ask: Ask
    """Counts and names beside are filled in per template."""
    opted_out: bool
    mode: str

    @property
    def spec(self) -> PolicySpec:
        """The policy's spec."""
        return self.policy.spec

    @property
    def workload_class(self) -> WorkloadClass:
        """The class as the policy describes it."""
        return self.spec.classes[self.class_name]


def opted_in(namespace: str, world: World) -> Mapping[str, str] | None:
    """Returns the namespace's labels when it has opted in and is not off or protected."""
    if namespace in world.protected or namespace == world.own_namespace:
        return None
    labels = world.namespaces.get(namespace)
    if not labels or keys.POLICY not in labels or labels.get(keys.MODE) == "off":
        return None
    return labels


def orders(workload: Workload, template: Metadata | None, labels: Mapping[str, str], world: World) -> Orders:
    """Reads what holds for a workload; labels and annotations are read on the object, then on its template.

    Raises:
        Refusal: a label or an annotation breaks a rule.
    """
    title = workload.title
    mode = labels.get(keys.MODE) or "enforce"
    if mode not in MODES:
        raise Refusal(
            f"{title}: namespace {workload.namespace} has {keys.MODE}={mode}, which is no mode; "
            f"label it {keys.MODE}=enforce, audit or off",
            Reason.NAMESPACE,
        )
    engine = labels.get(keys.ENGINE)
    if engine is not None and engine not in tuple(Engine):
        raise Refusal(
            f"{title}: namespace {workload.namespace} has {keys.ENGINE}={engine}, which is no engine; "
            f"label it {keys.ENGINE}=kueue, volcano or none",
            Reason.NAMESPACE,
        )
    policy = world.policy(labels[keys.POLICY])
    if policy is None:
        known = sorted({*world.policies, "default"})
        raise Refusal(
            f"{title}: namespace {workload.namespace} names the policy {labels[keys.POLICY]!r}, which does not "
            f"exist; label it {keys.POLICY}={nearest(labels[keys.POLICY], known)} "
            f"(there are: {', '.join(known)})",
            Reason.NAMESPACE,
        )
    class_name, class_from = _class(workload, template, labels, policy.spec)
    if class_name not in policy.spec.classes:
        known = list(policy.spec.classes)
        raise Refusal(
            f"{title}: {FROM[class_from]} gives it the class {class_name!r}, which policy {policy.name} does not have; "
            f"use {keys.WORKLOAD_CLASS}={nearest(class_name, known)} (there are: {', '.join(known)})",
            Reason.CLASS,
        )
    notes = _notes(workload, template, policy)
    ask = _ask(title, policy, class_name, notes)
    return Orders(policy, class_name, class_from, ask, _opted_out(title, notes), mode)


def _class(
    workload: Workload, template: Metadata | None, labels: Mapping[str, str], spec: PolicySpec
) -> tuple[str, str]:
    own = workload.metadata.label(keys.WORKLOAD_CLASS)
    if own is None and template is not None:
        own = template.label(keys.WORKLOAD_CLASS)
    if own is not None:
        return own, "label"
    kind = f"{workload.kind}.{workload.group}" if workload.group else workload.kind
    if by_kind := spec.kinds.get(kind):
        return by_kind, "kind"
    if by_namespace := labels.get(keys.WORKLOAD_CLASS):
        return by_namespace, "namespace"
    return spec.default_class, "default"


_NOTES: Final = {
    keys.GPU_MEMORY: Allowed.GPU_MEMORY,
    keys.PROFILE: Allowed.PROFILE,
    keys.NEEDS: Allowed.NEEDS,
    keys.REWRITE: Allowed.OPT_OUT,
}


def _notes(workload: Workload, template: Metadata | None, policy: SlicingPolicy) -> dict[str, str]:
    """Returns the annotations that people wrote, each checked against what the policy allows."""
    found = {}
    for key, allowed in _NOTES.items():
        value = workload.metadata.annotation(key)
        if value is None and template is not None:
            value = template.annotation(key)
        if value is None or (key == keys.REWRITE and value == "true"):
            continue
        if allowed not in policy.spec.allow:
            raise Refusal(
                f"{workload.title}: policy {policy.name} does not allow the annotation {key} "
                f"(spec.allow leaves out {allowed}); remove it or ask whoever keeps the policy",
                Reason.NOT_ALLOWED,
            )
        found[key] = value
    return found


def _opted_out(title: str, notes: Mapping[str, str]) -> bool:
    value = notes.get(keys.REWRITE)
    if value not in {None, "false"}:
        raise Refusal(
            f'{title}: {keys.REWRITE}={value!r} means nothing; write "false" to opt out or remove it',
            Reason.ANNOTATION,
        )
    return value == "false"


def _ask(title: str, policy: SlicingPolicy, class_name: str, notes: Mapping[str, str]) -> Ask:
    spec, work = policy.spec, policy.spec.classes[class_name]
    first, profile, memory = work.strategy, "", None
    if work.size is not None:
        profile = _dotted(work.size.profile)
        memory = mebibytes(work.size.memory) if work.size.memory else None
    if (need := notes.get(keys.NEEDS)) is not None:
        if need not in tuple(Need):
            raise Refusal(
                f"{title}: {keys.NEEDS}={need!r} is unknown; write one of {', '.join(Need)}",
                Reason.ANNOTATION,
            )
        if Need(need) not in spec.needs:
            raise Refusal(
                f"{title}: policy {policy.name} has no strategy for {keys.NEEDS}={need}; remove it",
                Reason.ANNOTATION,
            )
        first = spec.needs[Need(need)]
    if keys.GPU_MEMORY in notes and keys.PROFILE in notes:
        raise Refusal(
            f"{title}: {keys.PROFILE} names a slice and {keys.GPU_MEMORY} asks for the smallest that holds so much; "
            "keep one of them",
            Reason.ANNOTATION,
        )
    if (wanted := notes.get(keys.GPU_MEMORY)) is not None:
        try:
            memory, profile = mebibytes(wanted), ""
        except QuantityError as error:
            words = f"{title}: {keys.GPU_MEMORY}: {error}; write for example 16Gi"
            raise Refusal(words, Reason.ANNOTATION) from None
    each = False
    if (wanted := notes.get(keys.PROFILE)) is not None:
        profile, each, first = _dotted(wanted), True, Strategy.MIG
        if not profile:
            raise Refusal(
                f"{title}: {keys.PROFILE}={wanted!r} is no MIG profile; write for example 1g.10gb",
                Reason.ANNOTATION,
            )
    strategies = tuple(dict.fromkeys((first, *work.otherwise)))
    return Ask(strategies, frozenset(), memory, profile, work.models, work.multi_gpu, each)


def _dotted(profile: str | None) -> str:
    parsed = mig.parse(profile) if profile else None
    return parsed.dotted if parsed else ""


def decide(
    workload: Workload, template: Template, asked: list[Wanting], holds: Orders, world: World
) -> Decision | Left:
    """Decides one template whose containers ask for GPUs.

    Raises:
        Refusal: the policy says no; the sentence says what to change.
    """
    counts = frozenset(each.gpus for each in asked if each.gpus)
    beside = frozenset(name for each in asked for name in each.named)
    ask = msgspec.structs.replace(holds.ask, counts=counts, beside=beside)
    engine, queue = queued(workload, template, world)
    if selectors.selects(template.spec):
        choice = _narrowed(ask, template.spec, world, engine, queue)
    else:
        choice = world.chosen(ask, engine, queue)
    if isinstance(choice, TooMany):
        raise Refusal(_too_many(workload, holds, choice, asked), Reason.TOO_MANY)
    if isinstance(choice, NothingFits):
        words = _nothing_fits(workload, holds, choice, engine)
        if holds.spec.when_nothing_fits is WhenNothingFits.LEAVE:
            return Left(f"{words}; left as it was asked")
        raise Refusal(words, Reason.OTHER_ENGINE if choice.elsewhere else Reason.NOTHING_FITS)
    containers = {}
    for each in asked:
        if each.gpus:
            name, number = choice.of(each.gpus)
            containers[each.container.name] = Assigned(keys.GPU, name, number, each.gpus)
    return Decision(
        holds.policy.name,
        holds.class_name,
        holds.class_from,
        choice.strategy,
        choice.pools,
        containers,
        _reason(holds, choice),
        choice.steered,
        pipe_directory=_pipe_directory(workload, template, choice, holds, world),
    )


def _pipe_directory(
    workload: Workload, template: Template, choice: Choice, holds: Orders, world: World
) -> str:
    """Returns where the pod meets its class's own MPS daemon: on what the class names first, and in a pod spec."""
    work = holds.workload_class
    if not work.pipe_directory or choice.strategy != work.strategy or template.means is not Means.SPEC:
        return ""
    if template.slots:
        return ""  # there is no pod spec that could hold the mount
    enforced = world.namespaces.get(workload.namespace, {}).get(keys.POD_SECURITY, "privileged")
    if enforced != "privileged":
        raise Refusal(
            f"{workload.title}: class {holds.class_name} of policy {holds.policy.name} works through an MPS daemon "
            f"(pipeDirectory {work.pipe_directory}), which needs hostIPC and a hostPath volume, and namespace "
            f"{workload.namespace} enforces the Pod Security Standard {enforced}, which allows neither; label the "
            f"namespace {keys.POD_SECURITY}=privileged or use another class",
            Reason.POD_SECURITY,
        )
    return work.pipe_directory


def queued(workload: Workload, template: Template, world: World) -> tuple[Engine | None, str]:
    """Returns the engine whose pools a template must keep to, and the queue whose quota it should; None and "" where
    that does not matter or is not known."""
    if not world.divided():
        return None, ""
    labels = world.namespaces.get(workload.namespace, {})
    engine = queues.engine_of(workload, template, labels)
    return engine, queues.queue_of(workload, template, labels, engine)


def without_quota(workload: Workload, template: Template, decision: Decision, world: World) -> list[str]:
    """Warns of a decision for which the workload's queue has no quota, as far as plans say."""
    engine, queue = queued(workload, template, world)
    quota = world.fed(engine, queue)
    gets = {each.to for each in decision.containers.values()}
    if quota is None or any(gets <= quota.get(pool, frozenset()) for pool in decision.pools):
        return []
    words = (
        f"{workload.title}: queue {queue} has no quota of {', '.join(decision.pools)}, so it may wait for ever; its "
        f"QuotaPlan feeds it from {', '.join(sorted(quota)) or 'no pool that there is now'}; use another class or "
        "have the plan take such a pool"
    )
    return [words]


def _narrowed(
    ask: Ask, spec: PodSpec, world: World, engine: Engine | None, queue: str
) -> Choice | TooMany | NothingFits:
    def narrow(pool: Pool, name: str) -> bool:
        return selectors.leaves(spec, pool, name)

    return choose(ask, world.all_pools(), narrow, world.elsewhere(engine), world.fed(engine, queue))


def _reason(holds: Orders, choice: Choice) -> str:
    why = f" ({choice.why})" if choice.why else ""
    sized = holds.ask.memory is not None or holds.ask.profile
    which = "the smallest that holds what is asked" if sized else "the smallest offered"
    return f"class {holds.class_name} gets {choice.strategy}{why}; {which} is a {choice.unit}"


def _too_many(workload: Workload, holds: Orders, found: TooMany, asked: list[Wanting]) -> str:
    most = max(asked, key=lambda each: each.gpus)
    rule = "multiGPU: refuse" if found.explicit else "shares cannot be added up"
    whole = [n for n, c in holds.spec.classes.items() if c.strategy is Strategy.EXCLUSIVE]
    fix = f", or label the workload {keys.WORKLOAD_CLASS}={whole[0]} to get whole GPUs" if whole else ""
    return (
        f"{workload.title}: container {most.container.name!r} asks for {most.gpus} GPUs, but class "
        f"{holds.class_name} of policy {holds.policy.name} gets {found.strategy} ({rule}); "
        f"ask for {keys.GPU}: 1{fix}"
    )


def _nothing_fits(workload: Workload, holds: Orders, found: NothingFits, engine: Engine | None) -> str:
    ask = holds.ask
    fix = "use another class"
    if found.elsewhere and engine is not None:
        fix = f"submit it where {keys.ENGINE} is that engine, have a QuotaPlan give such a pool to {engine.title()},"
    elif ask.profile:
        fix = f"ask for another profile than {ask.profile}"
    elif ask.memory is not None:
        fix = f"ask for less than {ask.memory} MiB ({keys.GPU_MEMORY})"
    return (
        f"{workload.title}: no pool can serve class {holds.class_name} of policy {holds.policy.name} "
        f"({'; '.join(found.tried) or 'no node offers GPUs'}); {fix} or ask whoever keeps the cluster"
    )


def nearest(name: str, known: list[str]) -> str:
    """Returns the known name that is most like a misspelt one."""
    return next(iter(get_close_matches(name, known, n=1, cutoff=0.0)), name)
