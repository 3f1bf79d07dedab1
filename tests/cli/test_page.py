"""`slicewise page`: it listens on this machine alone, and shows what the other commands print."""

import json
import socket
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from queue_sync.page.model import view
from slicewise.api.errors import BadInput
from slicewise.cli.main import main
from slicewise.cli.page import Reader, arguments
from tests.cli.test_command import CLUSTER, job

POD = """
---
apiVersion: v1
kind: Pod
metadata: {name: old, namespace: team-a}
spec: {nodeName: h1, containers: [{name: main, resources: {limits: {nvidia.com/gpu: 1, nvidia.com/mig-1g.10gb: 2}}}]}
"""


@pytest.fixture
def snapshot(tmp_path: Path) -> str:
    file = tmp_path / "cluster.yaml"
    file.write_text(CLUSTER + POD)
    return str(file)


def options(*words: str) -> Namespace:
    parser = ArgumentParser()
    arguments(parser)
    return parser.parse_args(words)


async def test_it_shows_what_the_other_commands_print(
    snapshot: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = view(await Reader(options("--snapshot", snapshot)).moment())

    def printed(command: str) -> Any:
        main([command, "--snapshot", snapshot, "-o", "json"])
        return json.loads(capsys.readouterr().out)

    pools = {each["name"]: each for each in printed("pools")}
    assert {f"pool/{name}" for name in pools} == {key for key in shown if key.startswith("pool/")}
    for name, pool in pools.items():
        drawn = shown[f"pool/{name}"]
        assert drawn["nodes"] == len(pool["nodes"])
        assert drawn["unsettled"] == pool["unsettled"]
        counted = {each["name"]: each["counted"] for each in drawn["resources"] if each["counted"]}
        assert counted == pool["resources"]

    wanted: Counter[tuple[str, str, str]] = Counter()
    for item in printed("plan")["items"]:
        for group in item["spec"].get("resourceGroups", ()):
            for flavor in group["flavors"]:
                for each in flavor["resources"]:
                    wanted[item["metadata"]["name"], flavor["name"], each["name"]] = int(each["nominalQuota"])
    assert +wanted == {
        (queue["name"], each["flavor"], each["resource"]): each["units"]["wanted"]
        for queue in shown["plan/research"]["queues"]
        for each in queue["numbers"]
    }
    drift = printed("drift")
    assert (
        [each["sentence"] for each in shown["drift"]["first"]] == [each["sentence"] for each in drift] != []
    )
    doctor = printed("doctor")
    assert (shown["doctor"]["first"], shown["cluster"]["unseen"]) == (doctor["findings"], doctor["unseen"])


async def test_pods_show_what_is_used(snapshot: str) -> None:
    shown = view(await Reader(options("--snapshot", snapshot)).moment())
    used = {each["name"]: each["used"] for each in shown["pool/h100-80gb-mig-mixed"]["resources"]}
    assert used["nvidia.com/mig-1g.10gb"] == 2


async def test_what_is_pasted_is_explained_as_by_the_command(
    snapshot: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.dumps(job())
    (tmp_path / "job.yaml").write_text(manifest)
    main(["explain", "-f", str(tmp_path / "job.yaml"), "--snapshot", snapshot])
    reader = Reader(options("--snapshot", snapshot))
    with pytest.raises(BadInput, match="the cluster is not read yet; try again in a moment"):
        await reader.explain(manifest, "default")
    await reader.moment()
    assert await reader.explain(manifest, "default") + "\n" == capsys.readouterr().out
    with pytest.raises(
        BadInput, match="manifest: document 1: is no object; write a Kubernetes object or a List"
    ):
        await reader.explain("- a", "default")


@pytest.mark.parametrize("address", ["0.0.0.0:8090", "10.0.0.1:8090", "localhost", "127.0.0.1:x", ":8090"])
def test_it_listens_on_this_machine_alone(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["page", "--listen", address])
    assert ended.value.code == 2
    assert "is no port of this machine: the page asks nobody who they are; write 127.0.0.1:8090" in (
        capsys.readouterr().err
    )


def test_a_port_that_is_taken_is_a_sentence(snapshot: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["page", "--snapshot", snapshot, "--listen", f"127.0.0.1:{port}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"slicewise page: cannot listen on 127.0.0.1:{port}: Address already in use")
    assert told.endswith("; name another port with --listen\n")


def test_a_file_that_is_not_there_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["page", "--snapshot", "nowhere.yaml"]) == 2
    assert "nowhere.yaml: cannot be read" in capsys.readouterr().err
