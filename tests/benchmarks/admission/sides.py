"""The three servers on one core, and the load generator that is run against each from another."""

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from admission import mutating
from admission.tls.x509 import make_authority, make_leaf
from e2e.harness.processes import Program, free_port
from slicewise.api import keys
from tests.benchmarks.admission import reviews
from tests.benchmarks.admission.programs import programs
from tests.benchmarks.admission.reviews import Case
from tests.benchmarks.admission.world import NAMESPACE, world

OURS: Final = "slicewise"
GO: Final = "go"
USUAL: Final = "usual"

_ROOT: Final = Path(__file__).parents[3]
_CONNECTIONS: Final = 16
_CORES: Final = sorted(os.sched_getaffinity(0))
SERVER_CORE: Final = _CORES[0]
LOAD_CORE: Final = _CORES[-1]


class Measured(msgspec.Struct, rename="camel"):
    """What one run of the load generator found."""

    seconds: float
    answered: int
    failed: int
    unanswered: int
    first_error: str
    cpu_seconds: float
    latency_milliseconds: dict[str, float]
    go: str

    @property
    def rate(self) -> float:
        """Reviews answered in a second."""
        return self.answered / self.seconds

    @property
    def microseconds(self) -> float:
        """Processor time that the server used for one review."""
        return 1e6 * self.cpu_seconds / max(1, self.answered)


@dataclass
class Side:
    """One server that runs."""

    name: str
    program: Program
    url: str
    folder: Path
    load: Path

    def ask(self, body: bytes) -> bytes:
        """Sends one review."""
        trust = ssl.create_default_context(cafile=self.folder / "authority.pem")
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, context=trust, timeout=30) as response:  # noqa: S310  loopback
            answer: bytes = response.read()
        return answer

    def measure(self, bodies: Path, seconds: float, rate: float = 0) -> Measured:
        """Sends the reviews of a folder for so long; `rate` a second, or as many as get answered."""
        with pinned(LOAD_CORE):
            done = subprocess.run(
                [
                    str(self.load),
                    f"-url={self.url}",
                    f"-authority={self.folder / 'authority.pem'}",
                    f"-bodies={bodies}/*.json",
                    f"-connections={_CONNECTIONS}",
                    f"-for={seconds}s",
                    f"-rate={rate}",
                    f"-pid={self.program.pid}",
                ],
                env=os.environ | {"GOMAXPROCS": "1"},
                stdout=subprocess.PIPE,
                timeout=seconds + 60,
                check=True,
            )
        return msgspec.json.decode(done.stdout, type=Measured)

    def memory(self) -> float:
        """The most memory that it ever held, in MB."""
        status = Path(f"/proc/{self.program.pid}/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1000


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Has the programs that are started meanwhile run on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def sides(interpreter: str = sys.executable, tree: Path = _ROOT) -> Iterator[tuple[Side, ...]]:
    """Starts the three servers with the same certificate; they end with the block.

    Args:
        interpreter: the Python of the two that need one, of this one's version, whose packages it is given.
        tree: where the packages of Slicewise are, perhaps compiled.
    """
    built = programs()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slicewise-benchmark-")))
        now = datetime.now(UTC)
        authority = make_authority(now)
        leaf = make_leaf(authority, ["localhost"], now)
        certificate, key, answers = folder / "leaf.pem", folder / "leaf.key", folder / "answers.json"
        (folder / "authority.pem").write_text(authority.certificate.pem, encoding="ascii")
        certificate.write_text(leaf.pem, encoding="ascii")
        key.write_text(leaf.key, encoding="ascii")
        answers.write_text(json.dumps(_answers()), encoding="utf-8")
        package = "tests.benchmarks.admission"
        started = []
        for name in (OURS, GO, USUAL):
            address = f"127.0.0.1:{free_port()}"
            files = [str(certificate), str(key)]
            command = {
                OURS: [interpreter, "-m", f"{package}.ours", address, *files],
                USUAL: [interpreter, "-m", f"{package}.usual", address, *files, str(answers)],
                GO: [
                    str(built.program("webhook")),
                    f"-listen={address}",
                    f"-certificate={certificate}",
                    f"-key={key}",
                    f"-answers={answers}",
                ],
            }[name]
            environment = {
                "GOMAXPROCS": "1",
                "PYTHONPATH": os.pathsep.join((str(tree), str(_ROOT), sysconfig.get_path("purelib"))),
                "PYTHONSAFEPATH": "1",
            }
            program = Program(name, command, folder, environment)
            stack.callback(program.kill)
            with pinned(SERVER_CORE):
                program.start()
            port = int(address.rpartition(":")[2])
            program.wait_ready(partial(_listens, port), timeout=30)
            url = f"https://localhost:{port}/mutate?timeout=3s"
            started.append(Side(name, program, url, folder, built.program("load")))
        yield tuple(started)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        status: int = probe.connect_ex(("127.0.0.1", port))
    return status == 0


def _answers() -> dict[str, Any]:
    """What each class gets: asked of the webhook beforehand, for the servers that decide nothing themselves."""
    here = world()
    classes = {}
    for work in ("inference", "training"):
        answer = mutating.answer(reviews.review("Pod", "2 kB", gpus=1, work=work), here)
        patch = json.loads(base64.b64decode(json.loads(answer.body)["response"]["patch"]))
        decision = json.loads(next(each["value"][keys.DECISION] for each in patch if _annotates(each)))
        to = next(each["to"] for each in decision["containers"].values())
        classes[work] = {**decision, "containers": {}, "to": to}
    return {"namespaces": {NAMESPACE: True}, "default": "training", "classes": classes}


def _annotates(operation: dict[str, str]) -> bool:
    return operation["op"] == "add" and operation["path"] == "/metadata/annotations"


def write(case: Case, folder: Path) -> Path:
    """Writes the reviews of a case to files, for the load generator."""
    folder.mkdir()
    for index, body in enumerate(case.bodies):
        (folder / f"{index}.json").write_bytes(body)
    return folder
