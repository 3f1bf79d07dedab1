"""SlicingPolicy status on the real API server: what classes get, who uses the policy, whose counting it breaks.

The controller runs with the rights that are shipped, so that what it may read and write is shown too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import Server, namespace
from e2e.test_quota import quiet_since

OWN = "slicewise.io/v1alpha1"
POLICY = "status-research"
BOARD = nodes.Board(
    "NVIDIA-PS1-80GB", nodes.H100.memory, nodes.H100.family, nodes.H100.compute, nodes.H100.profiles
)
MIG, WHOLE = "ps1-80gb-mig-mixed", "ps1-80gb-exclusive"


@pytest.fixture(scope="module", autouse=True)
def controller(installed: AnyCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The controller, with short times."""
    server = Server(
        installed,
        "controller",
        tmp_path_factory.mktemp("policies"),
        17,
        "--settle",
        "1s",
        "--hold-down",
        "4s",
    )
    server.start()
    yield server
    server.program.kill()


@pytest.fixture
def members(installed: AnyCluster) -> Iterator[None]:
    """A node with slices and one with whole boards."""
    nodes.add(
        installed,
        nodes.mig_mixed("ps-1", {"1g.10gb": 7}, board=BOARD, gpus=1),
        nodes.exclusive("ps-2", board=BOARD, gpus=2),
    )
    yield
    nodes.remove(installed, "ps-1", "ps-2")


@pytest.fixture
def policy(installed: AnyCluster) -> Iterator[Object]:
    """A policy over boards that are nobody else's."""
    models = ["*PS1*"]
    document = {
        "apiVersion": OWN,
        "kind": "SlicingPolicy",
        "metadata": {"name": POLICY},
        "spec": {
            "defaultClass": "training",
            "classes": {
                "inference": {"strategy": "mig", "models": models},
                "notebook": {"strategy": "time-slicing", "models": models, "otherwise": ["mig", "exclusive"]},
                "training": {"strategy": "exclusive", "models": models},
            },
        },
    }
    installed.apply(document)
    yield document
    installed.delete(OWN, "SlicingPolicy", POLICY)


def status(cluster: AnyCluster) -> Object:
    found: Object = cluster.get(OWN, "SlicingPolicy", POLICY).get("status", {})
    return found


def condition(cluster: AnyCluster, kind: str) -> Object:
    (found,) = [each for each in status(cluster).get("conditions", ()) if each["type"] == kind]
    return dict(found)


@pytest.mark.usefixtures("members", "policy")
def test_classes_follow_the_pools(installed: AnyCluster) -> None:
    wanted = {
        "inference": {"strategy": "mig", "pools": [MIG]},
        "notebook": {"strategy": "mig", "pools": [MIG]},
        "training": {"strategy": "exclusive", "pools": [WHOLE]},
    }
    eventually(lambda: status(installed).get("classes") == wanted, "classes say what they get")
    assert condition(installed, "Ready")["status"] == "True"
    assert condition(installed, "Accepted")["status"] == "True"
    nodes.remove(installed, "ps-1")
    wanted["inference"]["pools"] = []
    wanted["notebook"] = {"strategy": "exclusive", "pools": [WHOLE]}
    eventually(lambda: status(installed)["classes"] == wanted, "the fallback serves notebooks")
    ready = condition(installed, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NothingFits")
    assert "class inference: " in ready["message"]
    nodes.add(installed, nodes.mig_mixed("ps-1", {"1g.10gb": 7}, board=BOARD, gpus=1))
    eventually(lambda: condition(installed, "Ready")["status"] == "True", "every class is served again")


@pytest.mark.usefixtures("members", "policy")
def test_namespaces_and_their_miscounting_rules_are_told(installed: AnyCluster, controller: Server) -> None:
    cluster = installed
    namespace(cluster, "ps-lab", policy=POLICY)
    namespace(cluster, "ps-off", policy=POLICY, mode="off")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "gpus", "namespace": "ps-lab"},
        "spec": {"hard": {"requests.nvidia.com/gpu": "4"}},
    }
    limits = {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "defaults", "namespace": "ps-lab"},
        "spec": {"limits": [{"type": "Container", "default": {"nvidia.com/gpu": "1"}}]},
    }
    eventually(lambda: status(cluster).get("namespaces") == 2, "both namespaces name the policy")
    eventually(
        lambda: condition(cluster, "QuotasMiscounted")["status"] == "False", "nothing is miscounted yet"
    )
    cluster.apply(quota)
    cluster.apply({**quota, "metadata": {"name": "gpus", "namespace": "ps-off"}})
    eventually(lambda: condition(cluster, "QuotasMiscounted")["status"] == "True", "the quota is told")
    told = condition(cluster, "QuotasMiscounted")
    assert told["reason"] == "ResourceQuotaMissesWork"
    assert told["message"].startswith("in ps-lab: ResourceQuota ps-lab/gpus counts requests.nvidia.com/gpu")
    cluster.apply(limits)
    cluster.delete("v1", "ResourceQuota", "gpus", "ps-lab")
    eventually(
        lambda: condition(cluster, "QuotasMiscounted")["reason"] == "LimitRangeRestoresName",
        "the default is told",
    )
    cluster.delete("v1", "LimitRange", "defaults", "ps-lab")
    eventually(lambda: condition(cluster, "QuotasMiscounted")["status"] == "False", "all is well")

    def writes() -> float:
        return controller.metric("slicewise_controller_writes_total", kind="SlicingPolicy")

    # What changes nothing is not written: one namespace more that uses another policy, one less that used this.
    # A write is counted a moment after it can be read.
    before = quiet_since(writes, 2.0)
    namespace(cluster, "ps-other", policy="another")
    namespace(cluster, "ps-off")
    eventually(lambda: status(cluster)["namespaces"] == 1, "one namespace has left")
    eventually(lambda: writes() > before, "its write is counted")
    assert writes() == before + 1
