"""`slicewise pools`: the pools, what each advertises, what is not believed yet and why."""

from argparse import ArgumentParser, Namespace

from slicewise.cli.inputs import changed_argument, cluster, cluster_arguments
from slicewise.cli.output import table, tell, to_json, to_yaml
from slicewise.inventory.gpu_operator import collect
from slicewise.inventory.pools import Pool


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `pools`."""
    changed_argument(parser)
    cluster_arguments(parser)
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")


def run(options: Namespace) -> int:
    """Prints the pools."""
    snapshot = cluster(options)
    _, complaints = collect(snapshot.of("ConfigMap"))
    for complaint in complaints:
        tell(complaint)
    pools = list(snapshot.pools)
    documents = [pool.document() for pool in pools]
    if options.output == "json":
        print(to_json(documents))
    elif options.output == "yaml":
        print(to_yaml([documents]), end="")
    else:
        print(_table(pools))
    return 0


def _table(pools: list[Pool]) -> str:
    if not pools:
        return "No node offers an NVIDIA GPU."
    rows = [
        (
            pool.name,
            pool.strategy,
            pool.model,
            ", ".join(pool.sources) or "-",
            len(pool.nodes),
            ", ".join(f"{name}={r.quantity}" for name, r in sorted(pool.resources.items())) or "nothing",
            len(pool.unsettled),
        )
        for pool in pools
    ]
    text = table(("POOL", "STRATEGY", "MODEL", "SOURCE", "NODES", "OFFERS", "UNSETTLED"), rows)
    doubts = [f"  {each.node} ({pool.name}): {each.reason}" for pool in pools for each in pool.unsettled]
    return "\n".join([text, *(["", "Not believed as they stand:", *doubts] if doubts else [])])
