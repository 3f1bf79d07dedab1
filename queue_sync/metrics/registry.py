"""The controller's numbers for Prometheus; what they mean for an operator stands in docs/monitoring.md.

Gauges are read from the controller when somebody asks, so that they cost nothing otherwise and are never stale.

Failure mode: gauges that cannot be worked out are left out and counted as a failed reconcile of `metrics`; all other
numbers are given, so that no alert is blind because of one.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample as SampleOfFamily

from slicewise.metrics import registry_of

logger = logging.getLogger(__name__)

_DURATION: Final = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
_LATENCY: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)

Sample = tuple[str, str, tuple[str, ...], list[tuple[tuple[str, ...], float]]]
"""(name, help, names of labels, [(values of labels, value)]); a counter if the name ends in `_total`, else a gauge."""


class Metrics:
    """One registry with everything in it."""

    def __init__(self) -> None:
        self.registry = registry_of("controller")
        self.writes = Counter(
            "slicewise_controller_writes",
            "Writes at the API server.",
            ("kind", "verb", "result"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "slicewise_controller_event_to_write_seconds",
            "From the watch event of a node to the quota written because of it.",
            buckets=_LATENCY,
            registry=self.registry,
        )
        self._reconciles = Counter(
            "slicewise_controller_reconcile",
            "Reconciles by what came of them.",
            ("controller", "result"),
            registry=self.registry,
        )
        self._errors = Counter(
            "slicewise_controller_reconcile_errors",
            "Reconciles that failed.",
            ("controller",),
            registry=self.registry,
        )
        self._duration = Histogram(
            "slicewise_controller_reconcile_duration_seconds",
            "Duration of a reconcile, its writes included.",
            ("controller",),
            buckets=_DURATION,
            registry=self.registry,
        )
        self._last_success = Gauge(
            "slicewise_controller_last_success_timestamp_seconds",
            "When a reconcile last succeeded, as a Unix time.",
            ("controller",),
            registry=self.registry,
        )
        self.put_back = Counter(
            "slicewise_controller_put_back",
            "Edits by others that were put back.",
            ("kind", "name"),
            registry=self.registry,
        )

    def reconciled(self, controller: str, result: str, seconds: float, wall: float) -> None:
        """Counts one reconcile. `result` is success, requeue_after, error or internal_error; `wall` is POSIX time."""
        self._reconciles.labels(controller, result).inc()
        self._duration.labels(controller).observe(max(0.0, seconds))
        if result in {"success", "requeue_after"}:
            self._last_success.labels(controller).set(wall)
        else:
            self._errors.labels(controller).inc()

    def read_from(self, source: Callable[[], Iterable[Sample]]) -> None:
        """Adds the gauges that the controller knows."""
        self.registry.register(_Gauges(source, self._unread))

    def _unread(self) -> None:
        self._reconciles.labels("metrics", "internal_error").inc()
        self._errors.labels("metrics").inc()


class _Samples(list[SampleOfFamily]):
    """The samples of a family, each made when somebody reads it: whoever writes the text of some ten thousand does."""

    def __init__(
        self, name: str, labels: tuple[str, ...], found: list[tuple[tuple[str, ...], float]]
    ) -> None:
        super().__init__()
        self._name, self._labels, self._found = name, labels, found

    def __iter__(self) -> Iterator[SampleOfFamily]:
        """Yields them in order."""
        for values, number in self._found:
            yield SampleOfFamily(self._name, dict(zip(self._labels, values, strict=True)), number)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._found)


class _Gauges(Collector):
    def __init__(self, source: Callable[[], Iterable[Sample]], failed: Callable[[], None]) -> None:
        self._source, self._failed = source, failed

    def collect(self) -> Iterator[Metric]:
        """Yields each gauge with all its samples; none after one that cannot be worked out."""
        try:
            for name, words, labels, samples in self._source():
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                family: Metric = kind(name, words, labels=labels)
                family.samples = _Samples(name, labels, samples)
                yield family
        except Exception:
            logger.exception("gauges cannot be worked out")
            self._failed()
