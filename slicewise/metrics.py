"""What each of the two servers tells Prometheus of itself: its process, its name and its version."""

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector

from slicewise import __version__


def registry_of(program: str) -> CollectorRegistry:
    """A registry of its own for one program, `webhook` or `controller`."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Gauge(
        "slicewise_build_info",
        "1, with the program and its version as labels.",
        ("program", "version"),
        registry=registry,
    )
    build.labels(program, __version__).set(1)
    return registry
