"""Plain counters and histograms give what prometheus_client's own would."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from admission.server.plain_metrics import PlainCounter, PlainHistogram


def _lines(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_counter_reads_as_the_librarys_own() -> None:
    plain, own = CollectorRegistry(), CollectorRegistry()
    counter = PlainCounter("responses", "By status.", ("path", "code"), plain)
    expected = Counter("responses", "By status.", ("path", "code"), registry=own)
    for labels in (("/mutate", "200"), ("/mutate", "400"), ("/mutate", "200")):
        counter.inc(*labels)
        expected.labels(*labels).inc()
    assert _lines(plain) == _lines(own)


def test_a_histogram_reads_as_the_librarys_own() -> None:
    plain, own = CollectorRegistry(), CollectorRegistry()
    histogram = PlainHistogram("seconds", "By path.", "path", (0.5, 1.0), plain)
    expected = Histogram("seconds", "By path.", ("path",), buckets=(0.5, 1.0), registry=own)
    for path, value in (("/mutate", 0.5), ("/mutate", 0.75), ("/validate", 7.0)):
        histogram.observe(path, value)
        expected.labels(path).observe(value)
    assert _lines(plain) == _lines(own)
