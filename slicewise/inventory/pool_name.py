"""The name of a pool: what its model is called, how its boards are divided, and which taints stay on its nodes.

`PoolName.parse` is the exact inverse of `PoolName.format`. A name is a label value and the name of a ResourceFlavor, so
it has at most 63 characters of a-z, 0-9 and "-"; what is cut to fit is the model, never the division.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Self

import msgspec

from slicewise.gpu.strategies import Strategy
from slicewise.inventory.node import Taint

UNKNOWN: Final = "unknown"
LONGEST: Final = 63
_DIGEST: Final = 8
_TAINTED: Final = "-tainted-"

MIG_MIXED: Final = "mig-mixed"
MIG_DYNAMIC: Final = "mig-dynamic"
"""Partitionable boards of DRA: a slice is made when a pod gets it."""
MIG_SINGLE: Final = "mig-single"
_VENDOR_WORDS: Final = frozenset({"nvidia", "tesla"})
# How a board is packaged changes neither its memory, its profiles nor what a slice of it holds.
_PACKAGING: Final = re.compile(r"sxm\d*|pcie|hbm\d\w*|oam", re.ASCII)
_TAINT_SUFFIX: Final = re.compile(rf"{_TAINTED}([0-9a-f]{{{_DIGEST}}})$")
_SHARES: Final = re.compile(r"-(?:x([1-9][0-9]*)|shared)$")
# Nothing has 0 replicas, and no number begins with 0.
_NAME: Final = re.compile(
    r"(?P<model>[a-z0-9]+(?:-[a-z0-9]+)*?)-(?P<division>"
    rf"{MIG_DYNAMIC}|(?:{MIG_MIXED}|{MIG_SINGLE}(?=-))(?:-(?!x0)[a-z0-9]+)*"
    r"|exclusive|vgpu|(?:time-slicing|mps|shared)(?:-x[1-9][0-9]*)?)"
)


class PoolName(msgspec.Struct, frozen=True):
    """The parts of a pool's name."""

    model: str
    """The model in the name's words, `h100-80gb`."""
    division: str
    """How its boards are divided: `exclusive`, `time-slicing-x10`, `mig-single-1g-5gb`, `mig-mixed`, `mig-dynamic` …"""
    taints: str = ""
    """A digest of the lasting taints; "" where there are none."""

    @staticmethod
    def of(model: str, division: str, taints: Iterable[Taint] = ()) -> "PoolName":
        """Names a pool; the model is shortened where the whole would be too long, or would read as something else."""
        return PoolName._of(
            model, division, _digest(*(f"{taint.key}={taint.value}:{taint.effect}" for taint in taints))
        )

    @staticmethod
    @lru_cache(maxsize=1024)
    def _of(model: str, division: str, digest: str) -> "PoolName":
        """There are few pools, and each look at a node names one."""
        slug = model_slug(model)
        name = PoolName(slug, slugged(division), digest)
        if name._fits():
            return name
        room = LONGEST - len(PoolName("", name.division, digest).format()) - _DIGEST - 1
        start = re.sub(r"[^a-z0-9]+$", "", slug[: max(0, room)])
        short = PoolName(f"{start}-{_digest(slug)}" if start else _digest(slug), name.division, digest)
        return short if short._fits() else PoolName(_digest(slug), name.division, digest)

    def format(self) -> str:
        """Returns the name."""
        return f"{self.model}-{self.division}{_TAINTED + self.taints if self.taints else ''}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Reads a name; None for one that `format` never returns."""
        if len(name) > LONGEST:
            return None
        suffix = _TAINT_SUFFIX.search(name)
        match = _NAME.fullmatch(name[: suffix.start()] if suffix else name)
        return cls(match["model"], match["division"], suffix[1] if suffix else "") if match else None

    def _fits(self) -> bool:
        text = self.format()
        return len(text) <= LONGEST and PoolName.parse(text) == self

    @property
    def profile(self) -> str:
        """The MIG profile of every plain device, as the name writes it (`1g-5gb`); "" where they are no slices."""
        if not self.division.startswith(MIG_SINGLE + "-"):
            return ""
        return _SHARES.sub("", self.division.removeprefix(MIG_SINGLE + "-"))

    @property
    def replicas(self) -> int:
        """Shares of each device, where the name ends with them."""
        shares = _SHARES.search(self.division)
        return int(shares[1] or 1) if shares else 1

    @property
    def names_slices(self) -> bool:
        """True when MIG slices of such a pool have names of their own."""
        return self.division.startswith((MIG_MIXED, MIG_DYNAMIC))

    @property
    def shares_slices(self) -> bool:
        """True when slices that have names of their own are shared in such a pool, all of them or some."""
        ways = self.division.removeprefix(MIG_MIXED) if self.division.startswith(MIG_MIXED) else ""
        return bool(re.sub(r"-gpu-x[0-9]+$", "", ways))

    @property
    def strategies(self) -> frozenset[Strategy]:
        """The strategies that a plain `nvidia.com/gpu` of such a pool may be of."""
        shared = _SHARES.search(self.division) is not None
        if self.division.startswith(MIG_SINGLE):
            return frozenset({Strategy.TIME_SLICING, Strategy.MPS} if shared else {Strategy.MIG})
        if self.division.startswith(MIG_MIXED):
            plain_shared = shared and _SHARES.sub("", self.division).endswith("-gpu")
            return frozenset({Strategy.TIME_SLICING, Strategy.MPS} if plain_shared else {Strategy.EXCLUSIVE})
        if self.division == MIG_DYNAMIC:
            return frozenset({Strategy.EXCLUSIVE})
        return frozenset({Strategy(_SHARES.sub("", self.division))})


def model_slug(model: str) -> str:
    """Returns a model in the words of a pool's name: `NVIDIA-A100-SXM4-40GB` -> `a100-40gb`."""
    words = [word for word in re.split(r"[^a-z0-9]+", model.lower()) if word]
    kept = [word for word in words if word not in _VENDOR_WORDS and not _PACKAGING.fullmatch(word)]
    return "-".join(kept or words) or UNKNOWN


def slugged(text: str) -> str:
    """Returns text in the characters of a label value: lower case and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_DIGEST] if parts else ""
