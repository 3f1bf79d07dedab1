"""The cluster that the end-to-end tests share, and what its programs said when a test fails.

``pytest`` chooses the cluster as ``external.py`` says. Programs are built before the first test, outside any test's
time limit. A test that needs a cluster of its own makes one: ``with Cluster(kueue=True) as cluster``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pluggy
import pytest

from e2e.harness.binaries import CERT_MANAGER, VOLCANO, ensure, ensure_control_plane
from e2e.harness.cluster import AnyCluster, Cluster
from e2e.harness.errors import ClusterError
from e2e.harness.external import choose, kind_of_cluster
from e2e.harness.installation import WEBHOOK_KINDS, shipped

_running: list[AnyCluster] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Builds what is missing now: it takes minutes, which no test's time limit has room for."""
    if session.config.option.collectonly:
        return
    fixtures = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    try:
        if fixtures & {"cluster", "volcano_cluster", "programs", "volcano_programs"}:
            ensure_control_plane()
        if fixtures & {"volcano_cluster", "volcano_programs"}:
            ensure(VOLCANO)
        if "cert_manager_programs" in fixtures:
            ensure(CERT_MANAGER)
    except ClusterError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def programs() -> None:
    """For tests that start clusters of their own: the programs are built."""
    ensure_control_plane()


@pytest.fixture(scope="session")
def volcano_programs() -> None:
    """For tests that start clusters of their own, with Volcano."""
    ensure(VOLCANO)


@pytest.fixture(scope="session")
def cert_manager_programs() -> None:
    """For tests that start cert-manager on a cluster of their own."""
    ensure(CERT_MANAGER)


@pytest.fixture(scope="session")
def cluster() -> Iterator[AnyCluster]:
    """Kubernetes with Kueue and KWOK, shared by all tests of the run."""
    yield from _shared(choose())


@pytest.fixture(scope="module")
def installed(cluster: AnyCluster) -> AnyCluster:
    """CRDs and RBAC as they are shipped; nothing runs."""
    objects = shipped()
    first = {"Namespace", "CustomResourceDefinition"}
    left_out = {*first, "Deployment", "Service", *WEBHOOK_KINDS}
    cluster.apply([each for each in objects if each["kind"] in first])
    cluster.apply([each for each in objects if each["kind"] not in left_out])
    return cluster


@pytest.fixture(scope="session")
def volcano_cluster() -> Iterator[AnyCluster]:
    """Kubernetes with Volcano and KWOK: always programs of this run, built the first time somebody asks."""
    found = Cluster(volcano=True)
    found.up()
    yield from _shared(found)


def _shared(cluster: AnyCluster) -> Iterator[AnyCluster]:
    _running.append(cluster)
    try:
        yield cluster
    finally:
        _running.remove(cluster)
        cluster.stop()


def pytest_xdist_auto_num_workers() -> int:
    """Two, each with a control plane of its own; tests that would share a cluster from elsewhere run one by one."""
    return 2 if kind_of_cluster() == "programs" else 0


def pytest_report_header() -> str:
    """Says which cluster it will be."""
    return f"cluster: {kind_of_cluster()}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """Adds the end of every component's log to the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and set(getattr(item, "fixturenames", ())) & {"cluster", "volcano_cluster"}:
        for running in _running:
            for name, tail in running.log_tails().items():
                report.sections.append((f"end of the log of {name}", tail))
