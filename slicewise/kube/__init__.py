"""The only way from this project to an API server: client, informer, work queue, leader election, events.

It knows nothing of GPUs and imports nothing else of the project. Modules, from the bottom up: `errors`, `timing`,
`config` (who are we), `transport` (one exchange), `client` (verbs, retries, fence), `listing` and `following`
(formats and values), `watching` (the informer), `queueing`, `leasing`, `events`.
"""

from slicewise.kube.client import Client
from slicewise.kube.config import Access, Credentials, find_credentials
from slicewise.kube.errors import (
    AlreadyExistsError,
    ApiError,
    ConfigError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    KubeError,
    LeadershipLostError,
    NotFoundError,
    TooLargeError,
    TooManyRequestsError,
    UnauthorizedError,
    UnreachableError,
)
from slicewise.kube.events import EventSettings, Recorder, Regarding
from slicewise.kube.following import Change, Counters, Health, WatchSettings
from slicewise.kube.leasing import Elector, LeaseSettings
from slicewise.kube.queueing import QueueClosed, QueueSettings, WorkQueue, run_worker
from slicewise.kube.timing import REAL, Backoff, Timing, TokenBucket
from slicewise.kube.transport import Response
from slicewise.kube.watching import Informer

__all__ = [
    "REAL",
    "Access",
    "AlreadyExistsError",
    "ApiError",
    "Backoff",
    "Change",
    "Client",
    "ConfigError",
    "ConflictError",
    "Counters",
    "Credentials",
    "Elector",
    "EventSettings",
    "ForbiddenError",
    "GoneError",
    "Health",
    "Informer",
    "InvalidError",
    "KubeError",
    "LeadershipLostError",
    "LeaseSettings",
    "NotFoundError",
    "QueueClosed",
    "QueueSettings",
    "Recorder",
    "Regarding",
    "Response",
    "Timing",
    "TokenBucket",
    "TooLargeError",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnreachableError",
    "WatchSettings",
    "WorkQueue",
    "find_credentials",
    "run_worker",
]
