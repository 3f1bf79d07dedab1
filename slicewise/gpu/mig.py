"""MIG profiles: their names, the boards that have them, and which geometries fit on a board.

The table (`mig_boards.yaml`) holds published facts. It never overrules a node: drivers rename profiles, and
new boards appear first on nodes. It serves to call a profile or a geometry impossible before anyone waits.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final

import msgspec
import yaml

from slicewise.api import keys

# NVIDIA k8s-device-plugin, internal/rm/device_map.go: in a resource name "+" becomes "." and "-" stays.
_PROFILE: Final = re.compile(
    r"(?:(?P<ci>\d{1,4})c\.)?(?P<gi>\d{1,4})g\.(?P<gb>\d{1,4})gb(?P<attributes>(?:[+.][a-z]+(?:\.[a-z]+)*)?|-me)",
    re.ASCII,
)


class Profile(msgspec.Struct, frozen=True, order=True):
    """One MIG profile, such as `1g.10gb`, `1g.10gb+me` or `1g.24gb-me`."""

    compute: int
    gigabytes: int
    attributes: str = ""
    """What follows the size: "", "+me", "+gfx", "+me.all", "-me"."""
    instance: int | None = None
    """Compute slices of a compute instance (`1c.` in front); the device plugin makes no resource of these."""

    @property
    def name(self) -> str:
        """The name as NVML and mig-parted write it."""
        prefix = "" if self.instance is None else f"{self.instance}c."
        return f"{prefix}{self.compute}g.{self.gigabytes}gb{self.attributes}"

    @property
    def dotted(self) -> str:
        """The name as labels, resources and mig-parted's configs carry it."""
        return self.name.replace("+", ".")

    @property
    def resource(self) -> str:
        """The extended resource under the mixed strategy."""
        return keys.MIG_PREFIX + self.dotted

    @property
    def plain(self) -> bool:
        """True for a profile that people get without naming it."""
        return not self.attributes and self.instance is None


@lru_cache(maxsize=4096)  # people write these names too
def parse(text: str) -> Profile | None:
    """Returns the profile that a name means, spelt with `+` or with `.`; None when it is none."""
    match = _PROFILE.fullmatch(text)
    if match is None:
        return None
    attributes = match["attributes"]
    if attributes.startswith("."):
        attributes = "+" + attributes[1:]
    instance = int(match["ci"]) if match["ci"] else None
    return Profile(int(match["gi"]), int(match["gb"]), attributes, instance)


@lru_cache(maxsize=4096)
def of_resource(name: str) -> Profile | None:
    """Returns the profile behind `nvidia.com/mig-<profile>` or `nvidia.com/mig-<profile>.shared`."""
    if not name.startswith(keys.MIG_PREFIX):
        return None
    return parse(name.removeprefix(keys.MIG_PREFIX).removesuffix(keys.SHARED_SUFFIX))


class Placement(msgspec.Struct, frozen=True, array_like=True):
    """What one instance of a profile takes of its board."""

    compute: int
    memory: int | None
    most: int
    mebibytes: int | None
    starts: tuple[int, ...] | None
    """Allowed first memory slices; an instance covers [start, start + memory). None: not published."""


class Board(msgspec.Struct, frozen=True):
    """One board of the table: its slices, and the profiles that it has."""

    products: tuple[str, ...]
    devices: tuple[str, ...]
    """PCI device ids, as `0x2330`."""
    memory_slices: int | None
    compute_slices: int
    profiles: dict[str, Placement]
    aliases: dict[str, str] = {}

    def placement(self, profile: Profile) -> Placement | None:
        """Returns what the profile takes, under its own name or the driver's other name for it."""
        return self.profiles.get(self.aliases.get(profile.name, profile.name))


class _Table(msgspec.Struct, frozen=True):
    boards: dict[str, Board]


@cache
def boards() -> Mapping[str, Board]:
    """Returns the table of boards by id, in the order of the file."""
    text = files("slicewise.gpu").joinpath("mig_boards.yaml").read_text(encoding="utf-8")
    return msgspec.convert(yaml.load(text, yaml.CSafeLoader), _Table).boards


@cache
def board_of(product: str) -> Board | None:
    """Returns the board behind a base product label (`NVIDIA-H100-80GB-HBM3`); None when it is not in the table."""
    return next((board for board in boards().values() if product in board.products), None)


def is_known(profile: Profile) -> bool:
    """True when a board of the table has the profile."""
    return any(board.placement(profile) for board in boards().values())


def known_products() -> frozenset[str]:
    """Returns every base product label in the table."""
    return frozenset(product for board in boards().values() for product in board.products)


def impossible(board: Board, geometry: Mapping[str, int]) -> str | None:
    """Says why one board cannot hold a geometry (profile name → count), or None when it can.

    The rule is NVML's: every instance gets one start from its list so that the memory slices that it covers
    do not overlap; that alone keeps the compute slices within the board on all published ones.
    """
    wanted: list[tuple[str, Placement]] = []
    for name, number in geometry.items():
        profile = parse(name)
        placement = board.placement(profile) if profile else None
        if placement is None:
            return f"this board has no profile {name}; it has {', '.join(board.profiles)}"
        if number > placement.most:
            return f"{number} × {name} do not fit: this board holds {placement.most} at most"
        wanted += [(name, placement)] * number
    if sum(placement.compute for _, placement in wanted) > board.compute_slices:
        return f"{_words(geometry)} needs more than the {board.compute_slices} compute slices of this board"
    if any(placement.starts is None for _, placement in wanted) or board.memory_slices is None:
        return None
    if _placed(sorted((placement for _, placement in wanted), key=_fewest_starts), 0):
        return None
    return f"{_words(geometry)} cannot be placed on the {board.memory_slices} memory slices of this board"


def _words(geometry: Mapping[str, int]) -> str:
    return " + ".join(f"{number} × {name}" for name, number in geometry.items())


def _fewest_starts(placement: Placement) -> tuple[int, int]:
    return len(placement.starts or ()), -(placement.memory or 0)


def _placed(wanted: Sequence[Placement], taken: int) -> bool:
    """Backtracks over the starts; `taken` has a bit per memory slice."""
    if not wanted:
        return True
    head, rest = wanted[0], wanted[1:]
    span = (1 << (head.memory or 0)) - 1
    return any(
        not taken & (span << start) and _placed(rest, taken | (span << start)) for start in head.starts or ()
    )
