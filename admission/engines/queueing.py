"""Which engine queues a workload, and in which queue: its own word first, then its namespace's labels.  Pure."""

from collections.abc import Callable, Iterator, Mapping

from admission.engines.registry import ENGINES, QueueEngine
from admission.mutation.draft import Draft
from admission.workloads.model import NO_METADATA, Template, Workload
from slicewise.api import keys
from slicewise.api.policy import Engine, engine_label

Labels = Mapping[str, str]


class Named:
    """The engines and queues that a workload names itself, looked for once and when somebody asks: it may be long."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._beside: dict[Engine, str] = {}
        self._anywhere: dict[Engine, str] | None = None

    @property
    def engines(self) -> Mapping[Engine, str]:
        """The engines that it names in any of its templates or beside them, with the first queue; "" for none."""
        if self._anywhere is None:
            self._anywhere = {}
            objects = _objects(self.workload)
            for name, engine in ENGINES.items():
                said = [_queues_named(engine, each) for each in objects]
                queue = next((queue for queues in said for queue in queues if queue), "")
                if queue or any(_is_named(engine, each) for each in objects):
                    self._anywhere[name] = queue
                    self._beside[name] = said[0][0]
        return self._anywhere

    def queue(self, engine: Engine) -> str:
        """Returns the queue of an engine that it names in any of its templates or beside them; "" for none."""
        return self.engines.get(engine, "")

    def queue_of(self, template: Template, engine: Engine) -> str:
        """Returns the queue of an engine that it names for a template, before those of others; "" for none."""
        queue = self.queue(engine)
        return queue and (self._beside[engine] or ENGINES[engine].queue_of_template(template) or queue)


def _objects(workload: Workload) -> list[Workload]:
    """Returns a workload, and then what it holds that has a kind of its own; of those that have templates."""
    inner: dict[str, list[Template]] = {}
    for template in workload.templates:
        if template.inner is not None:
            inner.setdefault(template.inner.pointer, []).append(template)
    found = [workload] if workload.templates else []
    for templates in inner.values():
        if (each := templates[0].inner) is not None:
            metadata = each.metadata or NO_METADATA
            found.append(Workload(each.row, workload.namespace, metadata, tuple(templates), each.document))
    return found


def _queues_named(engine: QueueEngine, workload: Workload) -> list[str]:
    """Returns the queue that an object names beside its templates, then those that they name; "" for each of none."""
    return [engine.queue_of(workload), *[engine.queue_of_template(each) for each in workload.templates]]


def _is_named(engine: QueueEngine, workload: Workload) -> bool:
    return engine.queues(workload) or any(engine.queues_template(each) for each in workload.templates)


def engine_of(named: Named, labels: Labels) -> Engine | None:
    """Returns who queues a workload: what it says itself, else what its namespace says; None where nobody says, or
    it says more than one."""
    own = list(named.engines)
    if own:
        return own[0] if len(own) == 1 else None
    said = engine_label(labels)
    return Engine(said) if said in ENGINES else None


def started_by(workload: Workload) -> Engine | None:
    """Returns the engine that has started a pod on nodes that it chose; None where none has."""
    if not workload.metadata.owner_references:
        return None  # an engine starts what a controller makes
    return next((name for name, engine in ENGINES.items() if engine.has_started(workload)), None)


def queue_of(named: Named, template: Template, labels: Labels, engine: Engine | None) -> str:
    """Returns the queue in which an engine will count a workload; "" where nobody says."""
    if engine is None:
        return ""
    return named.queue_of(template, engine) or labels.get(keys.QUEUE, "")


def queue_to_join(named: Named, labels: Labels, engine: Engine) -> str:
    """Returns the queue of an engine that new work goes to; "" when it goes to none.

    It is the one that its namespace names, in every place where the engine may look, unless the workload names one
    anywhere: then that, and nothing of another engine.
    """
    if engine_label(labels) != engine or not (queue := labels.get(keys.QUEUE, "")):
        return ""
    if named.engines and engine not in named.engines:
        return ""
    return named.queue(engine) or queue


def join(draft: Draft, named: Named, labels: Labels) -> tuple[str, str]:
    """Puts new work into its queue.

    Returns:
        that queue, "" where there is none; and what to warn of, "" for nothing.
    """
    if (said := engine_label(labels)) not in ENGINES:
        return "", ""
    name = Engine(said)
    queue = queue_to_join(named, labels, name)
    if queue:
        ENGINES[name].join(draft, named.workload, queue)
    return queue, _caution(named, name)


def _caution(named: Named, said: Engine) -> str:
    """Returns what to warn of where a workload names another engine than its namespace; "" where it names none."""
    other = next((each for each in named.engines if each is not said), None)
    if other is None:
        return ""
    if said in named.engines:
        return _both(named, said, other)
    workload, whose = named.workload, _whose(named, other)
    fix = f"submit it where {keys.ENGINE} is {other}"
    by = "as its kind does"
    if workload.queueing.engine != other:
        fix = f"take out what names {other.title()}, or {fix}"
        by = "as it says itself"
    return (
        f"{workload.title}: queues in {whose}, {by}, and not in {said.title()} as its namespace does, so no quota of "
        f"{said.title()}'s counts it; {fix}"
    )


def _both(named: Named, one: Engine, other: Engine) -> str:
    return (
        f"{named.workload.title}: names {one.title()} and {_whose(named, other)}, and each counts it against a quota "
        f"of its own; take out what names {other.title()}"
    )


def _whose(named: Named, engine: Engine) -> str:
    queue = named.queue(engine)
    return f"{engine.title()} (queue {queue})" if queue else engine.title()


def keep(draft: Draft, named: Named, old: Workload) -> str:
    """Keeps a queue through an update that applies a manifest without it, unless that newly names another engine.

    Returns:
        what to warn of; "" for nothing.
    """
    engines, stood = named.engines, Named(old).engines
    new = [each for each in engines if each not in stood]
    for name in stood:
        if name in engines or not new:
            ENGINES[name].keep(draft, named.workload, old)
    former = next((each for each in engines if each in stood), None)
    return _both(named, new[0], former) if new and former else ""


def leaves(workload: Workload, old: Workload) -> bool:
    """True for an update without the queue that a workload was in."""
    named = Named(workload)
    return any(queue and not named.queue(engine) for engine, queue in Named(old).engines.items())


def stays(workload: Workload, unsaid: Callable[[str], bool]) -> Iterator[str]:
    """Yields in which queues a workload stays, though its manifest says nothing at the places that name them."""
    yield from filter(None, (engine.stays(workload, unsaid) for engine in ENGINES.values()))


def pinning_engine(workload: Workload, old: Workload) -> str:
    """Returns the engine that keeps an object to what its pods ask for now; "" where a change is as any other."""
    name = old.queueing.keeper
    engine = ENGINES.get(Engine(name)) if name else None
    return name if engine is not None and engine.pins(workload, old) else ""
