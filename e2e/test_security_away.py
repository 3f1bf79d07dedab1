"""While the webhook is away: the API server itself tells of what slips through, and the controller says since when."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from e2e.harness import nodes
from e2e.harness.client import Object, Objects, Response, eventually, load
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import CHART, MANIFESTS, NAMESPACE, Installation, namespace
from slicewise.api import keys
from tests.manifests.tools import tool

GPU, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
SPACE, AUDIT, PLAIN = "away-team", "away-audit", "away-plain"
NAME = "backstop.slicewise.io"
API = "admissionregistration.k8s.io/v1"
KINDS = ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy")
TOLD = "nobody decided what it gets"


@pytest.fixture(scope="module")
def slicewise(cluster: AnyCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Slicewise with a self-check every two seconds, and the policies of the API server's own."""
    found = Installation(cluster, tmp_path_factory.mktemp("away"), replicas=1, controller__selfCheck="2s")
    found.start()
    nodes.add(cluster, nodes.exclusive("away-whole"))
    namespace(cluster, SPACE, policy="default")
    namespace(cluster, AUDIT, policy="default", mode="audit")
    namespace(cluster, PLAIN)
    cluster.apply(load(MANIFESTS / "backstop/backstop.yaml"))
    eventually(lambda: "affinity" in tried(cluster, pod()).body["spec"], "the webhook knows its world")
    yield found
    for kind in KINDS:
        cluster.delete(API, kind, NAME)
    found.stop()
    nodes.remove(cluster, "away-whole")


@pytest.fixture
def away(slicewise: Installation) -> Iterator[None]:
    """No replica answers."""
    slicewise.webhook.program.kill()
    yield
    slicewise.webhook.start()
    slicewise.trusted()


def pod(space: str = SPACE, name: str = GPU, amount: int = 1, **fields: Any) -> Object:
    metadata = {"generateName": "away-", "namespace": space, **fields.pop("metadata", {})}
    container = {"name": "main", "image": "none", "resources": {"limits": {name: str(amount)}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container], **fields},
    }


def tried(cluster: AnyCluster, item: Object) -> Response:
    return cluster.try_create(item, dry_run=True)


def told(answer: Response) -> bool:
    return any(TOLD in text for text in (*answer.warnings, answer.message))


def rendered(*settings: str) -> Objects:
    """What the chart gives where the API server serves policies."""
    served = ["--api-versions", f"{API}/ValidatingAdmissionPolicy", "--show-only", "templates/backstop.yaml"]
    command = [tool("helm"), "template", "slicewise", str(CHART), "--namespace", NAMESPACE, *served]
    given = [word for setting in settings for word in ("--set-json", setting)]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def test_the_chart_gives_what_the_component_has() -> None:
    given, based = (
        [(item["kind"], item["metadata"]["name"], item["spec"]) for item in items]
        for items in (rendered(), load(MANIFESTS / "backstop/backstop.yaml"))
    )
    assert given == based, "but for the labels that name a release"
    (binding,) = [item for item in rendered() if item["kind"] == "ValidatingAdmissionPolicyBinding"]
    (names,) = [
        each["values"]
        for each in binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        if each["key"] == keys.NAMESPACE_NAME
    ]
    assert set(names) == keys.SYSTEM_NAMESPACES


def test_its_expressions_fit_what_they_are_about(slicewise: Installation) -> None:
    def checked() -> None:
        found = slicewise.cluster.get(API, "ValidatingAdmissionPolicy", NAME)
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
        assert not found["status"].get("typeChecking", {}).get("expressionWarnings")

    eventually(checked, "the expressions are checked")


SILENT: dict[str, Object] = {
    "a slice by its name": pod(name=SLICE),
    "none": pod(amount=0),
    "an opted-out pod": pod(metadata={"annotations": {keys.REWRITE: "false"}}),
    "a pod that was decided": pod(metadata={"annotations": {keys.DECISION: "{}"}}),
    "a virtual machine's": pod(metadata={"labels": {"kubevirt.io": "virt-launcher"}}),
    "one of a namespace in audit": pod(AUDIT),
    "one of a namespace that has not opted in": pod(PLAIN),
    "one of a system namespace": pod("kube-system"),
}


@pytest.mark.usefixtures("away")
def test_a_pod_that_slipped_through_is_told_of(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    eventually(lambda: told(tried(cluster, pod())), "it is told of")
    assert tried(cluster, pod()).status == 201
    init = pod(initContainers=[{"name": "init", "image": "none", "resources": {"limits": {GPU: "1"}}}])
    init["spec"]["containers"][0].pop("resources")
    assert told(tried(cluster, init))
    for what, item in SILENT.items():
        assert not told(tried(cluster, item)), what


@pytest.mark.usefixtures("away")
def test_a_pod_that_slipped_through_is_refused_where_that_is_wanted(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    cluster.apply(rendered('backstop.actions=["Deny"]'))

    def refused() -> None:
        answer = tried(cluster, pod())
        assert answer.status == 403
        assert told(answer)

    try:
        eventually(refused, "it is refused")
        for what, item in SILENT.items():
            assert tried(cluster, item).status == 201, what
    finally:
        cluster.apply(rendered())
        eventually(lambda: tried(cluster, pod()).status == 201, "it is told of again")


def test_with_a_webhook_there_is_nothing_to_tell(slicewise: Installation) -> None:
    answer = tried(slicewise.cluster, pod())
    assert (answer.status, answer.warnings) == (201, [])
    assert "affinity" in answer.body["spec"]


# --- The self-check -------------------------------------------------------------------------------------------


def works(slicewise: Installation, path: str) -> tuple[float, float] | None:
    """Whether a path works and since when, as the leader says; None when it does not know."""
    text = slicewise.controller.metric
    if not text("slicewise_webhook_path_checked_timestamp_seconds", path=path):
        return None
    return (
        text("slicewise_webhook_path_working", path=path),
        text("slicewise_webhook_path_since_timestamp_seconds", path=path),
    )


def is_so(slicewise: Installation, path: str, number: int, after: float = 0.0) -> Callable[[], bool]:
    def check() -> bool:
        found = works(slicewise, path)
        return found is not None and found[0] == number and found[1] > after

    return check


def test_the_self_check_tells_when_the_webhook_is_away_and_back(slicewise: Installation) -> None:
    cluster, paths = slicewise.cluster, ("mutate", "validate")
    before = {}
    for path in paths:
        eventually(is_so(slicewise, path, 1), f"{path} works")
        before[path] = (works(slicewise, path) or (0, 0))[1]
    slicewise.webhook.program.kill()
    try:
        for path in paths:
            eventually(is_so(slicewise, path, 0, before[path]), f"{path} does not work")
            before[path] = (works(slicewise, path) or (0, 0))[1]
        eventually(slicewise.controller.is_ready, "quota is kept all the same")
        eventually(lambda: said(cluster, "WebhookNotReached"), "people are told")
    finally:
        slicewise.webhook.start()
    for path in paths:
        eventually(is_so(slicewise, path, 1, before[path]), f"{path} works again")
    eventually(lambda: said(cluster, "WebhookReached"), "people are told that it is over")


def said(cluster: AnyCluster, reason: str) -> bool:
    events = cluster.list("events.k8s.io/v1", "Event", "default")
    return {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"} == {
        event["regarding"]["kind"] for event in events if event["reason"] == reason
    }


def test_the_self_check_leaves_nothing_and_counts_as_nobodys_refusal(slicewise: Installation) -> None:
    def reviews(outcome: str, **labels: str) -> float:
        return slicewise.webhook.metric("slicewise_admission_reviews_total", outcome=outcome, **labels)

    def counts(outcome: str) -> list[float]:
        """Of the self-check's two objects."""
        return [reviews(outcome, kind=kind) for kind in ("PodTemplate", "QuotaPlan.slicewise.io")]

    probed = {path: reviews("probed", path=path) for path in ("/mutate", "/validate")}
    refused = counts("refused")
    eventually(
        lambda: all(reviews("probed", path=path) > before for path, before in probed.items()),
        "the webhook was asked",
    )
    assert counts("refused") == refused
    assert slicewise.cluster.list("v1", "PodTemplate", SPACE) == []
    assert slicewise.cluster.find("slicewise.io/v1alpha1", "QuotaPlan", "slicewise-probe") is None
