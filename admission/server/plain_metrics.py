"""A counter and a histogram that are written by one thread, the event loop's, and read when Prometheus asks.

prometheus_client's own take a lock for each number: six for one review, which cost as much as its HTTP head does.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class PlainCounter(Collector):
    """A counter with labels."""

    def __init__(self, name: str, words: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self.values: Final[dict[Labels, int]] = {}
        self._name, self._words, self._labels = name, words, labels
        registry.register(self)

    def inc(self, *labels: str) -> None:
        """Counts one."""
        self.values[labels] = self.values.get(labels, 0) + 1

    def describe(self) -> Iterator[Metric]:
        """Names what `collect` gives."""
        yield CounterMetricFamily(self._name, self._words, labels=self._labels)

    def collect(self) -> Iterator[Metric]:
        """Gives the numbers as they are."""
        family = CounterMetricFamily(self._name, self._words, labels=self._labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        yield family


class PlainHistogram(Collector):
    """A histogram with one label."""

    def __init__(
        self, name: str, words: str, label: str, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._words, self._label = name, words, label
        self._bounds = (*buckets, float("inf"))
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, label: str, value: float) -> None:
        """Counts one value."""
        counts = self._counts.get(label)
        if counts is None:
            counts = self._counts[label] = [0] * len(self._bounds)
            self._sums[label] = 0.0
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[label] += value

    def describe(self) -> Iterator[Metric]:
        """Names what `collect` gives."""
        yield HistogramMetricFamily(self._name, self._words, labels=(self._label,))

    def collect(self) -> Iterator[Metric]:
        """Gives the numbers as they are."""
        family = HistogramMetricFamily(self._name, self._words, labels=(self._label,))
        for label, counts in self._counts.items():
            bounds = map(floatToGoString, self._bounds)
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric((label,), buckets, self._sums[label])
        yield family
