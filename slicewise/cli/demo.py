"""`slicewise demo`: the whole loop on a recorded cluster, with nothing but Python.

The webhook is the real one, over TLS on loopback, and is sent real AdmissionReviews; the quotas come from the
controller's own functions. Only the clock and the nodes are played from the recording.
"""

import base64
import json
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import jsonpatch
import msgspec
import yaml

from admission.decision.cluster_state import ClusterState
from queue_sync.planning import desired as planning
from queue_sync.planning.node_trust import NodeState, Settings, evaluate
from slicewise.api import keys
from slicewise.cli.demo_picture import Key, Moment, Quota, draw
from slicewise.cli.errors import Failed
from slicewise.cli.output import Style, styled, table, tell, write
from slicewise.inventory.node import Node
from slicewise.inventory.planned_geometry import observe
from slicewise.inventory.pools import Inventory
from slicewise.kube.snapshot import Document, Object, Snapshot, collect, read_text

_START: Final = 1_800_000_000.0


def arguments(parser: ArgumentParser) -> None:
    """Adds the demo's only flag."""
    parser.description = (
        "The whole loop on a recorded cluster. Nothing is installed, nothing outside is touched."
    )
    parser.add_argument(
        "--picture", metavar="FILE.svg", type=Path, help="draw the five minutes of the story into this file"
    )


def run(options: Namespace) -> int:
    """Plays the demo."""
    snapshot = collect(_documents("cluster.yaml"))
    workloads = [item for document in _documents("workloads.yaml") for item in document.objects()]
    _title("1. A webhook on loopback, a recorded cluster, one workload of each class")
    tell("starting the webhook with a certificate of its own …")
    decisions = _print_rewrites(snapshot, workloads)
    _title("2. The quota follows what nodes really offer, and holds back what cannot be believed")
    tell("playing five minutes of the recorded cluster …")
    moments = _print_quotas(snapshot, _recorded("story.yaml"))
    if options.picture is not None:
        first = decisions[0]
        svg = draw(moments, f"nvidia.com/gpu: {first['asked']}", first["to"], first["count"])
        try:
            options.picture.write_text(svg, encoding="utf-8")
        except OSError as error:
            raise Failed(f"{options.picture}: it cannot be written ({error.strerror})") from error
    _title("What to type next")
    for command, shows in next_commands().items():
        write(f"  # {shows}\n  {command}")
    return 0


def next_commands() -> dict[str, str]:
    """Returns what to type after the demo, as it works here, and what each shows."""
    python = Path(sys.executable)
    if shutil.which("slicewise"):
        command = "slicewise"
    elif beside := shutil.which("slicewise", path=str(python.parent)):
        command = _here(Path(beside))
    else:
        command = f"{_here(python)} -m slicewise"
    recorded = _here(Path(str(files("slicewise.cli").joinpath("recorded"))))
    cluster = f"--snapshot {recorded}/cluster.yaml"
    return {
        f"{command} explain -f {recorded}/workloads.yaml {cluster}": "why each got what it got",
        f"{command} plan {cluster}": "every queue object that would be written",
        f"{command} page {cluster}": "the same cluster in a browser",
        f"{command} pools": "what your own cluster offers, by your kubeconfig",
        "make cluster-demo": "this story on a real control plane with Kueue",
    }


def _here(path: Path) -> str:
    """A path as short as it can be typed from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _recorded(name: str) -> Any:
    return yaml.safe_load(files("slicewise.cli").joinpath("recorded", name).read_text(encoding="utf-8"))


def _documents(name: str) -> list[Document]:
    text = files("slicewise.cli").joinpath("recorded", name).read_text(encoding="utf-8")
    return read_text(name, text)


def _title(text: str) -> None:
    write(f"\n{styled(text, Style.HEAD)}")


# --- The webhook ------------------------------------------------------------------------------------------


def _print_rewrites(snapshot: Snapshot, workloads: list[Object]) -> list[dict[str, Any]]:
    """Sends each to the webhook; returns what their containers asked for and got."""
    from slicewise.cli.demo_webhook import ask, serving  # noqa: PLC0415  the libraries of the network load slowly

    world = ClusterState(snapshot.namespaces, snapshot.policies, snapshot.pools, plans=snapshot.plans)
    rows: list[tuple[str, ...]] = []
    refusals, containers = [], []
    with serving(world) as (url, trust):
        for item in workloads:
            answer = ask(url, trust, item)
            name = f"{item['kind']} {item['metadata']['name']}"
            if not answer["allowed"]:
                refusals.append(answer["status"]["message"])
                rows.append((name, "", "", "refused", "", "as it says below"))
                continue
            left = jsonpatch.apply_patch(deepcopy(item), json.loads(base64.b64decode(answer["patch"])))
            decision = json.loads(left["metadata"]["annotations"][keys.DECISION])
            containers += decision["containers"].values()
            rows += [
                (
                    name,
                    decision["class"],
                    f"nvidia.com/gpu: {each['asked']}",
                    f"{each['to']}: {each['count']}",
                    "only " + ", ".join(decision["pools"])
                    if decision["steered"]
                    else "wherever it is offered",
                    decision["reason"].partition("; ")[2],
                )
                for each in decision["containers"].values()
            ]
    write(table(("WORKLOAD", "CLASS", "ASKS", "GETS", "RUNS ON", "WHY"), rows))
    for sentence in refusals:
        write(f"\n  refused: {sentence}")
    return containers


# --- The quotas -------------------------------------------------------------------------------------------


def _print_quotas(snapshot: Snapshot, story: list[dict[str, Any]]) -> list[Moment]:
    """Plays the story; returns the quotas at each of its moments."""
    nodes = {node.name: msgspec.to_builtins(node) for node in snapshot.nodes}
    beliefs: dict[str, NodeState] = {}
    pools = Inventory()
    write(
        "  Two queues share every pool 3 : 1. Beside each quota, in brackets, stands what a sum of allocatable says."
    )
    before: dict[Key, Quota] = {}
    moments = []
    for entry in story:
        _play(nodes, entry)
        now = _START + entry["at"]
        held = _believe(nodes, beliefs, pools, now)
        after = _quotas(snapshot, pools, nodes)
        _title(f"{entry['at']:4d} s  {entry['event']}")
        changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
        for pool, name in changed:
            quota = after.get((pool, name), Quota(0, 0, 0))
            parts = f"team-a {quota.team_a:2d} + team-b {quota.team_b:2d}"
            write(f"        {pool:22} {name:24} {quota.total:3d} = {parts}   [{quota.allocatable}]")
        for node, reason in held.items():
            write(f"        held back: {node}: {reason}")
        if not changed:
            write("        no quota changes")
        before = after
        moments.append(Moment(entry["at"], entry["event"], after))
    return moments


def _play(nodes: dict[str, Any], entry: Mapping[str, Any]) -> None:
    name = entry.get("node")
    if name is None:
        return
    if entry.get("deleted"):
        del nodes[name]
        return
    node = nodes[name]
    for place, change in (
        (node["metadata"]["labels"], entry.get("labels", {})),
        (node["status"]["capacity"], entry.get("capacity", {})),
        (node["status"]["allocatable"], entry.get("allocatable", {})),
    ):
        for key, value in change.items():
            if value is None:
                del place[key]
            else:
                place[key] = value


def _believe(
    nodes: dict[str, Any], beliefs: dict[str, NodeState], pools: Inventory, now: float
) -> dict[str, str]:
    """Judges every node at this moment, as the controller does when one of them changes; returns what is held back."""
    held = {}
    for name in sorted({*nodes, *beliefs}):
        seen = observe(msgspec.convert(nodes[name], Node)) if name in nodes else None
        belief = evaluate(beliefs.get(name), seen, now, Settings())
        pools.put(name, belief.standing(seen) if seen else None)
        if seen is None:
            beliefs.pop(name, None)
            continue
        beliefs[name] = belief
        if belief.reason:
            held[name] = belief.reason
    return held


def _quotas(snapshot: Snapshot, pools: Inventory, nodes: dict[str, Any]) -> dict[Key, Quota]:
    """The quota of each resource of each pool, also of what nodes show and no quota counts yet."""
    wanted = planning.desired(snapshot.plans.values(), pools, snapshot.namespaces)
    found = {}
    for pool, resources in wanted.assigned.items():
        believed = pools.pool(pool)
        members = believed.nodes if believed else ()
        shown: Counter[str] = Counter()
        for node in members:
            for name, count in nodes[node]["status"]["allocatable"].items() if node in nodes else ():
                if name.startswith(keys.VENDOR):
                    shown[name] += int(count)
        for name in {*resources, *+shown}:
            parts = resources.get(name, {})
            found[pool, name] = Quota(parts.get("team-a", 0), parts.get("team-b", 0), shown[name])
    return found
