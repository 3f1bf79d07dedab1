"""A wall clock that is wrong, for one real process: libfaketime's library, loaded before the C library.

Everything in the process sees it, OpenSSL too. The monotonic clock is right, as where a date alone is wrong. The
library comes in a wheel of its Python binding.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Final

from e2e.harness.pinned_archive import taken_from

_WHEEL: Final = "libfaketime==3.0.1"
_SHA256: Final = "5eed7c17f3d4ba0f6f828de4975f69a622b06b1e792674e6c1b069c0689fab79"
_LIBRARY: Final = "libfaketime/vendor/libfaketime/src/libfaketime.so.1"


def _library() -> Path:
    return taken_from(_download, "sha256", _SHA256, _unpacked, f"{_WHEEL.replace('==', '-')}.so")


def _download() -> list[str]:
    return [*(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"), _WHEEL]


def _unpacked(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as files:
        return files.read(_LIBRARY)


def with_clock(command: list[str], seconds: int) -> list[str]:
    """Returns the command as a process whose wall clock is ahead by so many seconds, or behind."""
    settings = {
        "LD_PRELOAD": str(_library()),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return ["/usr/bin/env", *(f"{name}={value}" for name, value in settings.items()), *command]
