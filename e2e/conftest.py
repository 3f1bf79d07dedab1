"""The cluster that the end-to-end tests share, and what its programs said when a test fails.

``pytest`` chooses the cluster as ``external.py`` says. Programs are built before the first test, outside any test's
time limit. A test that needs a cluster of its own makes one: ``with Cluster(kueue=True) as cluster``.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pluggy
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from e2e.harness.binaries import CERT_MANAGER, VOLCANO, ensure, ensure_control_plane
from e2e.harness.cluster import GO, AnyCluster, Cluster
from e2e.harness.errors import ClusterError
from e2e.harness.external import choose, kind_of_cluster
from e2e.harness.installation import Installation, shipped
from e2e.harness.loopback import WEBHOOK_KINDS
from e2e.harness.shared import SharedCluster

_running: list[AnyCluster] = []
_shared_clusters: dict[str, SharedCluster] = {}

ORDER = (
    # What takes longest begins first, so that no worker is left with it at the end. And what has a control plane of its
    # own comes before what shares one, which would idle beside it and take time from it.
    ("chaos",),
    # These wait for certificates and holds, and take next to no time from what is beside them.
    ("certificates", "clocks"),
    ("kinds",),
    ("certmanager",),
    ("install",),
    # Files in one line share a control plane and Slicewise with the chart's defaults.
    ("volcano", "volcano_quota", "volcano_proportion"),
    ("install_values",),
    ("usage",),
    ("nvidia",),
    ("volcano_mixed",),
    ("privileges",),
    ("restart",),
    ("doctor",),
    ("merges", "updates", "owners", "mutate_command"),
    ("security", "security_actors", "security_limits", "main_job", "own_quota", "from_zero", "real_clusters"),
    ("quota",),
    ("dra",),
    ("webhook_server",),
    ("webhook_rollout",),
)
"""Files of tests by the order in which they begin, and those that one worker runs one after the other."""


def pytest_configure() -> None:
    """Has kubectl, Helm and whatever else of Go a test starts collect garbage as seldom as the control plane does."""
    os.environ.update(GO)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Builds what is missing now: it takes minutes, which no test's time limit has room for."""
    if session.config.option.collectonly:
        return
    fixtures = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    try:
        if fixtures & {"shared", "volcano_shared", "programs", "volcano_programs"}:
            ensure_control_plane()
        if fixtures & {"volcano_shared", "volcano_programs"}:
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


_FILES = [f"test_{file}" for line in ORDER for file in line]
_FIRST_OF_LINE = {f"test_{file}": f"test_{line[0]}" for line in ORDER for file in line}


def worker_scope(nodeid: str) -> str:
    """Returns what tests of one worker have in common: the first file of their line, else their own file."""
    stem = Path(nodeid.partition("::")[0]).stem
    return _FIRST_OF_LINE.get(stem, stem)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests into the order of :data:`ORDER`, then the other files."""
    items.sort(key=lambda item: _FILES.index(item.path.stem) if item.path.stem in _FILES else len(_FILES))


class _LineScheduling(LoadScopeScheduling):
    """Each line of :data:`ORDER`, and each other file, is for one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return worker_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _LineScheduling:
    return _LineScheduling(config, log)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedCluster]:
    """Kubernetes with Kueue and KWOK, shared by all tests of the worker."""
    yield from _shared("shared", choose(), tmp_path_factory)


@pytest.fixture(scope="module")
def cluster(shared: SharedCluster) -> AnyCluster:
    """The shared cluster, without Slicewise."""
    return shared.bare()


@pytest.fixture(scope="module")
def installation(shared: SharedCluster) -> Installation:
    """Slicewise with the chart's defaults on the shared cluster. It stays for the next file: leave no objects in it."""
    return shared.installation()


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
def volcano_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedCluster]:
    """Kubernetes with Volcano and KWOK: always programs of this run, built the first time somebody asks."""
    found = Cluster(volcano=True)
    found.up()
    yield from _shared("volcano_shared", found, tmp_path_factory)


@pytest.fixture(scope="module")
def volcano_installation(volcano_shared: SharedCluster) -> Installation:
    """As ``installation``, on the cluster with Volcano."""
    return volcano_shared.installation()


def _shared(name: str, cluster: AnyCluster, folders: pytest.TempPathFactory) -> Iterator[SharedCluster]:
    def new_folder() -> Path:
        return folders.mktemp("slicewise")

    found = _shared_clusters[name] = SharedCluster(cluster, new_folder)
    _running.append(cluster)
    try:
        yield found
    finally:
        _running.remove(cluster)
        found.stop()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Ends Volcano's cluster with the line that has it: what waits takes time from what works."""
    goes_on = nextitem is None or worker_scope(item.nodeid) == worker_scope(nextitem.nodeid)
    if not goes_on and "volcano_shared" in _shared_clusters:
        _shared_clusters.pop("volcano_shared").stop()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Four, each with a control plane of its own; tests that would share a cluster from elsewhere run one by one.

    A test waits for half of its time: three workers left two cores idle for a quarter of a run.
    """
    return 4 if kind_of_cluster() == "programs" else 0


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
    if report.failed and set(getattr(item, "fixturenames", ())) & {"shared", "volcano_shared"}:
        for running in _running:
            for name, tail in running.log_tails().items():
                report.sections.append((f"end of the log of {name}", tail))
