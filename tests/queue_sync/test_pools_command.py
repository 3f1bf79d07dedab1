"""`slicewise pools` and `plan` where the GPU operator's ConfigMaps are known, from a snapshot or a live cluster."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from slicewise.cli.main import main
from slicewise.kube.yaml import dump
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.kube.wire import Fault
from tests.queue_sync.running import KINDS, World
from tests.queue_sync.scenes import MIXED, ONE, mixed
from tests.queue_sync.test_node_config_drift import MIG_FILE, SEVEN, SHARES, asked


def config_map(name: str, text: str) -> dict[str, object]:
    metadata = {"name": name, "namespace": "gpu-operator"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config.yaml": text}}


PLAN = {
    "apiVersion": "slicewise.io/v1alpha1",
    "kind": "QuotaPlan",
    "metadata": {"name": "research"},
    "spec": {"engine": "kueue", "queues": [{"name": "team-a"}]},
}


@pytest.mark.parametrize("known", [False, True], ids=["without the files", "with the files"])
def test_a_node_on_its_way_is_unsettled_where_the_files_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, known: bool
) -> None:
    items = [asked(mixed("n1", SEVEN), "research"), mixed("n2", SEVEN), PLAN]
    items += [config_map("mig", MIG_FILE), config_map("broken", "mig-configs: 1")] if known else []
    snapshot = tmp_path / "cluster.yaml"
    snapshot.write_text(dump(items))
    assert main(["pools", "--snapshot", str(snapshot), "-o", "json"]) == 0
    said = capsys.readouterr()
    (pool,) = json.loads(said.out)
    assert pool["resources"] == {ONE: 7 if known else 14}
    assert [each["node"] for each in pool["unsettled"]] == (["n1"] if known else [])
    assert ("ConfigMap broken: config.yaml: this is not a MIG manager configuration" in said.err) == known
    assert main(["plan", "--snapshot", str(snapshot), "-o", "json"]) == 0
    queues = [each for each in json.loads(capsys.readouterr().out)["items"] if each["kind"] == "ClusterQueue"]
    (flavor,) = queues[0]["spec"]["resourceGroups"][0]["flavors"]
    assert flavor == {"name": MIXED, "resources": [{"name": ONE, "nominalQuota": "7" if known else "14"}]}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ApiServer(KINDS).running() as server:
        yield World(server)


async def run(world: World, folder: Path, *words: str) -> int:
    """The command on the live cluster, in a thread beside the server."""
    return await asyncio.to_thread(main, [*words, "--kubeconfig", kubeconfig(folder, world.server.url)])


async def test_a_live_cluster_has_the_files_in_the_operators_namespace(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.node(asked(mixed("n1", SEVEN), "research"))
    world.file("mig", config=MIG_FILE)
    assert await run(world, tmp_path, "pools", "-o", "json") == 0
    said = capsys.readouterr()
    (pool,) = json.loads(said.out)
    assert [each["node"] for each in pool["unsettled"]] == ["n1"]
    assert said.err == ""


async def test_files_that_may_not_be_read_or_are_not_there_are_a_note(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.node(asked(mixed("n1", SEVEN), "research"))
    path = "/api/v1/namespaces/gpu-operator/configmaps"
    unknown = f"what is planned for nodes is not known: {path}: "
    world.file("ca", bundle="a certificate")
    assert await run(world, tmp_path, "pools", "-o", "json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)[0]["resources"] == {ONE: 7}
    assert said.err.startswith(unknown + "nothing there is such a file; say where its files are")
    body = b'{"kind":"Status","code":403,"reason":"Forbidden","message":"configmaps is forbidden"}'
    world.server.faults.append(Fault("GET", path, status=403, body=body))
    assert await run(world, tmp_path, "pools") == 0
    assert capsys.readouterr().err.startswith(unknown + "configmaps is forbidden; ")
    assert await run(world, tmp_path, "pools", "--gpu-operator-namespace", "") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("spaces", "words", "told"),
    [
        (["default"], (), False),
        (["default", "gpu-operator"], (), True),
        (["default"], ("--gpu-operator-namespace", "nvidia"), True),
    ],
    ids=["no-operator", "an-operator-without-files", "a-namespace-that-somebody-named"],
)
async def test_where_nobody_installed_the_operator_nothing_is_said_of_its_files(
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spaces: list[str],
    words: tuple[str, ...],
    told: bool,  # noqa: FBT001  a case
) -> None:
    for name in spaces:
        world.namespace(name)
    assert await run(world, tmp_path, "pools", *words) == 0
    assert ("what is planned for nodes is not known" in capsys.readouterr().err) is told


async def test_a_snapshot_keeps_the_files_that_plan_and_nothing_else_of_config_maps(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.node(asked(mixed("n1", SEVEN), "research"))
    hooked = "version: v1\nwebhook: https://example.org/hush\n"
    world.file(
        "mig", {"owner": "ada"}, **{"config.yaml": MIG_FILE, "mail": "ada@example.org", "hook": hooked}
    )
    world.file("shares", ten=SHARES)
    world.file("ca", bundle="a certificate")
    assert await run(world, tmp_path, "snapshot") == 0
    items = yaml.safe_load(capsys.readouterr().out)["items"]
    kept = {each["metadata"]["name"]: each for each in items if each["kind"] == "ConfigMap"}
    assert {name: each["data"] for name, each in kept.items()} == {
        "mig": {"config.yaml": MIG_FILE},
        "shares": {"ten": SHARES},
    }
    assert kept["mig"]["metadata"] == {"name": "mig", "namespace": "gpu-operator"}
