"""The state machine of rotation: by hand, and with replicas that interleave as they please."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.x509 import load_pem_x509_certificate
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from admission.tls import rotation
from admission.tls.x509 import (
    AUTHORITY_LIFE,
    LEAF_LIFE,
    CertificateError,
    Leaf,
    Trusted,
    make_authority,
    make_leaf,
)

START = datetime(2030, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NAMES = ("hook.space.svc",)


def _signed(leaf: Leaf, authority: Trusted) -> bool:
    certificate, issuer = (load_pem_x509_certificate(one.pem.encode()) for one in (leaf, authority))
    try:
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    return True


def _seen(state: rotation.State, since: datetime) -> dict[str, datetime]:
    return {one.fingerprint: since for one in state.trusted}


def test_a_young_authority_is_left_alone() -> None:
    state = rotation.begin(START, [])
    assert rotation.step(state, _seen(state, START), START + AUTHORITY_LIFE / 2) == state


def test_the_three_phases_follow_each_other() -> None:
    state = rotation.begin(START, [])
    old = state.signer
    now = old.certificate.not_after - rotation.RENEW_BEFORE
    published = rotation.step(state, _seen(state, START), now)
    assert published.signer == old
    assert published.upcoming is not None
    new = published.upcoming.certificate
    assert rotation.step(published, {}, now + MINUTE * 100) == published, "nobody has seen it"
    seen = _seen(published, now)
    assert rotation.step(published, seen, now + MINUTE - timedelta(seconds=1)) == published, (
        "not for long enough"
    )
    switched = rotation.step(published, seen, now + MINUTE)
    assert switched.signer.certificate == new
    assert [one.fingerprint for one in switched.trusted] == [new.fingerprint, old.certificate.fingerprint]
    end = now + MINUTE + LEAF_LIFE + rotation.MARGIN
    assert rotation.step(switched, seen, end - MINUTE) == switched
    assert rotation.step(switched, seen, end).trusted == (new,)


def test_rotation_on_demand_cannot_make_the_bundle_grow_without_end() -> None:
    state, now = rotation.begin(START, []), START
    for _ in range(20):
        state = rotation.step(state, _seen(state, START), now, rotate=True)
        now += MINUTE
        state = rotation.step(state, _seen(state, START), now)
    assert len(state.trusted) == rotation.MOST_RETIRED + 1


def test_what_is_seen_counts_from_the_first_look_without_a_gap() -> None:
    a, b = frozenset({"a"}), frozenset({"a", "b"})
    seen = rotation.sight({}, [a, b], (), START)
    assert seen == {"a": START}
    seen = rotation.sight(seen, [b, b], (), START + MINUTE)
    assert seen == {"a": START, "b": START + MINUTE}
    seen = rotation.sight(seen, [a, frozenset()], (), START + 2 * MINUTE)
    assert seen == {}
    assert rotation.sight({}, [], ["own"], START) == {"own": START}


def test_a_leaf_is_replaced_when_it_is_time_or_its_signer_is_gone() -> None:
    state, other = rotation.begin(START, []), make_authority(START)
    signer = state.signer.certificate.fingerprint
    leaf, foreign = make_leaf(state.signer, NAMES, START), make_leaf(other, NAMES, START)
    assert rotation.leaf_due(None, state, {}, START, 0)
    assert not rotation.leaf_due(leaf, state, {}, START, 0)
    assert rotation.leaf_due(leaf, state, {}, leaf.renewal(0), 0)
    assert rotation.leaf_due(leaf, state, {}, leaf.not_after, 0)
    ahead = make_leaf(state.signer, NAMES, START + MINUTE * 10)
    assert rotation.leaf_due(ahead, state, {}, START, 0), "the clock was set back"
    behind = START - timedelta(hours=2)
    early = make_leaf(state.signer, NAMES, behind)
    assert not rotation.leaf_due(early, state, {}, behind, 0), "the authority itself begins no sooner"
    both = {signer: START, foreign.issuer: START}
    assert not rotation.leaf_due(foreign, state, both, START, 0), (
        "trusted, and the new one not for long enough"
    )
    assert rotation.leaf_due(foreign, state, both, START + MINUTE, 0)
    assert rotation.leaf_due(foreign, state, {signer: START}, START, 0), "not trusted any more"
    assert not rotation.leaf_due(foreign, state, {}, START + MINUTE, 0), "neither is the new one"


def test_memory_heals_a_lost_secret_only_while_it_is_trusted() -> None:
    state, other = rotation.begin(START, []), make_authority(START).certificate
    own = state.signer.certificate
    assert rotation.heal(state, [], START) == state
    assert rotation.heal(state, [own], START) == state
    more = rotation.heal(state, [own, other], START)
    assert (more.signer, more.retired[0].certificate) == (state.signer, other)
    for anew in (rotation.heal(state, [other], START), rotation.heal(None, [other], START)):
        assert anew.signer != state.signer
        assert anew.retired[0].certificate == other
    assert rotation.heal(state, [own], START + AUTHORITY_LIFE).signer != state.signer


def _rotating() -> rotation.State:
    state = rotation.step(rotation.begin(START, [make_authority(START).certificate]), {}, START, rotate=True)
    assert state.upcoming is not None
    return state


def test_every_state_survives_being_written_down() -> None:
    for state in (rotation.begin(START, []), _rotating()):
        assert rotation.read(rotation.write(state), START) == state


@pytest.mark.parametrize("key", [rotation.CERTIFICATES_KEY, rotation.SIGNER_KEY])
@pytest.mark.parametrize("value", ["", "garbage", None])
def test_a_secret_without_a_signer_is_damaged(key: str, value: str | None) -> None:
    data = {**rotation.write(_rotating()), key: value or ""}
    if value is None:
        del data[key]
    with pytest.raises(CertificateError):
        rotation.read(data, START)
    with pytest.raises(CertificateError, match="expired"):
        rotation.read(rotation.write(_rotating()), START + AUTHORITY_LIFE)


@pytest.mark.parametrize(
    "damage",
    [
        {rotation.RETIRED_KEY: "garbage"},
        {rotation.RETIRED_KEY: "[]"},
        {rotation.RETIRED_KEY: json.dumps({"a": 1})},
        {rotation.NEXT_KEY: ""},
        {rotation.NEXT_CERTIFICATE_KEY: "garbage"},
    ],
)
def test_lesser_damage_makes_nothing_untrusted(damage: dict[str, str]) -> None:
    state = _rotating()
    read = rotation.read({**rotation.write(state), **damage}, START)
    assert read.signer == state.signer
    assert {one.fingerprint for one in read.trusted} == {one.fingerprint for one in state.trusted}
    assert all(one.until >= START + LEAF_LIFE for one in read.retired)


# --- Replicas that interleave ------------------------------------------------------------------------------


@dataclass
class Stored:
    """An object with its version, as the API server keeps it."""

    value: Any = None
    version: int = 0


@dataclass(eq=False)
class Hook:
    """One webhook configuration, and what API servers that lag may still have of it."""

    held: frozenset[str] = frozenset()
    version: int = 0
    past: list[tuple[datetime, frozenset[str]]] = field(default_factory=list)
    foreign: bool = False
    """Somebody else wrote it last, so nothing can be promised until one of us has been there."""


@dataclass(eq=False)
class Replica:
    """A process between its reads and its writes."""

    leaf: Leaf | None = None
    remembered: rotation.State | None = None
    seen: rotation.Seen = field(default_factory=dict)
    configurations: list[tuple[int, frozenset[str]]] = field(default_factory=list)
    state: rotation.State | None = None
    started: datetime = START
    ready_since: datetime | None = None


LAG = timedelta(seconds=30)


class Rotation(RuleBasedStateMachine):
    """Rounds of several replicas, cut into their single requests, with deletions, strippings and days between."""

    replicas = Bundle("replicas")

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.secret = Stored()
        self.hooks = [Hook(), Hook()]
        self.known: dict[str, Trusted] = {}
        self.living: list[Replica] = []
        self.verified: dict[tuple[str, str], bool] = {}

    @initialize(target=replicas)
    def first(self) -> Replica:
        return self.joined()

    @rule(target=replicas)
    def starts(self) -> Replica:
        return self.joined()

    def joined(self) -> Replica:
        replica = Replica()
        self.living.append(replica)
        return replica

    @rule(replica=consumes(replicas))
    def dies(self, replica: Replica) -> None:
        self.living.remove(replica)

    @rule(seconds=st.sampled_from([1, 10, 59, 61, 600]))
    def nothing_happens(self, seconds: int) -> None:
        self._pass(timedelta(seconds=seconds))

    @rule(minutes=st.integers(1, 4))
    def minutes_pass(self, minutes: int) -> None:
        """Everybody who is not in the middle of a round, or suspended there, goes round once a minute."""
        for _ in range(minutes):
            self._pass(timedelta(seconds=61))
            self._everybody()

    @rule(days=st.sampled_from([1, 4, 7, 100]))
    def days_pass(self, days: int) -> None:
        """As with minutes: who is suspended stays so, with the certificate that it had."""
        for _ in range(days):
            self._pass(timedelta(days=1))
            self._everybody()

    def _everybody(self) -> None:
        for replica in self.living:
            if not replica.configurations:
                self.whole_round(replica, False)

    def _pass(self, time: timedelta) -> None:
        self.now += time
        for hook in self.hooks:
            hook.past = [(since, held) for since, held in hook.past if since >= self.now - LAG]

    # One replica's round, request by request -----------------------------------------------------------------

    @rule(replica=replicas)
    def reads_configurations(self, replica: Replica) -> None:
        replica.started = self.now
        replica.configurations = [(hook.version, hook.held) for hook in self.hooks]
        replica.state = None

    @rule(replica=replicas, rotate=st.booleans())
    def steps(self, replica: Replica, rotate: bool) -> None:  # noqa: FBT001
        if not replica.configurations or self._stale(replica):
            return
        version, kept = self.secret.version, self.secret.value
        live = [self.known[one] for _, held in replica.configurations for one in held]
        try:
            state = rotation.read(kept, self.now) if kept else None
        except CertificateError:  # everybody slept until the authority expired; it is made anew
            state = None
        if state is None:
            after = rotation.heal(replica.remembered, live, self.now)
        else:
            held = [held for _, held in replica.configurations]
            own = [one.fingerprint for one in state.trusted]
            replica.seen = rotation.sight(replica.seen, held, own, self.now)
            after = rotation.step(state, replica.seen, self.now, rotate=rotate)
        self.known |= {one.fingerprint: one for one in after.trusted}
        if after != state:
            assert version == self.secret.version
            self.secret = Stored(rotation.write(after), version + 1)
        replica.state = after

    @rule(replica=replicas, which=st.integers(0, 1))
    def publishes(self, replica: Replica, which: int) -> None:
        if replica.state is None:
            return
        hook, (version, _) = self.hooks[which], replica.configurations[which]
        if version != hook.version:  # the API server's 409
            replica.state, replica.configurations = None, []
            return
        wanted = frozenset(one.fingerprint for one in replica.state.trusted)
        if wanted != hook.held:
            self._write(hook, wanted)
            hook.foreign = False
        replica.configurations[which] = (hook.version, hook.held)

    @rule(replica=replicas)
    def signs(self, replica: Replica) -> None:
        if replica.state is None or self._stale(replica):
            return
        held = [held for _, held in replica.configurations]
        own = [one.fingerprint for one in replica.state.trusted]
        replica.seen = rotation.sight(replica.seen, held, own, self.now)
        replica.remembered = replica.state
        if replica.leaf is not None and self.now >= replica.leaf.not_after:
            replica.ready_since = None  # suspended until its certificate expired, it served nobody
        if rotation.leaf_due(replica.leaf, replica.state, replica.seen, self.now, 0.0):
            replica.leaf = make_leaf(replica.state.signer, NAMES, self.now)
        trusted = replica.leaf is not None and all(replica.leaf.issuer in one for one in held)
        if not trusted:
            assert replica.ready_since is None, "nobody took it away, so it must stay"
        elif replica.ready_since is None:
            replica.ready_since = self.now
        replica.state, replica.configurations = None, []

    @rule(replica=replicas, rotate=st.booleans())
    def whole_round(self, replica: Replica, rotate: bool) -> None:  # noqa: FBT001
        self.reads_configurations(replica)
        self.steps(replica, rotate)
        for which in range(len(self.hooks)):
            self.publishes(replica, which)
        self.signs(replica)

    def _stale(self, replica: Replica) -> bool:
        return self.now - replica.started > rotation.SETTLE

    # What others do ------------------------------------------------------------------------------------------

    @rule()
    def secret_is_deleted(self) -> None:
        self.secret = Stored(version=self.secret.version + 1)

    @rule(which=st.integers(0, 1))
    def bundle_is_stripped(self, which: int) -> None:
        self._write(self.hooks[which], frozenset())
        self.hooks[which].foreign = True
        for replica in self.living:
            replica.ready_since = None

    def _write(self, hook: Hook, held: frozenset[str]) -> None:
        hook.past.append((self.now, hook.held))
        hook.held, hook.version = held, hook.version + 1

    # What must hold ------------------------------------------------------------------------------------------

    @invariant()
    def every_ready_replica_is_trusted_by_everybody(self) -> None:
        for replica in self.living:
            if replica.ready_since is None or replica.leaf is None or self.now >= replica.leaf.not_after:
                continue
            for hook in self.hooks:
                if hook.foreign:
                    continue
                bundles = [hook.held]
                if replica.ready_since <= self.now - LAG:
                    bundles += [held for since, held in hook.past if since > replica.ready_since + LAG]
                for held in bundles:
                    assert any(self._verifies(self.known[one], replica.leaf) for one in held)

    def _verifies(self, authority: Trusted, leaf: Leaf) -> bool:
        if self.now >= authority.not_after:
            return False
        pair = (authority.fingerprint, leaf.pem)
        if pair not in self.verified:
            self.verified[pair] = _signed(leaf, authority)
        return self.verified[pair]

    @invariant()
    def the_bundle_stays_small(self) -> None:
        for hook in self.hooks:
            assert len(hook.held) <= 64


TestRotation = Rotation.TestCase
TestRotation.settings = settings(stateful_step_count=40)


def _settled_machine() -> tuple[Rotation, Replica, Replica]:
    machine = Rotation()
    one, two = machine.joined(), machine.joined()
    machine.minutes_pass(4)
    return machine, one, two


def test_after_a_sleep_of_years_the_authority_is_made_anew() -> None:
    machine = Rotation()
    alone = machine.joined()
    machine.whole_round(alone, False)
    machine.reads_configurations(alone)
    machine.days_pass(AUTHORITY_LIFE.days + 1)
    before = machine.secret.value
    machine.minutes_pass(1)
    machine.whole_round(alone, False)
    assert machine.secret.value[rotation.SIGNER_KEY] != before[rotation.SIGNER_KEY]
    machine.every_ready_replica_is_trusted_by_everybody()


def test_a_suspended_replica_cannot_put_an_old_bundle_back() -> None:
    machine, one, two = _settled_machine()
    machine.reads_configurations(one)
    machine.steps(one, False)
    machine.whole_round(two, True)
    machine.minutes_pass(3)
    for which in (0, 1):
        machine.publishes(one, which)
    machine.every_ready_replica_is_trusted_by_everybody()
    assert two.leaf is not None
    assert all(two.leaf.issuer in hook.held for hook in machine.hooks)


def test_a_replica_does_not_follow_a_new_signer_that_nobody_trusts_yet() -> None:
    machine, one, two = _settled_machine()
    machine.secret_is_deleted()
    two.remembered = None
    machine.reads_configurations(two)
    machine.steps(two, False)
    machine.reads_configurations(one)
    machine.steps(one, False)
    before = one.leaf
    machine.signs(one)
    assert one.leaf is before
    machine.every_ready_replica_is_trusted_by_everybody()
    machine.minutes_pass(4)
    assert one.leaf is not before
    machine.every_ready_replica_is_trusted_by_everybody()
