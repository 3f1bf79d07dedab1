"""A control plane that many files of tests share, and the Slicewise that runs on it from one file to the next.

Starting Slicewise costs more processor time than most files of tests. So it stays while one file after another asks for
the chart's defaults, and ends when a file wants the cluster without it, or with other values.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import Installation


class SharedCluster:
    """The cluster of one worker, with or without Slicewise."""

    def __init__(self, cluster: AnyCluster, new_folder: Callable[[], Path]) -> None:
        self._cluster, self._new_folder = cluster, new_folder
        self._installation: Installation | None = None

    def bare(self) -> AnyCluster:
        """The cluster, with no Slicewise running."""
        if self._installation is not None:
            self._installation.stop()
            self._installation = None
        return self._cluster

    def installation(self) -> Installation:
        """Slicewise with the chart's defaults: the one that runs, with nothing left of former plans, or a new one."""
        if self._installation is None:
            self._installation = Installation(self._cluster, self._new_folder())
            self._installation.start()
        else:
            self._installation.forget_former_quota()
        return self._installation

    def stop(self) -> None:
        """Ends Slicewise and the cluster; a second time changes nothing."""
        try:
            self.bare()
        finally:
            self._cluster.stop()
