"""What is planned for a node: the MIG manager's and the device plugin's configuration files.  Pure.

A node on its way to a new geometry is known to be on its way, a geometry that its boards cannot hold is called
impossible before anyone waits for it, and a result that differs from the plan can be told apart from one that is late.

Formats: NVIDIA/mig-parted `api/spec/v1/spec.go` (`mig-configs`), NVIDIA/k8s-device-plugin `api/config/v1/config.go`
(`sharing`, `flags`).
"""

import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

import msgspec

from slicewise.api import keys
from slicewise.gpu import mig
from slicewise.inventory.sources import Facts
from slicewise.kube import yaml

# mig-parted 0.14 and later writes a file for each node, in a ConfigMap with this label.
NODE_NAME: Final = keys.VENDOR + "node-name"


class ConfigError(ValueError):
    """A configuration file that cannot be used; the message names the entry, the rule and the fix."""


class _Entry(msgspec.Struct, frozen=True, rename="kebab"):
    devices: str | list[int]
    mig_enabled: bool
    mig_devices: dict[str, int] = {}
    device_filter: str | list[str] = []

    @property
    def filters(self) -> tuple[str, ...]:
        return (self.device_filter,) if isinstance(self.device_filter, str) else tuple(self.device_filter)


class _MigFile(msgspec.Struct, frozen=True, rename="kebab"):
    mig_configs: dict[str, list[_Entry]]


class _SharedResource(msgspec.Struct, frozen=True):
    name: str
    replicas: int


class _Sharing(msgspec.Struct, frozen=True, rename="camel"):
    resources: list[_SharedResource] = []
    fail_requests_greater_than_one: bool | None = None


class _SharingModes(msgspec.Struct, frozen=True, rename="camel"):
    time_slicing: _Sharing | None = None
    mps: _Sharing | None = None


class _Flags(msgspec.Struct, frozen=True, rename="camel"):
    mig_strategy: str | None = None


class _PluginFile(msgspec.Struct, frozen=True):
    sharing: _SharingModes = _SharingModes()
    flags: _Flags = _Flags()


class Sharing(msgspec.Struct, frozen=True):
    """One named configuration of the device plugin."""

    mig_strategy: str | None
    strategy: str
    """`time-slicing`, `mps` or "" for none; where a file has both, MPS holds (config.go)."""
    replicas: Mapping[str, int]
    """Shares by resource name."""
    fails_above_one: bool
    """Whether a request for more than one share is refused by the kubelet; the plugin's default differs by mode."""


class Configs(msgspec.Struct, frozen=True):
    """All named configurations of a cluster."""

    geometries: Mapping[str, tuple[_Entry, ...]] = {}
    sharings: Mapping[str, Sharing] = {}
    by_node: Mapping[str, Mapping[str, tuple[_Entry, ...]]] = {}
    """Geometries of files that are for one node."""

    def geometry(self, name: str, node: str = "") -> tuple[_Entry, ...] | None:
        """Returns the entries of a named configuration, the node's own file first; None when there are none."""
        return self.by_node.get(node, {}).get(name) or self.geometries.get(name)


def read_geometries(text: str) -> dict[str, tuple[_Entry, ...]]:
    """Reads a MIG manager's `config.yaml`: the entries of each named configuration.

    Raises:
        ConfigError: it is no such file.
    """
    file = _read(text, _MigFile, "a MIG manager configuration (mig-configs)")
    for name, entries in file.mig_configs.items():
        for entry in entries:
            if isinstance(entry.devices, str) and entry.devices != "all":
                raise ConfigError(
                    f"mig-configs.{name}: devices is {entry.devices!r}; write all or a list of indices"
                )
            for profile in entry.mig_devices:
                if mig.parse(profile) is None:
                    raise ConfigError(
                        f"mig-configs.{name}: {profile!r} is no MIG profile; write for example 1g.10gb"
                    )
    return {name: tuple(entries) for name, entries in file.mig_configs.items()}


def read_sharing(text: str) -> Sharing:
    """Reads one named configuration of the device plugin.

    Raises:
        ConfigError: it is no such file, or replicas are below two.
    """
    file = _read(text, _PluginFile, "a device plugin configuration (version, flags, sharing)")
    strategy, found = "", _Sharing()
    if file.sharing.mps is not None:
        strategy, found = "mps", file.sharing.mps
    elif file.sharing.time_slicing is not None:
        strategy, found = "time-slicing", file.sharing.time_slicing
    for each in found.resources:
        if each.replicas < 2:
            raise ConfigError(f"sharing of {each.name}: replicas is {each.replicas}; write two or more")
    fails = found.fail_requests_greater_than_one
    return Sharing(
        file.flags.mig_strategy,
        strategy,
        {each.name: each.replicas for each in found.resources},
        strategy == "mps" if fails is None else fails,
    )


def _read(text: str, kind: type[Any], what: str) -> Any:
    try:
        return msgspec.convert(yaml.load_one(text), kind)
    except (yaml.YamlError, msgspec.ValidationError) as error:
        raise ConfigError(f"this is not {what}: {error}") from None


class Planned(msgspec.Struct, frozen=True):
    """What a node is meant to become."""

    slices: Mapping[str, int]
    """Devices by dotted MIG profile, over all its boards; empty for whole boards."""
    impossible: str = ""
    """Why its boards cannot hold that; "" when they can or nothing is known of them."""
    unknown: str = ""
    """Why nothing can be said, such as a name that no file has."""
    partial: bool = False
    """True when only some of its boards are spoken of; the others stay as they are."""

    def names(self, shown: Iterable[str]) -> bool:
        """True when the profiles that a node shows are those that are planned."""
        found, wanted = set(shown), set(self.slices)
        return wanted <= found if self.partial else wanted == found


NOTHING: Final = Planned({}, unknown="no MIG configuration is asked for")


def planned(name: str, facts: Facts, configs: Configs, node: str = "") -> Planned:
    """Returns what a geometry makes of a node.

    Of several entries for one board the last one is applied, as mig-parted does; a count of 0 is no slice.

    Args:
        name: what `nvidia.com/mig.config` asks for; "" for nothing.
        facts: what the node's labels say of its boards.
        configs: what the files say.
        node: its name, for files of its own.
    """
    if not name:
        return NOTHING
    entries = configs.geometry(name, node)
    if entries is None:
        return Planned({}, unknown=f"nvidia.com/mig.config asks for {name}, which no known configuration has")
    product = facts.model
    board = mig.board_of(product)
    if board is None and any(entry.filters for entry in entries):
        return Planned({}, unknown=f"which entries of {name} are for {product or 'this board'} is not known")
    holding = [entry for entry in entries if _applies(entry, board)]
    if not holding:
        return Planned({}, unknown=f"{name} says nothing of boards such as {product}")
    boards = _boards(facts)
    slices: dict[str, int] = {}
    impossible = ""
    general, by_board = _last_entries(holding, boards)
    applied = [(entry, 1) for entry in by_board.values()]
    if general is not None and (not boards or boards > len(by_board)):
        applied.append((general, max(boards - len(by_board), 0)))
    for entry, affected in applied:
        geometry = {p: n for p, n in entry.mig_devices.items() if n} if entry.mig_enabled else {}
        if why := _impossible(product, tuple(geometry.items())):
            impossible = f"nvidia.com/mig.config {name} is impossible here: {why}"
        for profile, number in geometry.items():
            parsed = mig.parse(profile)
            if parsed is not None:
                slices[parsed.dotted] = slices.get(parsed.dotted, 0) + number * affected
    return Planned(slices, impossible, partial=general is None and len(by_board) != boards)


def _last_entries(entries: Iterable[_Entry], boards: int) -> tuple[_Entry | None, dict[int, _Entry]]:
    """Returns the last entry for all boards, and by index the last of boards that a later one names.

    Args:
        entries: those that are for boards such as the node's, in the order of the file.
        boards: how many there are; 0 where nothing says, and then every index is taken as there.
    """
    general: _Entry | None = None
    by_board: dict[int, _Entry] = {}
    for entry in entries:
        if isinstance(entry.devices, str):
            general, by_board = entry, {}
        else:
            by_board |= {index: entry for index in entry.devices if not boards or index < boards}
    return general, by_board


@lru_cache(maxsize=1024)
def _impossible(product: str, geometry: tuple[tuple[str, int], ...]) -> str:
    board = mig.board_of(product)
    return (mig.impossible(board, dict(geometry)) or "") if board is not None else ""


def _boards(facts: Facts) -> int:
    """How many boards a node has, as far as labels say: under `single` the count is of slices."""
    count = facts.devices or 0
    board = mig.board_of(facts.model)
    parsed = mig.parse(facts.profile) if facts.profile else None
    placement = board.placement(parsed) if board and parsed else None
    return count // placement.most if placement else count


def _applies(entry: _Entry, board: mig.Board | None) -> bool:
    if not entry.filters or board is None:
        return True
    # A filter is device id and vendor, 0x233010DE, with a subsystem id since mig-parted 0.15.
    return any(each.lower()[:6] in board.devices for each in entry.filters)


def differs(plan: Planned, shown: Mapping[str, int]) -> str:
    """Says how what a node shows (devices by dotted profile) differs from what is planned; "" when it does not."""
    if plan.unknown:
        return ""
    wanted, found = dict(plan.slices), dict(shown)
    if plan.partial:
        found = {name: min(found.get(name, 0), number) for name, number in wanted.items()}
    if wanted == found:
        return ""
    return plan.impossible or f"{_words(plan.slices)} is planned, {_words(shown)} is shown"


def _words(slices: Mapping[str, int]) -> str:
    return " + ".join(f"{number} × {name}" for name, number in sorted(slices.items())) or "no slices"


def sharing_of(name: str, configs: Configs) -> Sharing:
    """Returns the device plugin's configuration of a name.

    Raises:
        ConfigError: there is none, which makes the plugin crash (cmd/config-manager/main.go).
    """
    if name not in configs.sharings:
        known = ", ".join(sorted(configs.sharings)) or "none"
        raise ConfigError(
            f"{keys.DEVICE_PLUGIN_CONFIG} asks for {name!r}, which does not exist (there are: {known}); "
            "correct the label, or the device plugin will not start"
        )
    return configs.sharings[name]


def holds(text: str) -> bool:
    """True for a text that may be one of these files."""
    return "mig-configs:" in text or any(word in text for word in ("sharing:", "migStrategy:", "version: v1"))


def collection(namespace: str) -> str:
    """Returns the path at which an API server serves the ConfigMaps of the GPU operator's namespace."""
    return f"/api/v1/namespaces/{quote(namespace)}/configmaps"


_decode = msgspec.json.Decoder(dict[str, Any]).decode


def decode_config_map(raw: msgspec.Raw) -> dict[str, Any]:
    """Returns of a ConfigMap what `collect` reads: name, labels, and the texts that may be one of these files."""
    document = _decode(raw)
    metadata = document["metadata"]
    # Nodes of one kind have files of their own that say the same, and need be in memory once.
    data = {key: sys.intern(text) for key, text in (document.get("data") or {}).items() if holds(text)}
    return {"metadata": {"name": metadata["name"], "labels": metadata.get("labels") or {}}, "data": data}


def collect(config_maps: Iterable[Mapping[str, Any]]) -> tuple[Configs, tuple[str, ...]]:
    """Reads every ConfigMap that holds such files; returns what was found, and what could not be read in words.

    A name that two files for all nodes give different meanings is known to neither: which of them the MIG manager
    reads, its own settings say.
    """
    geometries: dict[str, tuple[_Entry, ...]] = {}
    by_node: dict[str, Mapping[str, tuple[_Entry, ...]]] = {}
    sharings: dict[str, Sharing] = {}
    complaints: list[str] = []
    unclear: set[str] = set()
    for item in config_maps:
        metadata = item.get("metadata") or {}
        name, node = metadata.get("name", ""), (metadata.get("labels") or {}).get(NODE_NAME, "")
        for key, text in (item.get("data") or {}).items():
            try:
                if "mig-configs:" in text:
                    found = _geometries(text)
                    if node:
                        by_node[node] = found
                        continue
                    twice = {each for each in found if geometries.get(each, found[each]) != found[each]}
                    complaints += [
                        f"ConfigMap {name}: {key}: {each} is defined otherwise in another ConfigMap, so what it means "
                        "is not known; remove one of them, or give it another name"
                        for each in sorted(twice)
                    ]
                    unclear |= twice
                    geometries |= found
                elif holds(text):
                    sharings[key] = _sharing(text)
            except ConfigError as error:
                complaints.append(f"ConfigMap {name}: {key}: {error}")
    known = {name: entries for name, entries in geometries.items() if name not in unclear}
    return Configs(known, sharings, by_node), tuple(complaints)


# Nodes of one kind have files of their own that say the same.
_geometries = lru_cache(maxsize=64)(read_geometries)
_sharing = lru_cache(maxsize=256)(read_sharing)
