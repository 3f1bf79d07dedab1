"""Who is connected, and who goes when there is no room: never the API server for somebody who only holds a place.

A connection counts from the moment it is accepted, before a word of TLS, under the address of its peer. When all
places are taken, the address that holds the most of them gives one up; when an address has its whole share, it gives
up one of its own. The one that goes is the one that has been open longest without ever sending the head of a request;
where all have sent one, one that does not read its answers; then the longest idle. Another connection in the middle of
a request never goes: their number is bounded by `admission.server.intake`.

So an API server, which keeps no more than 25 idle connections to a webhook, is out of reach for whoever has fewer
than eighty addresses.
"""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many places there are."""

    total: int = 2000
    per_address: int = 1000
    """More than an API server has requests in flight, as several of them may come from one proxy's address."""


@dataclass(slots=True, eq=False)
class Connection:
    """One open connection."""

    address: str
    close: Callable[[], object]
    """Ends it at once."""


@dataclass(slots=True)
class _Peer:
    count: int = 0
    silent: dict[Connection, None] = field(default_factory=dict)
    """Those that never sent the head of a request, longest open first."""
    stalled: dict[Connection, None] = field(default_factory=dict)
    """Those that do not read what they are sent, longest first, whatever else they do."""
    idle: dict[Connection, None] = field(default_factory=dict)
    """The others between two requests, longest idle first."""

    @property
    def next_to_go(self) -> Connection | None:
        return next(iter(self.silent or self.stalled or self.idle), None)

    @property
    def spare(self) -> int:
        """How many could go."""
        return len(self.silent) + len(self.stalled) + len(self.idle)


class ConnectionTable:
    """The connections of one listener."""

    def __init__(
        self, limits: ConnectionLimits | None = None, on_full: Callable[[], object] = lambda: None
    ) -> None:
        """`on_full` is called for each connection that is closed for want of room."""
        self._limits = limits or ConnectionLimits()
        self._on_full = on_full
        self._open: dict[Connection, _Peer] = {}
        self._peers: dict[str, _Peer] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, connection: Connection) -> bool:
        """Gives the connection a place; False when all that it could have are taken by requests under way."""
        if not self._make_room(connection.address):
            self._on_full()
            return False
        peer = self._open[connection] = self._peers.setdefault(connection.address, _Peer())
        peer.count += 1
        peer.silent[connection] = None
        return True

    def head_received(self, connection: Connection) -> None:
        """A request has begun: the connection stays until it is answered."""
        if (peer := self._open.get(connection)) is not None:
            peer.idle.pop(connection, None)
            peer.silent.pop(connection, None)

    def answered(self, connection: Connection) -> None:
        """The request has ended: from now on the connection is idle."""
        if (peer := self._open.get(connection)) is not None and connection not in peer.stalled:
            peer.idle[connection] = None

    def answered_at_once(self, connection: Connection) -> None:
        """A request has begun and ended."""
        if (peer := self._open.get(connection)) is not None:
            peer.silent.pop(connection, None)
            if connection not in peer.stalled:
                peer.idle.pop(connection, None)
                peer.idle[connection] = None

    def stall(self, connection: Connection) -> None:
        """The client does not read what it is sent."""
        if (peer := self._open.get(connection)) is not None:
            peer.idle.pop(connection, None)
            peer.stalled[connection] = None

    def flow(self, connection: Connection, *, idle: bool) -> None:
        """The client reads again; `idle` between two requests."""
        if (peer := self._open.get(connection)) is not None:
            peer.stalled.pop(connection, None)
            if idle:
                peer.idle[connection] = None

    def remove(self, connection: Connection) -> None:
        """The connection is gone."""
        if (peer := self._open.pop(connection, None)) is None:
            return
        for place in (peer.idle, peer.silent, peer.stalled):
            place.pop(connection, None)
        peer.count -= 1
        if not peer.count:
            del self._peers[connection.address]

    def _make_room(self, address: str) -> bool:
        """Closes a connection if it must; False when it must and cannot."""
        peer = self._peers.get(address)
        if peer is None or peer.count < self._limits.per_address:
            if len(self._open) < self._limits.total:
                return True
            # Of several with as many, the one that came last: the API server was there before.
            peer = max(reversed(self._peers.values()), key=lambda one: one.spare)
        if (connection := peer.next_to_go) is None:
            return False
        self.remove(connection)
        connection.close()
        self._on_full()
        return True
