"""The Go programs of this benchmark, built once per change into the cache outside the tree."""

import platform
import sys
from hashlib import sha256
from pathlib import Path

from e2e.harness.binaries import Programs, Recipe, ensure

_SOURCES = Path(__file__).with_name("servers")


class _Sources(Recipe):
    """A module of ours: what decides the result is its source, for it depends on nothing else."""

    @property
    def module(self) -> Path:
        return _SOURCES

    def key(self) -> str:
        digest = sha256()
        for source in sorted(_SOURCES.rglob("*")):
            if source.is_file():
                digest.update(source.read_bytes())
        digest.update(repr((self.packages, sys.platform, platform.machine())).encode())
        return digest.hexdigest()[:12]


def programs() -> Programs:
    """Builds `webhook` and `load`, or finds them built.

    Raises:
        e2e.harness.errors.ClusterError: Go could not be had or did not build them.
    """
    packages = {"webhook": "./webhook", "load": "./load"}
    return ensure(_Sources("admission-benchmark", packages, files={}, environment={"CGO_ENABLED": "0"}))
