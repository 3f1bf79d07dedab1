"""Volcano's scheduler in a cluster that runs, started again with other settings."""

from __future__ import annotations

from e2e.harness import volcano
from e2e.harness.cluster import Cluster


def count_with(cluster: Cluster, plugin: str) -> None:
    """Starts the scheduler again so that it counts quota with another plugin.

    ``plugin`` is ``capacity`` (with a hierarchy, as it starts) or ``proportion``; the two exclude each other.
    """
    counting = "  - name: capacity\n    enableHierarchy: true\n"
    text = (
        volcano.SCHEDULER
        if plugin == "capacity"
        else volcano.SCHEDULER.replace(counting, f"  - name: {plugin}\n")
    )
    cluster.kill("vc-scheduler")
    (cluster.folder / "volcano-scheduler" / "scheduler.conf").write_text(text)
    cluster.start("vc-scheduler")


def only_nodes(cluster: Cluster, label: str) -> None:
    """Starts the scheduler again so that it sees no nodes but those with a label, given as ``key:value``."""
    cluster.kill("vc-scheduler")
    cluster.program("vc-scheduler").command.append(f"--node-selector={label}")
    cluster.start("vc-scheduler")
