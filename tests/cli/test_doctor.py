"""`slicewise doctor` as people and scripts use it, and how it reads a live cluster."""

import json
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.api import keys
from slicewise.api.errors import BadInput
from slicewise.cli import main
from slicewise.cli.doctor import Severity, findings, live
from slicewise.cli.doctor.findings import Finding, ordered
from slicewise.cli.doctor.live import Reading
from slicewise.cli.inputs import READ_ALWAYS, READ_QUEUES, READ_SETUP, READ_WORK
from slicewise.kube.client import Client
from slicewise.kube.errors import ForbiddenError, NotFoundError
from slicewise.kube.transport import Response
from slicewise.kube.yaml import dump
from tests.cli.test_doctor_patients import NOW, Object, healthy, namespace, policy, thing, volcano_queue
from tests.queue_sync.scenes import exclusive, sliced


def test_what_matters_most_comes_first() -> None:
    codes = ["PolicyUnused", "WebhookOrder", "NameNotOffered", "CABundleMissing"]
    found = ordered(Finding(code, "Kind", "name", "sentence", "fix") for code in codes)
    assert [each.code for each in found] == [
        "CABundleMissing",
        "WebhookOrder",
        "NameNotOffered",
        "PolicyUnused",
    ]
    assert [each.severity for each in found] == [
        Severity.ERROR,
        Severity.ERROR,
        Severity.WARNING,
        Severity.NOTE,
    ]


class TestTheCommand:
    def run(self, folder: Path, *objects: Object, output: str = "json") -> int:
        (folder / "cluster.yaml").write_text(dump(list(objects)))
        return main(["doctor", "--snapshot", str(folder / "cluster.yaml"), "-o", output])

    def test_finds_a_queue_that_no_plan_wants_in_files_without_any_queue(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        spec = {"engine": "kueue", "queues": [{"name": "team-a", "namespaces": {}}]}
        plan = thing("slicewise.io/v1alpha1", "QuotaPlan", "research", spec=spec)
        space = namespace("lab", policy="default", engine="kueue", queue="taem-a")
        assert self.run(tmp_path, exclusive("n"), plan, space) == 1
        found = {each["code"]: each for each in json.loads(capsys.readouterr().out)["findings"]}
        assert "(there are: team-a)" in found["QueueMissing"]["fix"]

    def test_exits_1_for_a_warning_and_prints_one_document(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(tmp_path, exclusive("n"), namespace("typo", mode="audit")) == 1
        document = json.loads(capsys.readouterr().out)
        assert document["findings"] == [
            {
                "severity": "warning",
                "code": "LabelsWithoutPolicy",
                "kind": "Namespace",
                "namespace": "",
                "name": "typo",
                "sentence": "it has slicewise.io/mode, but no slicewise.io/policy, so nothing is done",
                "fix": "Label it slicewise.io/policy=default to opt in, or remove the others.",
            }
        ]
        assert any("no MutatingWebhookConfiguration was read" in each for each in document["unseen"])

    def test_exits_0_where_there_are_only_notes(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(tmp_path, namespace("plain"), policy("spare"), output="table") == 0
        assert "NOTE    PolicyUnused: SlicingPolicy spare" in capsys.readouterr().out

    def test_exits_2_for_a_file_that_is_none(self, tmp_path: Path) -> None:
        assert main(["doctor", "--snapshot", str(tmp_path / "nowhere.yaml")]) == 2

    def test_an_empty_typed_list_says_that_there_is_none(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        empty = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfigurationList",
            "items": [],
        }
        assert self.run(tmp_path, empty, sliced("n")) == 1
        assert [each["code"] for each in json.loads(capsys.readouterr().out)["findings"]] == [
            "WebhookMissing"
        ]

    @pytest.mark.parametrize(("space", "missing"), [("team-a", False), (keys.OWN_NAMESPACE, True)])
    def test_deployments_of_others_say_nothing_of_ours(
        self,
        space: str,
        missing: bool,  # noqa: FBT001  a column of the table
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        web = thing("apps/v1", "Deployment", "web", space, spec={"template": {"spec": {"containers": []}}})
        self.run(tmp_path, web, sliced("n"))
        document = json.loads(capsys.readouterr().out)
        assert ("DeploymentMissing" in {each["code"] for each in document["findings"]}) is missing
        assert any("no Deployment was read" in each for each in document["unseen"]) is not missing


class Cluster:
    """A server as far as doctor uses one: lists in pages, and says who may read what."""

    def __init__(self, answers: dict[str, list[Object]], forbidden: str = "", *, told: bool = True) -> None:
        self.answers, self.forbidden, self.told = answers, forbidden, told
        self.reviewed: list[Object] = []

    async def create(self, path: str, body: Object) -> Response:
        assert path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        self.reviewed.append(body["spec"]["resourceAttributes"])
        if not self.told:
            raise ForbiddenError(403, "Forbidden", "reviews are not for you")
        allowed = body["spec"]["resourceAttributes"]["resource"] != self.forbidden
        return Response(201, {}, msgspec.json.encode({"status": {"allowed": allowed}}))

    async def get(self, path: str, query: dict[str, str]) -> Response:
        if path.endswith(self.forbidden or "?"):
            raise ForbiddenError(403, "Forbidden", "no")
        if path not in self.answers:
            raise NotFoundError(404, "NotFound", "no such kind")
        items = self.answers[path]
        at = int(query.get("continue", "0"))
        more = {"continue": str(at + 1)} if at + 1 < len(items) else {}
        return Response(200, {}, msgspec.json.encode({"metadata": more, "items": items[at : at + 1]}))


async def read(cluster: Cluster) -> Reading:
    reading = Reading(cast("Client", cluster))
    await reading.everything()
    return reading


class TestALiveCluster:
    NODES: Final = {"/api/v1/nodes": [exclusive("one"), exclusive("two")]}

    async def test_reads_every_page_and_what_is_not_served_is_none(self) -> None:
        reading = await read(Cluster(self.NODES))
        patient = reading.patient(NOW)
        assert [each.name for each in patient.snapshot.nodes] == ["one", "two"]
        assert patient.saw("ClusterQueue.kueue.x-k8s.io")
        assert not patient.told

    @pytest.mark.parametrize("told", [True, False])
    async def test_what_the_caller_may_not_list_is_a_note_and_left_out(self, told: bool) -> None:  # noqa: FBT001
        reading = await read(Cluster(self.NODES, "deployments", told=told))
        (finding,) = reading.told
        assert finding.code == "CallerMayNotRead"
        assert "may not list deployments.apps, so" in finding.sentence
        assert "Deployment.apps" not in reading.seen

    async def test_policies_that_may_not_be_read_are_not_called_missing(self) -> None:
        answers = self.NODES | {"/api/v1/namespaces": [namespace("team-a", policy="gold")]}
        patient = (await read(Cluster(answers, "slicingpolicies"))).patient(NOW)
        assert "PolicyMissing" not in {each.code for each in findings(patient)}

    async def test_config_maps_are_read_only_where_operators_keep_theirs(self) -> None:
        names = {"/api/v1/namespaces": [namespace("gpu-operator"), namespace("team-a")]}
        cluster = Cluster(self.NODES | names)
        await read(cluster)
        assert [a["namespace"] for a in cluster.reviewed if a["resource"] == "configmaps"] == ["gpu-operator"]

    @pytest.mark.parametrize(("forbidden", "status"), [("deployments", 3), ("", 0)])
    async def test_what_may_not_be_read_never_ends_green(
        self, forbidden: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = healthy()
        found.settle()
        answers: dict[str, list[Object]] = {}
        for path, api_version, kind in (*READ_ALWAYS, *READ_QUEUES, *READ_WORK, *READ_SETUP):
            of = (api_version, kind)
            answers[path] = [o for o in found.objects.values() if (o["apiVersion"], o["kind"]) == of]
        patient = (await read(Cluster(answers, forbidden))).patient(NOW)
        monkeypatch.setattr(live, "examine", lambda *_: patient)
        assert main(["doctor", "-o", "json"]) == status
        document = json.loads(capsys.readouterr().out)
        assert document["forbidden"] == (["Deployment.apps"] if forbidden else [])

    def test_a_kubeconfig_that_is_none_is_bad_input(self, tmp_path: Path) -> None:
        assert main(["doctor", "--kubeconfig", str(tmp_path / "none")]) == 2


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place within a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


@cache
def settled() -> dict[str, Object]:
    patient = healthy()
    patient.add(work("team-a"), parent())
    patient.settle()
    return patient.objects


def work(queue: str) -> Object:
    container = {"name": "c", "resources": {"requests": {"nvidia.com/gpu": "1"}}}
    sets = [{"name": "main", "template": {"spec": {"containers": [container]}}}]
    spec = {"queueName": queue, "podSets": sets}
    return thing("kueue.x-k8s.io/v1beta2", "Workload", "w", "team-a", spec=spec)


def parent() -> Object:
    return volcano_queue("top", deserved={"nvidia.com/gpu": "8"}, capability={"nvidia.com/gpu": "8"})


@given(st.data())
def test_no_object_however_broken_is_more_than_findings_or_bad_input(data: st.DataObject) -> None:
    patient = healthy()
    patient.objects = dict(settled())
    item = deepcopy(patient.objects[data.draw(st.sampled_from(sorted(patient.objects)))])
    path = data.draw(st.sampled_from([p for p in paths(item) if p not in {("kind",), ("apiVersion",)}]))
    holder = item
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = data.draw(st.sampled_from([None, "x", 7, -1, True, [], [1], {}, {"a": 1}]))
    patient.objects["broken"] = item
    with suppress(BadInput):
        patient.found()
