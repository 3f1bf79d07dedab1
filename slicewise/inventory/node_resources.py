"""What a source's facts and the capacity say together: how one node is divided, what that offers, the pool it makes.

`status.allocatable` is the only quantity that is counted; labels classify it and cross-check its freshness,
because labels and numbers change minutes apart (docs/nodes.md). A doubt never changes a number: it says in words
why the numbers are not believed.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from slicewise.api import keys
from slicewise.gpu import boards, mig
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.node import Node, Taint
from slicewise.inventory.pool_name import MIG_MIXED, MIG_SINGLE, UNKNOWN, PoolName, slugged
from slicewise.inventory.sources import Facts, Slices
from slicewise.inventory.sources.facts import HAND_SET, INSTANCE_TYPE
from slicewise.inventory.taints import lasting


class Resource(msgspec.Struct, frozen=True, omit_defaults=True, cache_hash=True, gc=False):
    """One resource name that a node or a pool offers."""

    name: str
    quantity: int
    strategy: Strategy
    memory: int | None = None
    """MiB that one unit really holds: a slice, a board, a board's part under MPS; None when nothing says."""
    compute: int = 0
    """Compute slices of one unit; 0 where the board is not divided by MIG."""
    profile: str = ""
    """The MIG profile of one unit, dotted; "" where it is none."""
    replicas: int = 1
    """Shares of one device."""

    @property
    def sharers(self) -> int:
        """How many share the memory of one unit: those that take turns all have it, and MPS divides it."""
        return self.replicas if self.strategy is Strategy.TIME_SLICING else 1


class Offer(msgspec.Struct, frozen=True, gc=False):
    """What one node offers, and the pool that this makes it a member of."""

    pool: str
    model: str
    strategy: Strategy
    resources: tuple[Resource, ...]

    @property
    def names(self) -> frozenset[str]:
        """The resource names."""
        return frozenset(resource.name for resource in self.resources)

    @property
    def quantities(self) -> dict[str, int]:
        """The quantity of each resource name."""
        return {resource.name: resource.quantity for resource in self.resources}

    @property
    def positive(self) -> bool:
        """True when there is anything to count."""
        return any(resource.quantity > 0 for resource in self.resources)

    def same_division(self, other: "Offer") -> bool:
        """True when both offer the same names in the same pool."""
        return self.pool == other.pool and self.names == other.names


@lru_cache(maxsize=1024)
def offer_of(pool: str, model: str, strategy: Strategy, resources: tuple[Resource, ...]) -> Offer:
    """Returns an offer. Nodes that offer the same have the very same, for each keeps several."""
    return Offer(pool, model, strategy, resources)


class Doubt(msgspec.Struct, frozen=True, gc=False):
    """Why a node's numbers are not believed."""

    code: str
    words: str
    changing: bool = False
    """True when the node is known to be changing its way of dividing: nothing may be steered to it."""


class Division:
    """How one node is divided: what its source says, beside the names in its capacity.

    Args:
        facts: what the node's source says.
        capacity: devices by resource name, without the names of a division before.
        allocatable: of these, how many can be allocated now; absent is none.
        instance_type: tells nodes of unknown boards apart.
        taints: the lasting ones.
    """

    def __init__(
        self,
        facts: Facts,
        capacity: Mapping[str, int],
        allocatable: Mapping[str, int],
        instance_type: str = "",
        taints: tuple[Taint, ...] = (),
    ) -> None:
        self.facts = facts
        self.capacity = capacity
        self.allocatable = allocatable
        self._instance_type = instance_type
        self.taints = taints
        self.slices = sorted(name for name in capacity if name.startswith(keys.MIG_PREFIX))
        self.plain = [name for name in (keys.GPU, keys.GPU_SHARED) if name in capacity]

    @property
    def mixed(self) -> bool:
        """True when slices are advertised under their own names."""
        return bool(self.slices) or any(each.count for each in self.facts.slices.values())

    def disagreements(self) -> dict[str, Doubt]:
        """Returns a doubt for each resource whose labels do not give its capacity, or that no label explains."""
        found = self._slice_disagreements()
        if keys.GPU in self.plain and not self.facts.says_plain:
            found[keys.GPU] = Doubt("unlabelled", self.facts.unsaid)
            return found
        name = self.plain[0] if self.plain else keys.GPU
        if self.facts.problems:
            found[name] = Doubt("label", "; ".join(self.facts.problems))
            return found
        if self.facts.devices is None:
            return found
        replicas = self.facts.replicas
        if replicas is None and self.plain == [keys.GPU_SHARED]:
            return found  # the name says that it is shared, and nothing says by how many
        if replicas is None and self.facts.bounds and not self.plain:
            return found  # old versions of GPU feature discovery say nothing of replicas where all boards are divided
        expected = self.facts.devices * (1 if replicas is None else replicas)
        seen, usable = self._sums(self.plain)
        if self.slices and not self.facts.lists_slices:
            # A cloud counts the boards of the machine, of which the device plugin has divided some.
            if usable > expected:
                found[name] = _disagree(name, expected, seen, bound=True)
        elif not self.facts.bounds:
            if not _agree(expected, seen, usable):
                found[name] = self._unusable(name, expected, seen)
        elif (seen > expected and usable > expected) or (seen == 0) != (expected == 0):
            found[name] = _disagree(name, expected, seen, bound=True)
        return found

    def _slice_disagreements(self) -> dict[str, Doubt]:
        found: dict[str, Doubt] = {}
        for names, expected in self._expected_slices().items():
            seen, usable = self._sums(names)
            if not _agree(expected, seen, usable):
                shown = next((name for name in names if name in self.capacity), names[0])
                found[shown] = _disagree(names[0], expected, seen)
        return found

    def _expected_slices(self) -> dict[tuple[str, ...], int]:
        """Returns what the labels give to each group of names that the plugin may advertise it under.

        Plugins before 0.20 advertise suffixed profiles (`1g.10gb.me`) under the plain name, while the labels keep both.
        """
        found: dict[tuple[str, ...], int] = {}
        for dotted in sorted(self.facts.slices):
            names = _names(keys.MIG_PREFIX + dotted)
            profile = mig.parse(dotted)
            plain = _names(keys.MIG_PREFIX + dotted[: -len(profile.attributes)]) if profile else names
            if profile and profile.attributes and not self.capacity.keys() & {*names} and self._over(plain):
                names = plain
            found[names] = found.get(names, 0) + _shares(self.facts.slices[dotted])
        if self.facts.lists_slices:
            for name in self.slices:
                if not any(name in names for names in found):
                    found[name,] = 0
        return found

    def _over(self, plain: tuple[str, ...]) -> bool:
        """True when there is more under a plain name than the labels give it."""
        given = self.facts.slices.get(plain[0].removeprefix(keys.MIG_PREFIX))
        return self._sums(plain)[0] > (_shares(given) if given else 0)

    def _sums(self, names: Iterable[str]) -> tuple[int, int]:
        """Returns capacity and allocatable over names."""
        group = tuple(names)
        return (
            sum(self.capacity.get(name, 0) for name in group),
            sum(self.allocatable.get(name, 0) for name in group),
        )

    def _unusable(self, name: str, expected: int, seen: int) -> Doubt:
        if self.facts.replicas == 0 and not self.facts.bounds and self.facts.devices and seen:
            return Doubt(
                "mig-without-strategy",
                f"the boards are in MIG mode and the device plugin's strategy is none, so each {name} is a board that "
                "no container can use; set the plugin's migStrategy to single or mixed, or switch MIG mode off",
            )
        found = _disagree(name, expected, seen)
        if self.facts.lists_slices:
            return found
        if seen < expected and self.facts.replicas in (None, 1) and not self.facts.profile:
            words = f"{found.words}; a board is missing, so look at the driver's log on the node"
            return Doubt("missing-board", words)
        words = (
            f"{found.words}; where the device plugin shares or divides the boards, set {HAND_SET} on the node"
        )
        return Doubt("undescribed", words)

    def config_mismatch(self, config: str) -> str:
        """Says how an asked `all-<profile>` differs from what is advertised; "" when it does not."""
        asked = config.removeprefix("all-")
        if asked == config:
            return ""
        shown = {
            name.removeprefix(keys.MIG_PREFIX).removesuffix(keys.SHARED_SUFFIX) for name in self.slices
        } | ({self.facts.profile} if self.facts.profile else set())
        if asked == "disabled":
            expected: set[str] = set()
        elif profile := mig.parse(asked):
            expected = {profile.dotted}
            if profile.attributes and profile.dotted not in shown and profile.dotted in self.facts.slices:
                expected = {
                    profile.dotted[: -len(profile.attributes)]
                }  # the plain name, from a plugin before 0.20
        else:
            return ""
        if shown == expected:
            return ""
        return f"nvidia.com/mig.config asks for {config}, the node shows {', '.join(sorted(shown)) or 'no slices'}"

    def foreign_models(self) -> list[str]:
        """Returns models of slices that are not the node's: its boards are of two kinds, which no label tells apart."""
        return sorted(
            {each.model for each in self.facts.slices.values() if each.count and each.model}
            - {self.facts.model}
        )

    def offer(self) -> Offer:
        """Returns what the node offers: one resource for each name in its capacity, never more than that."""
        resources = [self._slice(name) for name in self.slices]
        if self.facts.says_plain or not resources:
            resources += [self._plain(name) for name in self.plain]
        elif keys.GPU_SHARED in self.plain:
            resources.append(self._plain(keys.GPU_SHARED))
        resources.sort(key=lambda resource: resource.name)
        strategies = {resource.strategy for resource in resources}
        strategy = strategies.pop() if len(strategies) == 1 else self._strategy()
        return offer_of(self._pool(resources), self.facts.model or UNKNOWN, strategy, tuple(resources))

    def _strategy(self) -> Strategy:
        return Strategy.MIG if self.mixed or self.facts.profile else self._plain(keys.GPU).strategy

    def _quantity(self, name: str) -> int:
        return min(self.allocatable.get(name, 0), self.capacity.get(name, 0))

    def _slice(self, name: str) -> Resource:
        prefix = name.removesuffix(keys.SHARED_SUFFIX)
        dotted = prefix.removeprefix(keys.MIG_PREFIX)
        profile = mig.of_resource(name)
        said = self.facts.slices.get(dotted, Slices(0))
        board = mig.board_of(self.facts.model)
        placement = board.placement(profile) if board and profile else None
        strategy = Strategy.MIG
        if (said.replicas or 1) > 1 or name.endswith(keys.SHARED_SUFFIX):
            strategy = said.sharing or Strategy.SHARED
        return Resource(
            name,
            self._quantity(name),
            strategy,
            said.memory or (placement.mebibytes if placement else None),
            profile.compute if profile else 0,
            dotted,
            said.replicas or 1,
        )

    def _plain(self, name: str) -> Resource:
        facts = self.facts
        replicas = facts.replicas or 1
        profile = mig.parse(facts.profile) if facts.profile else None
        memory = _memory(facts, profile)
        if replicas > 1 or name == keys.GPU_SHARED or facts.sharing:
            strategy = facts.sharing or Strategy.SHARED
        elif profile:
            strategy = Strategy.MIG
        else:
            strategy = Strategy.VGPU if facts.vgpu else Strategy.EXCLUSIVE
        if strategy is Strategy.MPS and memory:
            memory //= replicas
        compute, dotted = (profile.compute, profile.dotted) if profile else (0, "")
        return Resource(name, self._quantity(name), strategy, memory, compute, dotted, replicas)

    def _pool(self, resources: Iterable[Resource]) -> str:
        """Names the pool by the model, the division and what tells two such pools apart."""
        slices = [r for r in resources if r.name.startswith(keys.MIG_PREFIX)]
        plain = next((r for r in resources if not r.name.startswith(keys.MIG_PREFIX)), None)
        parts: list[str] = []
        if slices or self.mixed:
            parts += [MIG_MIXED, *_shared_profiles(slices)]
            if plain and plain.replicas > 1:
                parts.append(f"gpu-x{plain.replicas}")
        elif self.facts.profile:
            parts += [MIG_SINGLE, _profile_words(self.facts.profile)]
            if plain and plain.replicas > 1:
                parts.append(f"x{plain.replicas}")
            elif plain and plain.strategy is not Strategy.MIG:
                parts.append(Strategy.SHARED)  # by how many, nothing says
        else:
            plain = plain or self._plain(keys.GPU)
            parts.append(plain.strategy)
            if plain.replicas > 1:
                parts.append(f"x{plain.replicas}")
        model = self.facts.model or f"{UNKNOWN}-{self._instance_type}"
        return PoolName.of(model, "-".join(parts), self.taints).format()


def division_of(
    node: Node,
    facts: Facts,
    capacity: Mapping[str, int],
    allocatable: Mapping[str, int],
    *,
    vouched: bool = False,
    transient_taints: tuple[str, ...] = (),
) -> Division:
    """Returns how a node is divided.

    Args:
        node: gives its instance type and taints.
        facts: what its source says.
        capacity: devices by resource name.
        allocatable: likewise.
        vouched: True where an admin says that every plain device of which nothing is known is a whole board.
        transient_taints: keys of taints that do not last, beside the customary ones.
    """
    if vouched and not facts.says_plain:
        facts = msgspec.structs.replace(facts, says_plain=True)
    instance_type = node.labels.get(INSTANCE_TYPE, "")
    return Division(facts, capacity, allocatable, instance_type, lasting(node.taints, transient_taints))


def _memory(facts: Facts, profile: mig.Profile | None) -> int | None:
    """Returns the MiB of one plain device: as the node's source says, else as the tables of boards have it."""
    if facts.memory is not None or profile is None:
        return facts.memory or boards.memory_of(facts.model)
    board = mig.board_of(facts.model)
    placement = board.placement(profile) if board else None
    return placement.mebibytes if placement else None


def _names(plain: str) -> tuple[str, str]:
    return plain, plain + keys.SHARED_SUFFIX


def _shares(slices: Slices) -> int:
    return slices.count * (1 if slices.replicas is None else slices.replicas)


def _agree(expected: int, capacity: int, allocatable: int) -> bool:
    """True when labels give the capacity, or followed a lost board before the capacity did."""
    return expected == capacity or (allocatable <= expected < capacity and expected > 0)


def _shared_profiles(slices: list[Resource]) -> Iterable[str]:
    """Tells mixed pools apart by how many shares each of their profiles has."""
    shared = [r for r in slices if r.strategy is not Strategy.MIG]
    counts = {r.replicas for r in shared}
    if shared and len(shared) == len(slices) and len(counts) == 1:
        replicas = counts.pop()
        yield f"x{replicas}" if replicas > 1 else "shared"
    else:
        yield from (f"{_profile_words(r.profile)}-x{r.replicas}" for r in shared)


def _profile_words(dotted: str) -> str:
    """A profile in a pool's name, where `.` and `-` look alike: `-me` is without media engines, `.me` with them."""
    return slugged(f"{dotted.removesuffix('-me')}-no-me" if dotted.endswith("-me") else dotted)


def _disagree(name: str, expected: int, seen: int, *, bound: bool = False) -> Doubt:
    limit = "between 1 and " if bound and expected > 1 else ""
    return Doubt("count", f"labels give {limit}{expected} of {name}, the capacity is {seen}")
