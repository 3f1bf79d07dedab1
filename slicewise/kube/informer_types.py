"""The values around an informer: what it tells, counts and says of itself, and how it may be set."""

from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from slicewise.kube.listing import PAGE

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """`old` is None for what is new, `new` is None for what is gone."""

    key: str
    old: T | None
    new: T | None


@dataclass(slots=True)
class Counters:
    """Since the start; `last_event` is on the monotonic clock."""

    relists: int = 0
    reconnects: int = 0
    events: int = 0
    dropped: int = 0
    malformed: int = 0
    errors: int = 0
    last_event: float | None = None


class Health(NamedTuple):
    ok: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """Seconds throughout."""

    page: int = PAGE
    # API servers send a bookmark about once a minute, so a longer silence means a dead connection.
    inactivity: float = 70.0
    # The server ends each watch itself, at a time of its own for each, so that they do not all return together.
    server_timeout: tuple[int, int] = (290, 590)
    reconnect: float = 1.0
    first_backoff: float = 0.8
    most_backoff: float = 30.0
    longest_retry_after: float = 300.0
    # A connection that lasted this long was good: the backoff starts again from the bottom.
    well_after: float = 60.0
    # A watch that ends sooner than this was refused rather than used.
    short_watch: float = 5.0
    absent_retry: float = 30.0
    # Trouble younger than this does not make the informer unhealthy, refused credentials excepted.
    patience: float = 60.0
    # After so many failures in a row without news, the point to resume from is given up too.
    failures_before_relist: int = 3


@dataclass(slots=True)
class Trouble:
    error: Exception
    since: float


@dataclass(slots=True)
class State:
    """Where the informer stands in its conversation with the server."""

    version: str = ""
    listed_before: bool = False
    watched_before: bool = False
    connected_at: float | None = None
    trouble: Trouble | None = None
    failures: int = 0
    malformed: dict[str, str] = field(default_factory=dict)
