"""Which authority signs, which ones clients must trust, and when one follows the other. Pure.

Rotation has three phases, each a state that is kept in the Secret, so that any replica may take the next step
and a restart forgets nothing:

1. *upcoming*: the next authority is published beside the present one, and signs nothing yet;
2. *switch*: once every configuration has been seen to hold it for `SETTLE`, it becomes the signer, and the old one
   is *retired*: still trusted;
3. *drop*: a retired authority goes when no certificate that it ever signed can still be valid.

Invariant: a serving certificate is taken into use only when every client trusts its issuer already, and an issuer
stays trusted until the last certificate that it signed has expired. Two orders make that hold under any interleaving
of replicas: a configuration is written only as long as it is the one that was read before the Secret was (so no
write can be derived from an older state than the one before it), and a certificate is signed only right after the
Secret was read.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from admission.tls.x509 import (
    AUTHORITY_LIFE,
    LEAF_LIFE,
    Authority,
    CertificateError,
    Leaf,
    Trusted,
    bundle,
    lifetime,
    make_authority,
    read_authority,
    read_bundle,
)

# How long a bundle must have been in place before something relies on it: API servers watch, and may lag.
SETTLE: Final = timedelta(seconds=60)
# For clocks that differ, and for certificates that were signed while the switch was being written.
MARGIN: Final = timedelta(hours=1)
RENEW_BEFORE: Final = AUTHORITY_LIFE / 3
# A rotation that somebody asks for must not make the bundle grow without end.
MOST_RETIRED: Final = 4


@dataclass(frozen=True, slots=True)
class Periods:
    """How long a rotation lasts. `settle` must outlast a round and the lag of API servers several times.

    `notice` is that lag alone, with some to spare: how long a bundle that was written may not be known everywhere.
    """

    settle: timedelta = SETTLE
    notice: timedelta = timedelta(seconds=5)
    leaf: timedelta = LEAF_LIFE
    margin: timedelta = MARGIN
    between_rounds: timedelta = timedelta(seconds=10)

    @property
    def trusted_for(self) -> timedelta:
        """How long an authority that signs no more stays trusted."""
        return self.leaf + self.margin


USUAL: Final = Periods()

CERTIFICATES_KEY: Final = "ca.crt"
SIGNER_KEY: Final = "ca.key"
NEXT_CERTIFICATE_KEY: Final = "next.crt"
NEXT_KEY: Final = "next.key"
RETIRED_KEY: Final = "retired.json"


class Retired(msgspec.Struct, frozen=True):
    """An authority that signs no more and is trusted until what it signed has expired."""

    certificate: Trusted
    until: datetime


class State(msgspec.Struct, frozen=True):
    """What the Secret holds."""

    signer: Authority
    upcoming: Authority | None = None
    retired: tuple[Retired, ...] = ()

    @property
    def trusted(self) -> tuple[Trusted, ...]:
        """Every authority that clients must trust, the signer first."""
        upcoming = (self.upcoming.certificate,) if self.upcoming else ()
        return (self.signer.certificate, *upcoming, *(one.certificate for one in self.retired))


Seen = Mapping[str, datetime]
"""Since when every configuration has been seen to hold an authority, by fingerprint."""


def sight(seen: Seen, bundles: Sequence[frozenset[str]], own: Iterable[str], now: datetime) -> Seen:
    """Takes in what the configurations hold now (fingerprints), each in one look.

    Without configurations nobody calls, and everything of our `own` counts as trusted.
    """
    held = frozenset.intersection(*bundles) if bundles else frozenset(own)
    return {fingerprint: min(seen.get(fingerprint, now), now) for fingerprint in held}


def settled(seen: Seen, fingerprint: str, now: datetime, periods: Periods = USUAL) -> bool:
    """True when everybody has trusted an authority for long enough."""
    since = seen.get(fingerprint)
    return since is not None and now - since >= periods.settle


def begin(now: datetime, live: Iterable[Trusted], periods: Periods = USUAL) -> State:
    """Starts from nothing. What configurations trust at this moment stays trusted: somebody may serve under it."""
    return State(make_authority(now), retired=_retire(live, now, periods))


def step(state: State, seen: Seen, now: datetime, *, rotate: bool = False, periods: Periods = USUAL) -> State:
    """Returns the next state; the same one when there is nothing to do. `rotate` asks for a new authority now."""
    retired = tuple(one for one in state.retired if now < min(one.until, one.certificate.not_after))
    upcoming = state.upcoming
    if upcoming is not None and settled(seen, upcoming.certificate.fingerprint, now, periods):
        return State(upcoming, retired=(*_retire([state.signer.certificate], now, periods), *retired))
    due = now >= state.signer.certificate.not_after - RENEW_BEFORE
    asked = rotate and len(retired) < MOST_RETIRED
    if upcoming is None and (due or asked):
        upcoming = make_authority(now)
    return State(state.signer, upcoming, retired)


def heal(remembered: State | None, live: Sequence[Trusted], now: datetime, periods: Periods = USUAL) -> State:
    """Returns the state to write when the Secret is gone or damaged.

    What this replica remembers is used only while clients still trust it (or nobody trusts anything): memory may
    be older than what was lost.
    """
    fingerprints = {one.fingerprint for one in live}
    if remembered is None or now >= remembered.signer.certificate.not_after:
        return begin(now, live, periods)
    if live and remembered.signer.certificate.fingerprint not in fingerprints:
        return begin(now, live, periods)
    known = {one.fingerprint for one in remembered.trusted}
    more = _retire((one for one in live if one.fingerprint not in known), now, periods)
    return msgspec.structs.replace(remembered, retired=(*remembered.retired, *more))


def leaf_due(
    leaf: Leaf | None, state: State, seen: Seen, now: datetime, jitter: float, periods: Periods = USUAL
) -> bool:
    """True when a replica should make itself a new serving certificate from the signer, now.

    A certificate that clients trust is given up only for one that they have trusted for long enough.
    """
    if leaf is None or now >= leaf.not_after:
        return True
    if now < leaf.not_before > lifetime(state.signer.certificate.pem)[0]:
        return True  # the clock was set back, and nobody takes what begins tomorrow
    signer = state.signer.certificate.fingerprint
    if leaf.issuer == signer:
        return now >= leaf.renewal(jitter)
    if leaf.issuer in seen:
        return settled(seen, signer, now, periods)
    return signer in seen


def serves_from(state: State, periods: Periods = USUAL) -> datetime | None:
    """Returns from when on a replica may serve under its first certificate; None for at once.

    Where others serve under other authorities, nobody is helped by a replica whose own is not known everywhere yet.
    """
    made = state.signer.certificate.not_after - AUTHORITY_LIFE
    return made + periods.notice if state.retired else None


def _retire(certificates: Iterable[Trusted], now: datetime, periods: Periods) -> tuple[Retired, ...]:
    until = now + periods.trusted_for
    return tuple(Retired(one, until) for one in certificates if now < one.not_after)


# --- The Secret's data ------------------------------------------------------------------------------------


def write(state: State) -> dict[str, str]:
    """Returns the Secret's `stringData`."""
    data = {
        CERTIFICATES_KEY: bundle(state.trusted),
        SIGNER_KEY: state.signer.key,
        RETIRED_KEY: json.dumps(
            {one.certificate.fingerprint: one.until.isoformat() for one in state.retired}
        ),
    }
    if state.upcoming is not None:
        data[NEXT_CERTIFICATE_KEY] = state.upcoming.certificate.pem
        data[NEXT_KEY] = state.upcoming.key
    return data


def read(data: Mapping[str, str], now: datetime, periods: Periods = USUAL) -> State:
    """Reads the Secret's decoded data.

    Only the signer is indispensable. Certificates of which nothing says what they are stay trusted for as long as
    a retired one would.

    Raises:
        CertificateError: there is no signer that can be used.
    """
    certificates = read_bundle(data.get(CERTIFICATES_KEY, ""))
    if not certificates:
        raise CertificateError(f"{CERTIFICATES_KEY} holds no certificate")
    signer = read_authority(certificates[0].pem, data.get(SIGNER_KEY, ""))
    if now >= signer.certificate.not_after:
        raise CertificateError(f"the authority expired at {signer.certificate.not_after:%Y-%m-%d %H:%M} UTC")
    upcoming = _upcoming(data)
    named = {signer.certificate.fingerprint, *([upcoming.certificate.fingerprint] if upcoming else [])}
    untils = _untils(data.get(RETIRED_KEY, ""))
    retired = tuple(
        Retired(one, untils.get(one.fingerprint, now + periods.trusted_for))
        for one in certificates
        if one.fingerprint not in named
    )
    return State(signer, upcoming, retired)


def _upcoming(data: Mapping[str, str]) -> Authority | None:
    try:
        return read_authority(data.get(NEXT_CERTIFICATE_KEY, ""), data.get(NEXT_KEY, ""))
    except CertificateError:
        return None


def _untils(text: str) -> dict[str, datetime]:
    """Unreadable ones are left out, which keeps their certificates longer and never shorter."""
    try:
        entries = json.loads(text)
        return {
            key: moment for key, value in entries.items() if (moment := datetime.fromisoformat(value)).tzinfo
        }
    except (ValueError, TypeError, AttributeError):
        return {}
