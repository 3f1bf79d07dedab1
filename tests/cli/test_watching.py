"""`--watch`: what is printed again when a file or the cluster changes, and how it ends."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from slicewise.cli import main
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.kube.wire import Fault

NODES = "/api/v1/nodes"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
COLLECTIONS = {
    NODES: "Node",
    "/api/v1/namespaces": "Namespace",
    "/apis/slicewise.io/v1alpha1/slicingpolicies": "SlicingPolicy",
    "/apis/slicewise.io/v1alpha1/quotaplans": "QuotaPlan",
    SLICES: "ResourceSlice",
    "/api/v1/configmaps": "ConfigMap",
}
PLAN = """
apiVersion: slicewise.io/v1alpha1
kind: QuotaPlan
metadata: {name: research}
spec: {engine: kueue, queues: [{name: team-a, share: 1}]}
"""


def node(gpus: int) -> dict[str, Any]:
    amounts = {"nvidia.com/gpu": str(gpus)}
    labels = {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.count": str(gpus)}
    return {
        "metadata": {"labels": labels | {"nvidia.com/gpu.replicas": "1"}},
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def written(gpus: int, more: str = PLAN) -> str:
    labels = (
        f"{{nvidia.com/gpu.product: NVIDIA-L4, nvidia.com/gpu.count: '{gpus}', nvidia.com/gpu.replicas: '1'}}"
    )
    status = (
        f"{{capacity: {{nvidia.com/gpu: '{gpus}'}}, allocatable: {{nvidia.com/gpu: '{gpus}'}}, "
        "conditions: [{type: Ready, status: 'True'}]}"
    )
    return f"{{apiVersion: v1, kind: Node, metadata: {{name: a, labels: {labels}}}, status: {status}}}\n---{more}"


@pytest.fixture
def changing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has a file say other things, one after the other, and Ctrl-C pressed after the last."""
    monkeypatch.chdir(tmp_path)

    def prepare(first: str, *texts: str | None) -> None:
        file, left = tmp_path / "cluster.yaml", iter(texts)
        file.write_text(first)

        def sleep(_: float) -> None:
            text = next(left, "")
            if text == "":
                raise KeyboardInterrupt
            if text is None:
                file.unlink()
            else:
                file.write_text(text)
                at = file.stat().st_mtime_ns + 10**9
                os.utime(file, ns=(at, at))

        monkeypatch.setattr("time.sleep", sleep)

    return prepare


def test_a_file_that_changes_is_printed_again_and_what_is_wrong_with_it_is_a_sentence(
    changing: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    changing(written(4), written(4, f"\n---{PLAN}"), "kind: [", None, written(2))
    assert main(["pools", "-w", "--snapshot", "cluster.yaml"]) == 130
    out, err = capsys.readouterr()
    offers = [line.split()[5] for line in out.splitlines() if line.startswith("l4-exclusive")]
    # The second text says the same of pools, so it is not printed.
    assert offers == ["nvidia.com/gpu=4", "nvidia.com/gpu=2"]
    broken, gone = err.splitlines()
    assert broken.startswith("cluster.yaml: is not YAML")
    assert gone.startswith("cluster.yaml: cannot be read")
    assert "\033" not in out


@pytest.mark.parametrize(("output", "between"), [("yaml", 1), ("name", 0)])
def test_documents_are_kept_apart(
    output: str, between: int, changing: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    changing(written(4), written(2))
    assert main(["pools", "-w", "-o", output, "--snapshot", "cluster.yaml"]) == 130
    assert capsys.readouterr().out.splitlines().count("---") == between


def test_a_plan_that_becomes_refused_is_told_with_what_is_left_of_it(
    changing: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    second = PLAN.replace("research", "second").replace("team-a", "team-b")
    changing(written(4), written(2), written(2, f"{PLAN}---{second}"))
    assert main(["plan", "--watch", "--snapshot", "cluster.yaml"]) == 130
    out, err = capsys.readouterr()
    assert [word for line in out.splitlines() for word in line.split() if "nvidia.com/gpu=" in word][:2] == [
        "nvidia.com/gpu=4",
        "nvidia.com/gpu=2",
    ]
    assert "refused: " in err


def test_standard_input_cannot_be_watched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pools", "-w", "--snapshot", "-"]) == 2
    assert capsys.readouterr().err == (
        "slicewise pools: standard input does not change, so it cannot be watched; put it into a file\n"
    )


@pytest.mark.parametrize("command", [("pools",), ("pools", "-w"), ("plan", "-w")], ids=" ".join)
def test_a_file_that_may_not_be_looked_at_is_a_sentence(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    name = "n" * 300
    assert main([*command, "--snapshot", name]) == 2
    assert capsys.readouterr().err == (
        f"slicewise {command[0]}: {name}: cannot be read: File name too long; name a file that is there\n"
    )


@asynccontextmanager
async def watching(server: ApiServer, folder: Path, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    file = kubeconfig(folder, server.url)
    command = (sys.executable, "-m", "slicewise", *words, "-w", "--kubeconfig", file)
    process = await asyncio.create_subprocess_exec(
        *command,
        "--gpu-operator-namespace",
        "",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def until(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while text not in (line := (await process.stdout.readline()).decode()):
            assert line, f"it ended without {text}"


async def test_a_live_cluster_is_followed_until_ctrl_c(tmp_path: Path) -> None:
    async with ApiServer(COLLECTIONS).running() as server:
        server.put(NODES, "a", **node(4))
        async with watching(server, tmp_path, "pools") as process:
            await until(process, "nvidia.com/gpu=4")
            lists = server.count("GET", NODES, watch=False)
            server.put(NODES, "a", **node(2))
            await until(process, "nvidia.com/gpu=2")
            server.remove(NODES, "a")
            await until(process, "No node offers an NVIDIA GPU.")
            # Each change came by a watch: nothing was listed anew but once, to begin with it.
            assert server.count("GET", NODES, watch=False) <= lists + 2
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
            assert (process.returncode, out, err) == (130, b"", b"")


async def test_what_the_caller_may_not_read_of_dra_is_told_once_and_the_rest_is_followed(
    tmp_path: Path,
) -> None:
    async with ApiServer(COLLECTIONS).running() as server:
        server.faults.append(Fault("GET", SLICES, status=403, times=9))
        server.put(NODES, "a", **node(4))
        async with watching(server, tmp_path, "pools") as process:
            await until(process, "nvidia.com/gpu=4")
            server.put(NODES, "a", **node(2))
            await until(process, "nvidia.com/gpu=2")
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
            assert err.decode().count("what DRA publishes is not known") == 1
