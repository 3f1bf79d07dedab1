"""When a node's numbers may be believed: a pure function of the last belief, one observation and the time.

Invariants
- What counts is the node's own last word, or one that it gave before; never a sum, a guess or a capacity.
- Growth counts at once, less counts after the hold-down, another division counts once it has settled.
- A node in doubt never shows as zero before its hold-down has run out; nothing is promised beyond what was believed.
- Everything that a restart must not forget is in `NodeState.kept`, which is written on the Node.

Failure mode: times that cannot be read, or lie in the future, are taken as now. So a hold can be prolonged once by its
own length and never without end. That clocks go on from process to process is `slicewise.kube.clock.ClusterClock`'s.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from slicewise.api import keys
from slicewise.inventory.node_annotation import PersistedOffer
from slicewise.inventory.node_resources import Offer
from slicewise.inventory.node_state import CUSTOMARY, ZERO, CountedNode, NodeRules, Observation, hold

FAILED: Final = "failed geometry"
_FAILED_DOUBTS: Final = frozenset({"mig-failed", "count"})
_LAST: Final = "after "
_SETTLING: Final = "it is divided in another way than before, and that has not settled yet"


class Settings(msgspec.Struct, frozen=True):
    """How long to wait, in seconds."""

    settle: float = 60.0
    """For labels and numbers to agree after a change of division: one period of GPU feature discovery."""
    hold_down: float = 360.0
    """Before less is believed: longer than the 5 minutes after which the kubelet zeroes a silent plugin's capacity."""
    rules: NodeRules = CUSTOMARY
    """What the installation says of its nodes."""


class NodeState(msgspec.Struct, frozen=True, gc=False):
    """What is thought of one node until something changes or `look_at` comes."""

    counted: Offer | None
    """What the quota counts; None when nothing does."""
    kept: PersistedOffer | None
    """What the annotation `slicewise.io/offer` must say; None when there must be none."""
    label: str | None
    """What the label `slicewise.io/pool` must say; None when it must be off."""
    reason: str = ""
    """Why what the node shows is not what counts; "" when it is."""
    look_at: float | None = None
    """POSIX time at which time alone changes the judgement; None when it never does."""

    def standing(self, seen: Observation) -> CountedNode:
        """The belief in the form that pools are summed from."""
        return seen.counting(self.counted, self.reason)


def stamp(moment: float) -> str:
    """POSIX seconds as RFC 3339 with milliseconds; `moment_of` is its inverse."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_of(text: str, now: float) -> float:
    """RFC 3339 as POSIX seconds; now, where it cannot be read or has not come yet."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return now
    if moment.tzinfo is None:
        return now
    return min(moment.timestamp(), now)


def division(offer: Offer) -> str:
    """Names a division: the pool and the resource names, whatever their quantities."""
    return " ".join((offer.pool, *sorted(offer.names)))


def evaluate(
    previous: NodeState | None, seen: Observation | None, now: float, settings: Settings
) -> NodeState:
    """What to believe of one node.

    Args:
        previous: the belief that this process held before; None at its first sight of the node (then the Node's
            annotation says what was believed), and for another node of the same name.
        seen: the node now; None when it is gone or has no GPU.
        now: POSIX seconds.
        settings: how long to wait.

    An annotation without resources keeps what waits to be believed while nothing counts: a division, or a failed
    geometry, and since when. So a restart at any moment changes nothing.

    After label and annotation are written, `slicewise.inventory.node_state.standing` counts the same offer
    without a clock.
    The one exception is the settling of a changed division: `standing` takes the new one as soon as it has settled.
    """
    if seen is None:
        return NodeState(None, None, None, "the node is gone")
    kept = previous.kept if previous is not None else seen.kept
    judgement = _Judgement(seen, now, settings, previous)
    if kept is None or not kept.offer.resources:
        return judgement.fresh(kept)
    kept = judgement.stepped(kept)
    if not seen.settled:
        return judgement.doubted(kept)
    if kept.offer.same_division(seen.offer):
        return judgement.same(kept)
    if seen.offer.positive:
        return judgement.changed(kept)
    return judgement.nothing_shown(kept)


def _counted_last(named: str) -> str:
    """Marks a division as the one that counted last, before nothing did."""
    return _LAST + named


def level(quantities: Mapping[str, int]) -> str:
    """Names lesser numbers that wait to be believed; `level_of` is its inverse."""
    return " ".join(f"{name}={quantity}" for name, quantity in sorted(quantities.items()))


def level_of(text: str) -> dict[str, int]:
    """The numbers that `level` named; none where the text names something else."""
    pairs = [part.partition("=") for part in text.split(" ")]
    if not all(quantity.isascii() and quantity.isdecimal() and len(quantity) < 19 for *_, quantity in pairs):
        return {}
    return {name: int(quantity) for name, _, quantity in pairs}


class _Judgement:
    """One look at one node; each method is one row of the table in docs/quota.md."""

    def __init__(self, seen: Observation, now: float, settings: Settings, previous: NodeState | None) -> None:
        self.seen, self.now, self.settings = seen, now, settings
        self.label = previous.label if previous is not None else seen.labels.get(keys.POOL)

    # --- nothing was believed before ---

    def fresh(self, kept: PersistedOffer | None) -> NodeState:
        """`kept` has no resources: it says which division counted last, or waits, and since when."""
        seen = self.seen
        if not seen.settled:
            failed = self._failed_only() and seen.agreed.positive
            return self._fresh_failed(kept) if failed else self._nothing(kept, seen.reason)
        if not seen.offer.positive:
            return self._nothing(kept, ZERO)
        waits_for = division(seen.offer)
        if kept is None or kept.following in {"", FAILED, _counted_last(waits_for)}:
            return self._adopt(seen.offer)
        # The hold-down ran out, and what came instead is another division: it is not a first sight.
        same = kept.following == waits_for
        since = self._since(kept) if same else self.now
        if self.now - since >= self.settings.settle:
            return self._adopt(seen.offer)
        return self._waiting(waits_for, since, _SETTLING, self.settings.settle, kept)

    def _fresh_failed(self, kept: PersistedOffer | None) -> NodeState:
        since = self._since(kept) if kept is not None and kept.following == FAILED else self.now
        if self.now - since >= self.settings.hold_down:
            return self._failed(self.seen.agreed, None, stamp(since))
        return self._waiting(FAILED, since, self.seen.reason, self.settings.hold_down, kept)

    def _since(self, kept: PersistedOffer) -> float:
        return moment_of(kept.following_since, self.now) if kept.following_since else self.now

    def _nothing(self, kept: PersistedOffer | None, reason: str) -> NodeState:
        """Nothing counts. What counted last is kept by its division, so that another one is known for a change."""
        if kept is None:
            return NodeState(None, None, None, reason)
        last = kept.following
        if kept.offer.resources:
            last = FAILED if last == FAILED else _counted_last(division(kept.offer))
        elif last and last != FAILED and not last.startswith(_LAST):
            last = _LAST + "?"  # a change that was seen and is seen no more
        nothing = PersistedOffer(self._empty(kept), kept.since, "", last)
        return NodeState(None, nothing if last not in {"", FAILED} else None, None, reason)

    def _waiting(
        self, following: str, since: float, reason: str, seconds: float, kept: PersistedOffer | None
    ) -> NodeState:
        """Nothing counts, and something else will once it has been seen for long enough."""
        at = stamp(since)
        if kept is not None and kept.following == following and self._since(kept) == since != self.now:
            at = kept.following_since  # the same moment in the same words, so that nothing is written anew
        waiting = PersistedOffer(self._empty(kept), kept.since if kept is not None else at, "", following, at)
        return NodeState(None, waiting, None, reason, since + seconds)

    def _empty(self, kept: PersistedOffer | None) -> Offer:
        return msgspec.structs.replace(kept.offer if kept is not None else self.seen.offer, resources=())

    # --- less was shown, and then even less ---

    def stepped(self, kept: PersistedOffer) -> PersistedOffer:
        """What is kept once its hold-down is over, or the division changes: lesser numbers that were shown later.

        Two falls are two holds: a board that failed, say, and then the plugin's restart that mends it.
        """
        seen, lesser = self.seen, level_of(kept.following)
        if not any(lesser.values()) or lesser.keys() != kept.offer.names:
            return kept
        same = kept.offer.same_division(seen.offer)
        if same or not seen.settled or not seen.offer.positive:
            if self.now < self._held(kept) + self.settings.hold_down:
                return kept
            if seen.settled and same and all(seen.offer.quantities[n] >= q for n, q in lesser.items()):
                return kept
        resources = tuple(msgspec.structs.replace(r, quantity=lesser[r.name]) for r in kept.offer.resources)
        offer = Offer(kept.offer.pool, kept.offer.model, kept.offer.strategy, resources)
        return PersistedOffer(offer, stamp(self.now), kept.following_since or stamp(self.now))

    def _lesser(self, kept: PersistedOffer) -> tuple[str, str]:
        """The most that is shown since less is, and since when even less than that is ("" while it is not)."""
        now, before = self.seen.offer.quantities, level_of(kept.following)
        most = {name: max(quantity, before.get(name, 0)) for name, quantity in now.items()}
        return level(most), "" if most == now else self._fallen(kept)

    def _fallen(self, kept: PersistedOffer) -> str:
        return kept.following_since if level_of(kept.following) and kept.following_since else stamp(self.now)

    # --- the numbers are in doubt ---

    def doubted(self, kept: PersistedOffer) -> NodeState:
        held = self._held(kept)
        until = held + self.settings.hold_down
        if self.now < until:
            changing = any(doubt.changing for doubt in self.seen.doubts)
            # While in doubt a label is kept or taken off, never set: nobody knows what the board has become.
            label = kept.offer.pool if self.label == kept.offer.pool and not changing else None
            return NodeState(kept.offer, self._holding(kept, held), label, self.seen.reason, until)
        if self._failed_only() and (self.seen.agreed.positive or kept.following == FAILED):
            return self._failed(self.seen.agreed, kept, stamp(held))
        return self._nothing(kept, self.seen.reason)

    def _failed_only(self) -> bool:
        codes = {doubt.code for doubt in self.seen.doubts}
        return "mig-failed" in codes and codes <= _FAILED_DOUBTS

    def _failed(self, agreed: Offer, kept: PersistedOffer | None, held_since: str) -> NodeState:
        """A failed geometry that is there to stay: what labels and capacity agree on counts."""
        reason = f"{self.seen.reason}; what labels and capacity agree on counts"
        if kept is not None and kept.offer == agreed:
            renewed = msgspec.structs.replace(kept, following=FAILED, following_since="")
            return NodeState(agreed, renewed, agreed.pool, reason)
        if kept is not None and kept.following == FAILED and not agreed.positive:
            since = moment_of(kept.following_since, self.now) if kept.following_since else self.now
            until = since + self.settings.hold_down
            if self.now >= until:
                return self._nothing(kept, self.seen.reason)
            waiting = msgspec.structs.replace(kept, following_since=stamp(since))
            return NodeState(kept.offer, waiting, kept.offer.pool, f"{self.seen.reason}; {ZERO}", until)
        renewed = PersistedOffer(agreed, stamp(self.now), held_since, FAILED)
        return NodeState(agreed, renewed, agreed.pool, reason)

    # --- the numbers are sound ---

    def same(self, kept: PersistedOffer) -> NodeState:
        offer, words = hold(kept.offer, self.seen.offer)
        if not words:
            return self._adopt(offer, kept)
        held = self._held(kept)
        until = held + self.settings.hold_down
        if self.now < until:
            since = kept.since if offer == kept.offer else stamp(self.now)
            holding = PersistedOffer(offer, since, self._held_stamp(kept, held), *self._lesser(kept))
            return NodeState(offer, holding, offer.pool, words, until)
        if self.seen.offer.positive:
            return self._adopt(self.seen.offer)
        return self._nothing(kept, ZERO)

    def nothing_shown(self, kept: PersistedOffer) -> NodeState:
        """No names at all: the plugin is silent for so long that the kubelet dropped its capacity too."""
        held = self._held(kept)
        until = held + self.settings.hold_down
        if self.now < until:
            label = kept.offer.pool if self.label == kept.offer.pool else None
            return NodeState(kept.offer, self._holding(kept, held), label, ZERO, until)
        return self._nothing(kept, ZERO)

    def changed(self, kept: PersistedOffer) -> NodeState:
        waits_for = division(self.seen.offer)
        same = kept.following == waits_for and bool(kept.following_since)
        since = moment_of(kept.following_since, self.now) if same else self.now
        settled_at = since + self.settings.settle
        if self.now >= settled_at:
            return self._adopt(self.seen.offer)
        held = self._held(kept)
        until = held + self.settings.hold_down
        if self.now >= until:
            return self._waiting(waits_for, since, _SETTLING, self.settings.settle, kept)
        renewed = PersistedOffer(
            kept.offer,
            kept.since,
            self._held_stamp(kept, held),
            waits_for,
            self._following_stamp(kept, since, same),
        )
        return NodeState(kept.offer, renewed, None, _SETTLING, min(settled_at, until))

    # --- helpers ---

    def _adopt(self, offer: Offer, kept: PersistedOffer | None = None) -> NodeState:
        since = kept.since if kept is not None and kept.offer == offer else stamp(self.now)
        return NodeState(offer, PersistedOffer(offer, since), offer.pool)

    def _held(self, kept: PersistedOffer) -> float:
        """Since when less is seen. What counted in spite of a failed geometry is held anew once that is over."""
        over = kept.following == FAILED and not self._failed_only()
        return self.now if over or not kept.held_since else moment_of(kept.held_since, self.now)

    def _holding(self, kept: PersistedOffer, held: float) -> PersistedOffer:
        waiting = (kept.following, self._fallen(kept)) if level_of(kept.following) else ("", "")
        return PersistedOffer(kept.offer, kept.since, self._held_stamp(kept, held), *waiting)

    def _held_stamp(self, kept: PersistedOffer, held: float) -> str:
        """Keeps the text as it stands while it means the same moment, so that nothing is written anew."""
        same = kept.held_since and moment_of(kept.held_since, self.now) == held != self.now
        return kept.held_since if same else stamp(held)

    def _following_stamp(self, kept: PersistedOffer, since: float, same: bool) -> str:  # noqa: FBT001
        return kept.following_since if same and since != self.now else stamp(since)
