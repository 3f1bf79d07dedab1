"""What labels and capacity say together: how one node is divided, what that offers, the pool that it makes.

`status.allocatable` is the only quantity that is counted; labels classify it and cross-check its freshness,
because labels and numbers change minutes apart (docs/nodes.md). A doubt never changes a number: it says in words
why the numbers are not believed.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from slicewise.api import keys
from slicewise.gpu import mig
from slicewise.gpu.strategies import Strategy

UNKNOWN: Final = "unknown"
_LABEL_VALUE_LIMIT: Final = 63


class Resource(msgspec.Struct, frozen=True, omit_defaults=True):
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


class Offer(msgspec.Struct, frozen=True):
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


class Doubt(msgspec.Struct, frozen=True):
    """Why a node's numbers are not believed."""

    code: str
    words: str
    changing: bool = False
    """True when the node is known to be changing its way of dividing: nothing may be steered to it."""


class Facts:
    """What labels and capacity say together about the way one node is divided."""

    def __init__(self, labels: Mapping[str, str], capacity: Mapping[str, int]) -> None:
        self.labels = labels
        self.capacity = capacity
        self.model, self.product_profile, self.product_shared = split_product(labels.get(keys.PRODUCT, ""))
        self.labelled = {
            key.removeprefix(keys.MIG_PREFIX).removesuffix(".count")
            for key in labels
            if key.startswith(keys.MIG_PREFIX) and key.endswith(".count")
        }
        self.mig_names = sorted(name for name in capacity if name.startswith(keys.MIG_PREFIX))
        self.whole_names = [name for name in (keys.GPU, keys.GPU_SHARED) if name in capacity]

    def number(self, key: str) -> int | None:
        """Returns a label's whole number; None when it is absent or none."""
        text = self.labels.get(key, "")
        return int(text) if text.isascii() and text.isdecimal() else None

    @property
    def mixed(self) -> bool:
        """True when MIG devices are advertised under their own names."""
        return bool(self.mig_names) or any(self.number(f"{keys.MIG_PREFIX}{p}.count") for p in self.labelled)

    def disagreements(self) -> dict[str, Doubt]:
        """Returns a doubt for each resource whose labels do not give its capacity."""
        found: dict[str, Doubt] = {}
        for dotted in sorted(self.labelled):
            prefix = keys.MIG_PREFIX + dotted
            shares = self.number(f"{prefix}.replicas")
            expected = (self.number(f"{prefix}.count") or 0) * (1 if shares is None else shares)
            seen = self.capacity.get(prefix, 0) + self.capacity.get(prefix + keys.SHARED_SUFFIX, 0)
            if seen != expected:
                name = prefix if prefix in self.capacity else prefix + keys.SHARED_SUFFIX
                found[name if name in self.capacity else prefix] = _disagree(prefix, expected, seen)
        boards, replicas = self.number(keys.COUNT), self.number(keys.REPLICAS)
        seen = sum(self.capacity[name] for name in self.whole_names)
        name = self.whole_names[0] if self.whole_names else keys.GPU
        if keys.GPU in self.whole_names and keys.PRODUCT not in self.labels and not self.mig_names:
            words = "no GPU feature discovery label says what nvidia.com/gpu is here"
            found[keys.GPU] = Doubt("unlabelled", words)
            return found
        if boards is None:
            if written := self.labels.get(keys.COUNT):
                found[name] = Doubt("count", f"the label {keys.COUNT} says {written}, which is no number")
            return found
        expected = boards * (1 if replicas is None else replicas)
        if not self.mixed:
            if seen != expected:
                found[name] = _disagree(name, expected, seen)
        elif seen > expected or (seen == 0) != (expected == 0):
            # In mixed mode the count label holds every board, so it only bounds the boards left whole.
            found[name] = _disagree(name, expected, seen, bound=True)
        return found

    def config_mismatch(self) -> str:
        """Says how the asked `all-<profile>` differs from what is advertised; "" when it does not."""
        config = self.labels.get(keys.MIG_CONFIG, "")
        asked = config.removeprefix("all-")
        if asked == config:
            return ""
        shown = {
            name.removeprefix(keys.MIG_PREFIX).removesuffix(keys.SHARED_SUFFIX) for name in self.mig_names
        }
        if self.product_profile:
            shown.add(self.product_profile)
        if asked == "disabled":
            expected: set[str] = set()
        elif profile := mig.parse(asked):
            expected = {profile.dotted}
        else:
            return ""
        if shown == expected:
            return ""
        return f"nvidia.com/mig.config asks for {config}, the node shows {', '.join(sorted(shown)) or 'no slices'}"

    def offer(self, quantities: Mapping[str, int]) -> Offer:
        """Returns what the node offers: one resource for each name in its capacity."""
        resources = [self._slice(name, quantities.get(name, 0)) for name in self.mig_names]
        if keys.PRODUCT in self.labels or not resources:
            resources += [self._whole(name, quantities.get(name, 0)) for name in self.whole_names]
        elif keys.GPU_SHARED in self.whole_names:
            resources.append(self._whole(keys.GPU_SHARED, quantities.get(keys.GPU_SHARED, 0)))
        resources.sort(key=lambda resource: resource.name)
        strategies = {resource.strategy for resource in resources}
        strategy = strategies.pop() if len(strategies) == 1 else self._strategy()
        return Offer(self._pool(resources), self.model or UNKNOWN, strategy, tuple(resources))

    def _strategy(self) -> Strategy:
        return Strategy.MIG if self.mixed or self.product_profile else self._whole(keys.GPU, 0).strategy

    def _slice(self, name: str, quantity: int) -> Resource:
        prefix = name.removesuffix(keys.SHARED_SUFFIX)
        profile = mig.of_resource(name)
        replicas = self.number(f"{prefix}.replicas") or 1
        strategy = Strategy.MIG
        if replicas > 1 or name.endswith(keys.SHARED_SUFFIX):
            strategy = _sharing(self.labels.get(f"{prefix}.sharing-strategy"))
        return Resource(
            name,
            quantity,
            strategy,
            self.number(f"{prefix}.memory"),
            profile.compute if profile else 0,
            prefix.removeprefix(keys.MIG_PREFIX),
            replicas,
        )

    def _whole(self, name: str, quantity: int) -> Resource:
        replicas = self.number(keys.REPLICAS) or 1
        memory = self.number(keys.MEMORY) or None
        profile = mig.parse(self.product_profile) if self.product_profile else None
        if replicas > 1 or name == keys.GPU_SHARED or self.product_shared:
            strategy = _sharing(self.labels.get(keys.SHARING))
        elif profile:
            strategy = Strategy.MIG
        elif self.labels.get(keys.VGPU_PRESENT) == "true":
            strategy = Strategy.VGPU
        else:
            strategy = Strategy.EXCLUSIVE
        if strategy is Strategy.MPS and memory:
            memory //= replicas
        compute, dotted = (profile.compute, profile.dotted) if profile else (0, "")
        return Resource(name, quantity, strategy, memory, compute, dotted, replicas)

    def _pool(self, resources: Iterable[Resource]) -> str:
        """Names the pool by the model, the strategy and what tells two such pools apart."""
        slices = [r for r in resources if r.name.startswith(keys.MIG_PREFIX)]
        whole = next((r for r in resources if not r.name.startswith(keys.MIG_PREFIX)), None)
        parts = [model_slug(self.model)]
        if slices or self.mixed:
            parts += ["mig-mixed", *_shares(slices)]
            if whole and whole.replicas > 1:
                parts.append(f"gpu-x{whole.replicas}")
        elif self.product_profile:
            parts += ["mig-single", _profile_words(self.product_profile)]
            if whole and whole.replicas > 1:
                parts.append(f"x{whole.replicas}")
        else:
            whole = whole or self._whole(keys.GPU, 0)
            parts.append(whole.strategy)
            if whole.replicas > 1:
                parts.append(f"x{whole.replicas}")
        return _label_value("-".join(parts))


def _shares(slices: list[Resource]) -> Iterable[str]:
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
    return f"{dotted.removesuffix('-me')}-no-me" if dotted.endswith("-me") else dotted


def _sharing(label: str | None) -> Strategy:
    return Strategy.MPS if label == "mps" else Strategy.TIME_SLICING


def _disagree(name: str, expected: int, seen: int, *, bound: bool = False) -> Doubt:
    limit = "between 1 and " if bound and expected else ""
    return Doubt("count", f"labels give {limit}{expected} of {name}, the capacity is {seen}")


def split_product(product: str) -> tuple[str, str, bool]:
    """Splits a product label into base model, MIG profile ("" without) and whether it says shared.

    k8s-device-plugin, internal/lm/resource.go: `<model>[-MIG-<profile>][-SHARED]`.
    """
    base = product.removesuffix("-SHARED")
    model, _, profile = base.partition("-MIG-")
    return model, profile, base != product


_VENDOR_WORDS: Final = frozenset({"nvidia", "tesla"})
# How a board is packaged changes neither its memory, its profiles nor what a slice of it holds.
_PACKAGING: Final = re.compile(r"sxm\d*|pcie|hbm\d\w*|oam")


def model_slug(model: str) -> str:
    """Returns a model in the words of a pool's name: `NVIDIA-A100-SXM4-40GB` -> `a100-40gb`."""
    words = [word for word in re.split(r"[^a-z0-9]+", model.lower()) if word]
    kept = [word for word in words if word not in _VENDOR_WORDS and not _PACKAGING.fullmatch(word)]
    return "-".join(kept or words) or UNKNOWN


def _label_value(text: str) -> str:
    """Makes a name fit for a label value and an object: lower case, hyphens, at most 63 characters."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if len(slug) <= _LABEL_VALUE_LIMIT:
        return slug
    digest = hashlib.sha256(slug.encode()).hexdigest()[:8]
    return f"{slug[: _LABEL_VALUE_LIMIT - 9].rstrip('-')}-{digest}"
