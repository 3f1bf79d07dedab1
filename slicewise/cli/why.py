"""`slicewise why QUEUE`: the arithmetic of a queue's numbers, as a tree. `why KIND/NAME` is in `why_workload`."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from queue_sync.planning.capacity import text
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.quota_breakdown import Number, PoolPart, QueueBreakdown, quota_breakdowns
from slicewise.api.errors import BadInput, did_you_mean
from slicewise.cli.inputs import cluster_arguments, namespace, read_quota
from slicewise.cli.output import Listing, lines, output_argument, reference
from slicewise.cli.plans import BLIND, LIMITS, read_cluster
from slicewise.inventory.planned_geometry import observe
from slicewise.kube.object_types import ENGINE_OBJECTS

_Tree = tuple[str, Sequence["_Tree"]]
"""A line, and what is below it."""
_QUEUES: Final = frozenset(
    {"", *(each.kind.lower() for of in ENGINE_OBJECTS.values() for each in (of.quota, of.joined))}
)
# As `kubectl api-resources` lists them for the kinds of Kubernetes and for Kueue's.
_SHORT_NAMES: Final = {
    "no": "node",
    "po": "pod",
    "deploy": "deployment",
    "cj": "cronjob",
    "sts": "statefulset",
    "ds": "daemonset",
    "rs": "replicaset",
    "cq": "clusterqueue",
    "lq": "localqueue",
}


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `why`."""
    parser.add_argument(
        "queue",
        metavar="QUEUE|KIND/NAME",
        help="a queue that a plan lists, or a workload, such as job/train: why it waits",
    )
    parser.add_argument("-n", "--namespace", help="of the workload (default: the context's, as kubectl)")
    cluster_arguments(parser)
    output_argument(parser)


def run(options: Namespace) -> int:
    """Prints how the queue's numbers come about, for every plan that lists it.

    Raises:
        BadInput: no plan lists the queue, or there is no node at all.
    """
    kind, name = _kind_and_name(options.queue)
    if kind == "quotaplan":
        raise BadInput(
            f"{options.queue}: a plan's numbers are its queues'; name one of the queues that "
            "`slicewise plan` shows for it"
        )
    if kind == "node":
        raise BadInput(
            f"{options.queue}: a Node is not work, so it waits for nothing; `slicewise pools` shows what nodes offer"
        )
    if kind not in _QUEUES:
        from slicewise.cli import why_workload  # noqa: PLC0415  each reads another part of the cluster

        return why_workload.run(options, kind, name)
    snapshot = read_cluster(options, read_quota(options))
    known = ClusterState.from_snapshot(snapshot)
    if kind == "localqueue":
        local = known.existing.local_queues.get(f"{namespace(options)}/{name}")
        name = local["spec"]["clusterQueue"] if local else name
    if not any(queue.name == name for plan in known.plans for queue in plan.spec.queues):
        raise BadInput(_unknown(name, known))
    if not snapshot.nodes:
        raise BadInput(BLIND)
    configs, rules, devices = snapshot.configs, snapshot.rules, snapshot.devices
    shown = {node.name: observe(node, configs, rules, devices.of(node.name)) for node in snapshot.nodes}
    seen = {name: each for name, each in shown.items() if each is not None}
    found = quota_breakdowns(name, known, seen)
    Listing.of(
        [reference(each.kind, each.queue, each.group) for each in found],
        [each.document() for each in found],
        lambda _: lines(words for each in found for words in _lines(_tree(each))),
    ).print(options.output)
    return 0


def _kind_and_name(words: str) -> tuple[str, str]:
    """Reads QUEUE or KIND/NAME; jobs.batch/train is as good as job/train, as for kubectl. A mere name is a queue's."""
    kind, slash, name = words.rpartition("/")
    if slash and (not kind or not name or "/" in kind):
        raise BadInput(f"{words} names no object; write KIND/NAME, such as job/train")
    kind = kind.partition(".")[0].lower()
    return _SHORT_NAMES.get(kind, kind.removesuffix("s")), name


def _unknown(queue: str, known: ClusterState) -> str:
    for plan in known.plans:
        if plan.spec.cohort == queue:
            names = ", ".join(each.name for each in plan.spec.queues[:5])
            return f"{queue} is the cohort of QuotaPlan {plan.name}; name one of its queues, such as {names}"
    if known.pools.pool(queue) is not None:
        return (
            f"{queue} is a pool, and no queue; `slicewise pools` shows it, and `slicewise plan` names queues"
        )
    for engine in ENGINES.values():
        if queue in engine.queues(known.existing):
            return (
                f"{engine.QUEUE.kind} {queue} stands and no QuotaPlan lists it, so nothing says what it should have; "
                "list it in one, or look with `slicewise drift` whether a plan that is gone left it something"
            )
    meant = did_you_mean(queue, {each.name for plan in known.plans for each in plan.spec.queues})
    return f"no QuotaPlan lists a queue {queue}{meant or '; name one that `slicewise plan` shows'}"


def _lines(tree: _Tree) -> Iterator[str]:
    line, below = tree
    yield line
    for index, each in enumerate(below):
        last = index == len(below) - 1
        first, *rest = _lines(each)
        yield ("└─ " if last else "├─ ") + first
        yield from (("   " if last else "│  ") + more for more in rest)


def _tree(found: QueueBreakdown) -> _Tree:
    cohort = f", cohort {found.cohort}" if found.cohort else ""
    below: list[_Tree] = [(f"note: {note}", ()) for note in found.notes]
    below += [_number(each, found.cohort) for each in found.numbers]
    if found.last_change:
        below.append((f"changed last at {found.last_change}", ()))
    return f"{found.kind} {found.queue} of QuotaPlan {found.plan}{cohort}", below or [("has nothing", ())]


def _number(number: Number, cohort: str | None) -> _Tree:
    name, wanted = number.resource, text(number.resource, number.wanted)
    if number.standing is None:
        stands = "does not stand yet"
    elif number.standing == number.wanted:
        stands = "and so it stands"
    else:
        stands = f"stands at {text(name, number.standing)}"
    words = [
        f"{verb} up to {number.limits[field]}" if field in number.limits else f"{verb} without limit"
        for field, verb in LIMITS.items()
        if field in number.limits or (cohort and number.flavor and field != "capability")
    ]
    where = f"{number.flavor}: " if number.flavor else ""
    below = [_pool(each) for each in number.pools] or [("no pool of the plan gives it", ())]
    return f"{where}{name} {'; '.join([f'{wanted} wanted, {stands}', *words])}", below


def _pool(part: PoolPart) -> _Tree:
    def quantity(units: int) -> str:
        return text(part.resource, units)

    return (
        f"{quantity(part.units)} = share {part.share} of {part.shares} of {quantity(part.quota)} in {part.pool}",
        list(_sum(part)),
    )


def _sum(part: PoolPart) -> Iterable[_Tree]:
    def quantity(units: int) -> str:
        return text(part.resource, units)

    nodes = []
    for each in part.nodes:
        shows = f" (shows {quantity(each.shown)})" if each.shown != each.counted else ""
        reason = f": {each.reason}" if each.reason else ""
        nodes.append((f"{each.node} {quantity(each.counted)}{shows}{reason}", ()))
    if part.maximum is not None:
        yield f"{quantity(part.maximum)} maximum, in place of the {quantity(part.counted)} counted", nodes
    elif part.not_together:
        yield (
            f"{quantity(part.counted + part.not_together)} if its boards were divided for nothing else",
            nodes,
        )
        yield (
            f"less {quantity(part.not_together)} that they may have no place for beside what else starts",
            (),
        )
    else:
        yield f"{quantity(part.counted)} counted", nodes
    if part.headroom:
        yield f"less {quantity(part.headroom)} headroom", ()
    if part.left_over:
        yield f"less {quantity(part.left_over)} left over from plans that are gone", ()
