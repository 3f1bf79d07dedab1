"""What the webhook tells Prometheus.

Invariant: the number of time series is bounded whatever people send. Kinds, policies and strategies come from
requests, so only the first `SERIES` combinations get a series of their own; the rest are counted as "other".
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from admission.decision.model import Deviation, Reason
from admission.server.plain_metrics import PlainCounter, PlainHistogram
from slicewise.metrics import registry_of

SERIES: Final = 500
OTHER: Final = "other"
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0)
BYTES: Final = (1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000, 4_000_000, 20_000_000)


@dataclass(frozen=True, slots=True)
class CacheAge:
    """One cache at the moment of a scrape."""

    name: str
    objects: int
    synced: bool
    seconds: float | None
    """Since the last sign of life from the API server; None before the first."""
    malformed: int = 0
    """Objects whose present version cannot be used."""


class Metrics:
    """The registry of one server and the instruments in it."""

    def __init__(self) -> None:
        self.registry = registry_of("webhook")
        self._reviews = PlainCounter(
            "slicewise_admission_reviews",
            "Reviews answered, by what became of them.",
            ("path", "outcome", "kind", "policy", "strategy"),
            self.registry,
        )
        self._refusals = Counter(
            "slicewise_admission_refusals",
            "Reviews refused, by reason.",
            ("reason",),
            registry=self.registry,
        )
        for reason in Reason:
            self._refusals.labels(reason)
        self._deviations = Counter(
            "slicewise_admission_deviations",
            "Objects left as they were asked, or given other than they asked, by reason.",
            ("reason",),
            registry=self.registry,
        )
        for deviation in Deviation:
            self._deviations.labels(deviation)
        self._responses = PlainCounter(
            "slicewise_admission_responses",
            "HTTP responses on the review paths, by status.",
            ("path", "code"),
            self.registry,
        )
        self._seconds = PlainHistogram(
            "slicewise_admission_review_duration_seconds",
            "Time from the request's head to its answer.",
            "path",
            SECONDS,
            self.registry,
        )
        self._bytes = PlainHistogram(
            "slicewise_admission_request_size_bytes",
            "Size of review bodies.",
            "path",
            BYTES,
            self.registry,
        )
        self.in_flight = Gauge(
            "slicewise_admission_in_flight_requests",
            "Reviews being received.",
            registry=self.registry,
        )
        self.connections = Gauge(
            "slicewise_admission_connections",
            "Open connections to the webhook's port.",
            registry=self.registry,
        )
        self.connections_dropped = Counter(
            "slicewise_admission_connections_dropped",
            "Connections closed because all places were taken.",
            registry=self.registry,
        )

    def reviewed(self, path: str, outcome: str, kind: str, policy: str, strategy: str) -> None:
        """Counts one answer."""
        labels = (path, outcome, kind, policy, strategy)
        series = self._reviews.values
        if len(series) >= SERIES and labels not in series:
            labels = (path, outcome if len(outcome) < 32 else OTHER, OTHER, OTHER, OTHER)
        self._reviews.inc(*labels)

    def refused(self, reason: str) -> None:
        """Counts why an answer was no; reasons are few and our own."""
        self._refusals.labels(reason).inc()

    def deviated(self, reason: str) -> None:
        """Counts why an object is left as it was asked, or given other than it asked."""
        self._deviations.labels(reason).inc()

    def responded(self, path: str, code: int, seconds: float) -> None:
        """Counts one HTTP response."""
        self._responses.inc(path, str(code))
        self._seconds.observe(path, seconds)

    def received(self, path: str, size: int) -> None:
        """Takes note of a body's size."""
        self._bytes.observe(path, size)

    def watch_caches(self, ages: Callable[[], Iterable[CacheAge]]) -> None:
        """Has the caches' state asked for at each scrape."""
        self.registry.register(_Caches(ages))

    def watch_certificates(self, expiries: Callable[[], Iterable[tuple[str, float]]]) -> None:
        """Has the certificates' last moments (name, Unix time) asked for at each scrape."""
        self.registry.register(_Certificates(expiries))


class _Caches(Collector):
    def __init__(self, ages: Callable[[], Iterable[CacheAge]]) -> None:
        self._ages = ages

    def collect(self) -> Iterator[Metric]:
        objects = GaugeMetricFamily("slicewise_cache_objects", "Objects in a cache.", labels=("cache",))
        synced = GaugeMetricFamily(
            "slicewise_cache_synced", "1 once a cache has held a whole list.", labels=("cache",)
        )
        ages = GaugeMetricFamily(
            "slicewise_cache_age_seconds",
            "Time since the API server last sent anything for a cache.",
            labels=("cache",),
        )
        malformed = GaugeMetricFamily(
            "slicewise_cache_malformed_objects",
            "Objects whose present version cannot be used; the last good one stays in force.",
            labels=("cache",),
        )
        for age in self._ages():
            objects.add_metric((age.name,), age.objects)
            synced.add_metric((age.name,), float(age.synced))
            malformed.add_metric((age.name,), age.malformed)
            if age.seconds is not None:
                ages.add_metric((age.name,), age.seconds)
        return iter((objects, synced, ages, malformed))


class _Certificates(Collector):
    def __init__(self, expiries: Callable[[], Iterable[tuple[str, float]]]) -> None:
        self._expiries = expiries

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "slicewise_certificate_expiry_timestamp_seconds",
            "When a certificate stops being valid, as a Unix time.",
            labels=("certificate",),
        )
        for name, moment in self._expiries():
            family.add_metric((name,), moment)
        return iter((family,))
