"""`slicewise pools`: the pools, what each advertises, what is not believed yet and why."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import partial
from typing import Final

from slicewise.cli.inputs import changed_argument, cluster, cluster_arguments
from slicewise.cli.output import Listing, lines, output_argument, table
from slicewise.cli.selection import label_argument
from slicewise.cli.watching import View, unread_nodes, watch, watch_argument
from slicewise.inventory.gpu_operator import collect
from slicewise.inventory.node_resources import Resource
from slicewise.inventory.pools import Pool
from slicewise.kube.snapshot import Snapshot

_WIDE: Final = ("MOST ON ONE NODE", "MEMORY OF ONE", "TAINTS")


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `pools`."""
    changed_argument(parser)
    cluster_arguments(parser)
    label_argument(parser, "nodes")
    output_argument(parser)
    watch_argument(parser, "print them again whenever they change")


def run(options: Namespace) -> int:
    """Prints the pools."""
    show = partial(_view, options)
    if options.watch:
        watch(options, show)
    show(cluster(options)).print()
    return 0


def _view(options: Namespace, snapshot: Snapshot) -> View:
    _, complaints = collect(snapshot.of("ConfigMap"))
    unread, every = unread_nodes(options, snapshot), snapshot.nodes
    snapshot.nodes = [node for node in every if options.selector.matches(node.labels)]
    pools = list(snapshot.pools)
    names = [f"pool/{pool.name}" for pool in pools]  # no kind of Kubernetes
    listing = Listing.of(
        names,
        [pool.document() for pool in pools],
        partial(_table, pools, _none(unselected=bool(every) and not snapshot.nodes, unread=bool(unread))),
    )
    return View(listing.formatted(options.output), [*unread, *complaints])


def _none(*, unselected: bool, unread: bool) -> str:
    """Returns what to say where there is no pool."""
    if unselected:
        return "No node has the labels that -l selects."
    return "" if unread else "No node offers an NVIDIA GPU."


def _table(pools: list[Pool], none: str, wide: bool) -> str:  # noqa: FBT001  as a Listing has it
    if not pools:
        return none
    head = ["POOL", "STRATEGY", "MODEL", "SOURCE", "NODES", "OFFERS", "UNSETTLED"]
    rows = [
        [
            pool.name,
            pool.strategy,
            pool.model,
            ", ".join(pool.sources) or "-",
            len(pool.nodes),
            ", ".join(f"{name}={r.quantity}" for name, r in sorted(pool.resources.items())) or "nothing",
            len(pool.unsettled),
            *(_more(pool) if wide else ()),
        ]
        for pool in pools
    ]
    text = table([*head, *(_WIDE if wide else ())], rows)
    doubts = [f"  {each.node} ({pool.name}): {each.reason}" for pool in pools for each in pool.unsettled]
    return "\n".join([text, *(["", "Not believed as they stand:", lines(doubts)] if doubts else [])])


def _more(pool: Pool) -> Iterator[str]:
    """Yields the columns of `_WIDE`."""
    most: dict[str, int] = {}
    for offer in (member.offer for member in pool.members):
        for name, quantity in (offer.quantities if offer else {}).items():
            most[name] = max(quantity, most.get(name, 0))
    yield ", ".join(f"{name}={most[name]}" for name in sorted(most)) or "nothing"
    memory = [f"{name}={_memory(each)}" for name, each in sorted(pool.resources.items()) if each.memory]
    yield ", ".join(memory) or "-"
    yield ", ".join(f"{each.key}={each.value}:{each.effect}" for each in pool.taints) or "-"


def _memory(resource: Resource) -> str:
    """Returns the memory of one, and by how many it is shared."""
    shared = f" shared by {resource.sharers}" if resource.sharers > 1 else ""
    return f"{resource.memory}Mi{shared}"
