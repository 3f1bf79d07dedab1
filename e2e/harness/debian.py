"""Programs that a test takes from Debian: one on PATH, or else the package, which a run as root installs."""

from __future__ import annotations

import os
import shutil
import subprocess

from e2e.harness.binaries import cache_folder, locked
from e2e.harness.errors import ClusterError


def program(names: tuple[str, ...], package: str) -> str:
    """The path of the first of these programs that is there; :class:`ClusterError` when none can be had."""
    for attempt in range(2):
        for name in names:
            if found := shutil.which(name):
                return found
        if attempt == 0 and shutil.which("apt-get") and os.getuid() == 0:
            with locked(cache_folder() / "debian.lock"):
                subprocess.run(["apt-get", "update", "-qq"], check=False, stdout=subprocess.DEVNULL)
                command = ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", package]
                environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
                subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env=environment)
    raise ClusterError(f"there is no {names[0]} on PATH: apt-get install {package}.")
