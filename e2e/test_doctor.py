"""`slicewise doctor` on a real cluster: nothing to say of a healthy one, and what is really broken is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import pytest

from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import Cluster
from e2e.harness.installation import CONFIGURATION, Installation, namespace
from e2e.harness.loopback import WEBHOOK_KINDS
from slicewise.cli.main import main

SPACE: Final = "team-doctor"


@pytest.fixture(scope="module")
def slicewise(programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:  # noqa: ARG001
    """Installed on a cluster of its own, with a node of each kind, a plan, and a namespace that queues."""
    with Cluster(kueue=True) as cluster:
        found = Installation(cluster, tmp_path_factory.mktemp("slicewise"))
        found.start()
        namespace(cluster, SPACE, policy="default", queue="main")
        nodes.add(
            cluster,
            nodes.mig_mixed("mig", {"1g.10gb": 7}, gpus=1),
            nodes.time_slicing("shares", 10),
            nodes.mps("mps", 8),
            nodes.exclusive("whole"),
        )
        labels = {"matchLabels": {"kubernetes.io/metadata.name": SPACE}}
        cluster.apply(
            {
                "apiVersion": "slicewise.io/v1alpha1",
                "kind": "QuotaPlan",
                "metadata": {"name": "main"},
                "spec": {"engine": "kueue", "queues": [{"name": "main", "namespaces": labels}]},
            }
        )
        yield found
        found.stop()


@pytest.fixture
def doctor(slicewise: Installation, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(slicewise, capsys)


class Doctor:
    """The command against the API server, as the administrator."""

    def __init__(self, slicewise: Installation, capsys: pytest.CaptureFixture[str]) -> None:
        self._kubeconfig, self._capsys = str(slicewise.cluster.kubeconfig), capsys

    def looks(self) -> tuple[int, list[Object]]:
        """Exit status, and what was found."""
        status = main(["doctor", "--kubeconfig", self._kubeconfig, "-o", "json"])
        found: list[Object] = json.loads(self._capsys.readouterr().out)["findings"]
        return status, found

    def finds_nothing(self) -> bool:
        assert self.looks() == (0, [])
        return True


def test_a_healthy_cluster_gives_nothing_to_say(doctor: Doctor) -> None:
    eventually(doctor.finds_nothing, "the quotas stand, and all is well")


def test_what_is_broken_is_named_and_mended_it_is_well_again(slicewise: Installation, doctor: Doctor) -> None:
    eventually(doctor.finds_nothing, "all is well")
    cluster = slicewise.cluster
    slicewise.webhook.program.kill()  # which would put the bundle back
    for kind in WEBHOOK_KINDS:
        path = cluster.path("admissionregistration.k8s.io/v1", kind, CONFIGURATION)
        entries = cluster.request("GET", path).body["webhooks"]
        strip = [
            {"op": "remove", "path": f"/webhooks/{n}/clientConfig/caBundle"} for n in range(len(entries))
        ]
        assert cluster.request("PATCH", path, strip, "application/json-patch+json").status == 200
    namespace(cluster, SPACE, policy="gone", queue="main")

    def all_are_named() -> bool:
        status, found = doctor.looks()
        errors = [each for each in found if each["severity"] == "error"]
        assert {(each["code"], each["kind"], each["name"]) for each in errors} == {
            *(("CABundleMissing", kind, CONFIGURATION) for kind in WEBHOOK_KINDS),
            ("DeploymentUnavailable", "Deployment", "slicewise-webhook"),
            ("PolicyMissing", "Namespace", SPACE),
        }
        return status == 1

    eventually(all_are_named, "each of the three faults is named")
    slicewise.webhook.start()
    namespace(cluster, SPACE, policy="default", queue="main")
    eventually(doctor.finds_nothing, "all is well again")
