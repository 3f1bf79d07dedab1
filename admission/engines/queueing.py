"""Which engine queues a workload, and in which queue: its own word first, then its namespace's labels.  Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from admission.engines.registry import ENGINES
from admission.mutation.draft import Draft
from admission.workloads.model import NO_METADATA, Template, Workload
from slicewise.api import keys
from slicewise.api.policy import Engine, engine_label

Labels = Mapping[str, str]


def _objects(workload: Workload) -> Iterator[Workload]:
    """Yields a workload, and then what it holds that has a kind of its own."""
    yield workload
    inner = {each.inner.pointer: each.inner for each in workload.templates if each.inner is not None}
    for each in inner.values():
        templates = tuple(template for template in workload.templates if template.inner is each)
        yield Workload(each.row, workload.namespace, each.metadata or NO_METADATA, templates, each.document)


def engines_named(workload: Workload) -> list[Engine]:
    """Returns the engines that a workload names itself, in any of its templates or beside them."""
    objects = list(_objects(workload))
    return [
        name
        for name, engine in ENGINES.items()
        if any(
            engine.queues(found, each) or engine.queue_of(found, each)
            for found in objects
            for each in found.templates
        )
    ]


def engine_of(workload: Workload, labels: Labels) -> Engine | None:
    """Returns who queues a workload: what it says itself, else what its namespace says; None where nobody says, or
    it says more than one."""
    own = engines_named(workload)
    if own:
        return own[0] if len(own) == 1 else None
    said = engine_label(labels)
    return Engine(said) if said in ENGINES else None


def started_by(workload: Workload) -> Engine | None:
    """Returns the engine that has started a pod on nodes that it chose; None where none has."""
    if not workload.metadata.owner_references:
        return None  # an engine starts what a controller makes
    return next((name for name, engine in ENGINES.items() if engine.has_started(workload)), None)


def queue_of(workload: Workload, template: Template, labels: Labels, engine: Engine | None) -> str:
    """Returns the queue in which an engine will count a workload; "" where nobody says."""
    if engine is None:
        return ""
    own = ENGINES[engine].queue_of(workload, template) or queue_named(workload, engine)
    return own or labels.get(keys.QUEUE, "")


def queue_to_join(workload: Workload, labels: Labels, engine: Engine) -> str:
    """Returns the queue of an engine that new work goes to; "" when it goes to none.

    It is the one that its namespace names, in every place where the engine may look, unless the workload names one
    anywhere: then that, and nothing of another engine.
    """
    return _queue_to_join(workload, labels, engine, engines_named(workload))


def _queue_to_join(workload: Workload, labels: Labels, engine: Engine, named: Sequence[Engine]) -> str:
    if engine_label(labels) != engine or not (queue := labels.get(keys.QUEUE, "")):
        return ""
    if named and engine not in named:
        return ""
    return queue_named(workload, engine) or queue


def queue_named(workload: Workload, engine: Engine) -> str:
    """Returns the queue of an engine that a workload names in any of its templates or beside them; "" for none."""
    own = (
        ENGINES[engine].queue_of(found, template)
        for found in _objects(workload)
        for template in found.templates
    )
    return next(filter(None, own), "")


def join(draft: Draft, workload: Workload, labels: Labels) -> tuple[str, str]:
    """Puts new work into its queue.

    Returns:
        that queue, "" where there is none; and what to warn of, "" for nothing.
    """
    if (said := engine_label(labels)) not in ENGINES:
        return "", ""
    name, named = Engine(said), engines_named(workload)
    queue = _queue_to_join(workload, labels, name, named)
    if queue:
        ENGINES[name].join(draft, workload, queue)
    return queue, _caution(workload, name, named)


def _caution(workload: Workload, said: Engine, named: Sequence[Engine]) -> str:
    """Returns what to warn of where a workload names another engine than its namespace; "" where it names none."""
    other = next((each for each in named if each is not said), None)
    if other is None:
        return ""
    if said in named:
        return _both(workload, said, other)
    whose = _whose(workload, other)
    fix = f"submit it where {keys.ENGINE} is {other}"
    by = "as its kind does"
    if workload.queueing.engine != other:
        fix = f"take out what names {other.title()}, or {fix}"
        by = "as it says itself"
    return (
        f"{workload.title}: queues in {whose}, {by}, and not in {said.title()} as its namespace does, so no quota of "
        f"{said.title()}'s counts it; {fix}"
    )


def _both(workload: Workload, one: Engine, other: Engine) -> str:
    return (
        f"{workload.title}: names {one.title()} and {_whose(workload, other)}, and each counts it against a quota of "
        f"its own; take out what names {other.title()}"
    )


def _whose(workload: Workload, engine: Engine) -> str:
    queue = queue_named(workload, engine)
    return f"{engine.title()} (queue {queue})" if queue else engine.title()


def keep(draft: Draft, workload: Workload, old: Workload) -> str:
    """Keeps a queue through an update that applies a manifest without it, unless that newly names another engine.

    Returns:
        what to warn of; "" for nothing.
    """
    named, stood = engines_named(workload), engines_named(old)
    new = [each for each in named if each not in stood]
    for name in stood:
        if name in named or not new:
            ENGINES[name].keep(draft, workload, old)
    former = next((each for each in named if each in stood), None)
    return _both(workload, new[0], former) if new and former else ""


def stays(workload: Workload, unsaid: Callable[[str], bool]) -> Iterator[str]:
    """Yields in which queues a workload stays, though its manifest says nothing at the places that name them."""
    yield from filter(None, (engine.stays(workload, unsaid) for engine in ENGINES.values()))


def pinning_engine(workload: Workload, old: Workload) -> str:
    """Returns the engine that keeps an object to what its pods ask for now; "" where a change is as any other."""
    name = old.queueing.keeper
    engine = ENGINES.get(Engine(name)) if name else None
    return name if engine is not None and engine.pins(workload, old) else ""
