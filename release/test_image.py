"""The image: what is in it, and both servers running from it as a cluster runs them. `make image-test` runs this."""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from e2e.harness.binaries import ensure_control_plane
from e2e.harness.cluster import Cluster
from e2e.harness.container import Launch
from e2e.harness.installation import NAMESPACE, Installation
from e2e.harness.pods import Played
from e2e.harness.processes import free_port
from e2e.test_main_job import CLASSES, main_job, runs_on_what_its_policy_names
from release.image import USER, Image, built
from slicewise import __version__
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.kube.certificates import Authority
from tests.queue_sync.running import KINDS

pytestmark = pytest.mark.timeout(900)  # the first test waits for the build
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The image of this tree, without any shell: nothing in it may need one."""
    with built() as found:
        for name in ("sh", "bash", "dash"):
            (found.files / "usr/bin" / name).unlink(missing_ok=True)
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is mounted, readable for everybody."""
    found = tmp_path / "mounted"
    found.mkdir()
    return found


def run(image: Image, *words: str) -> str:
    done = subprocess.run(image.command(*words), capture_output=True, text=True, check=True)
    return done.stdout


def test_it_says_what_it_is(image: Image) -> None:
    labels = image.inspect("{{.OCIv1.Config.Labels}}")
    assert f"org.opencontainers.image.version:{__version__}" in labels
    assert "org.opencontainers.image.licenses:Apache-2.0" in labels
    assert image.inspect("{{.OCIv1.Config.User}}") == f"{USER}:{USER}"
    assert image.inspect("{{.OCIv1.Config.Entrypoint}}") == "[slicewise]"
    assert run(image, "slicewise", "--version").strip().endswith(__version__)


def test_its_layer_is_small(image: Image) -> None:
    files = [path for path in (image.files / "opt/slicewise").rglob("*") if path.is_file()]
    size = sum(path.lstat().st_size for path in files)
    print(f"{size / MEGABYTE:.0f} MB in {len(files)} files")
    assert size < 120 * MEGABYTE
    assert not [path for path in files if path.name == "pip" or "setuptools" in path.parts]


def test_what_decides_is_compiled_in_it(image: Image) -> None:
    words = "from admission.mutation import mutate; print(mutate.__file__)"
    assert run(image, "python", "-c", words).strip().endswith(".so")


def test_it_carries_a_bill_of_what_is_in_it(image: Image) -> None:
    bill = json.loads((image.files / "opt/slicewise/share/sbom.cdx.json").read_text())
    (library,) = (image.files / "opt/slicewise/lib").glob("python3.*/site-packages")
    installed = {
        path.name.partition("-")[0].lower().replace("_", "-") for path in library.glob("*.dist-info")
    }
    named = {each["name"].lower().replace("_", "-") for each in bill["components"]}
    assert installed - {"slicewise"} == named
    assert bill["metadata"]["component"]["version"] == __version__


def test_nothing_in_it_is_nobodys_to_write(image: Image) -> None:
    writable = [
        path
        for path in (image.files / "opt/slicewise").rglob("*")
        if not path.is_symlink() and (path.stat().st_mode & 0o002 or path.stat().st_uid != 0)
    ]
    assert writable == []


def test_the_command_works_on_a_recorded_cluster(image: Image) -> None:
    assert "mig" in run(image, "slicewise", "demo")


@pytest.mark.parametrize("server", ["webhook", "controller"])
async def test_both_servers_run_as_nobody_on_a_root_that_cannot_be_written(
    image: Image, server: str, folder: Path
) -> None:
    port = free_port()
    arguments = ["--kubeconfig=/mnt/kubeconfig", f"--operations-listen=127.0.0.1:{port}"]
    if server == "webhook":
        pair = Authority(folder).pair("server")
        pair.key.chmod(0o644)
        arguments += [f"--listen=127.0.0.1:{free_port()}", "--drain=0s"]
        arguments += [
            f"--tls-cert-file=/mnt/{pair.cert.name}",
            f"--tls-private-key-file=/mnt/{pair.key.name}",
        ]
    async with ApiServer(KINDS).running() as api:
        kubeconfig(folder, api.url)
        command = image.command("slicewise", server, *arguments, mounted={"/mnt": folder})
        process = await asyncio.create_subprocess_exec(
            *command, stderr=asyncio.subprocess.PIPE, start_new_session=True
        )
        try:
            await ready(port, process)
            assert user(process.pid) == USER
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            _, said = await process.communicate()
    assert b"Traceback" not in said, said.decode()
    assert b"Read-only file system" not in said, said.decode()


async def ready(port: int, process: asyncio.subprocess.Process) -> None:
    """Waits until the server says that it is ready."""

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    async with asyncio.timeout(60):
        while not await asyncio.to_thread(answers):
            assert process.returncode is None, "it ended"
            await asyncio.sleep(0.1)


def user(pid: int) -> int:
    """As whom a process runs."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("Uid:")[2].split()[0])


def test_the_main_job_is_done_by_what_the_chart_installs_run_from_it(image: Image, tmp_path: Path) -> None:
    def from_image(found: Launch, folder: Path) -> Launch:
        """The same container, with what it mounts at /mnt and its account where clients look for it."""
        account = folder / "account"
        account.mkdir(parents=True)
        token = cluster.request(
            "POST", cluster.path("v1", "ServiceAccount", found.account, NAMESPACE, "token"), {}
        )
        (account / "token").write_text(token.body["status"]["token"])
        (account / "ca.crt").write_bytes(base64.b64decode(api["certificate-authority-data"]))
        (account / "namespace").write_text(NAMESPACE)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER)
        host, _, port = api["server"].removeprefix("https://").rpartition(":")
        environment = {
            **{name: value.replace(str(folder), "/mnt") for name, value in found.environment.items()},
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
        }
        for name in ("PATH", "SLICEWISE_KUBECONFIG"):
            del environment[name]
        words = [word.replace(str(folder), "/mnt") for word in found.command]
        mounted = {"/mnt": folder, "/run/secrets/kubernetes.io/serviceaccount": account}
        command = image.command(*words, mounted=mounted, environment=environment)
        return replace(found, command=command, environment={})

    ensure_control_plane()
    with Cluster(kueue=True) as cluster:
        api = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
        pods = Played(cluster, tmp_path, runtime=from_image)
        installation = Installation(cluster, tmp_path, pods=pods)
        installation.start()
        with main_job(cluster):
            programs = [pod.program for pod in pods.kubelet.pods()]
            assert [user(each.pid) for each in programs if each is not None] == [USER] * 4
            for workload_class in CLASSES:
                runs_on_what_its_policy_names(installation, workload_class)
            said = "".join(installation.log_tails().values())
        installation.stop()
    assert "Traceback" not in said, said
    assert "Read-only file system" not in said, said


def test_there_was_no_shell(image: Image) -> None:
    assert shutil.which("sh", path=str(image.files / "usr/bin")) is None
