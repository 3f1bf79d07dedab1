"""Starts a cluster's programs, knows why one failed, and never leaves one behind.

Every program runs under ``supervise.py``, whose docstring says how nothing survives a test run that is killed. What a
program writes goes to ``NAME.log`` in the cluster's folder, and its process id to ``NAME.pid``.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import ipaddress
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from e2e.harness.errors import ClusterError

SUPERVISOR = Path(__file__).with_name("supervise.py")
TAIL = 25
WIDTH = 500
# Below the range from which Linux takes the source ports of outgoing connections: a port found free stays free.
PORTS = range(20000, 32000)

_taken: set[int] = set()
_lock = threading.Lock()


@functools.cache
def _reservations() -> int:
    """A file of which each process of this user locks one byte for each port that it handed out, while it lives."""
    path = Path(tempfile.gettempdir()) / f"slicewise-e2e-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def free_port() -> int:
    """A loopback port that nothing listens on, and that neither this process nor another run has handed out.

    Between here and the moment when a program listens there are seconds, and a program that is killed comes back.
    """
    with _lock:
        for _ in range(1000):
            port = PORTS[secrets.randbelow(len(PORTS))]
            if port in _taken:
                continue
            with socket.socket() as probe:
                try:
                    fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            _taken.add(port)
            return port
    raise ClusterError(f"no free port on 127.0.0.1 between {PORTS.start} and {PORTS.stop}.")


def own_address() -> str:
    """An address of loopback that no other cluster has: one of sixteen million."""
    return str(ipaddress.IPv4Address("127.0.0.2") + secrets.randbelow(2**24 - 3))


def shorten(log: str, lines: int = TAIL) -> str:
    """The last lines of a log, without the far end of long ones."""
    return "\n".join(line[:WIDTH] for line in log.splitlines()[-lines:])


class Program:
    """One program of the cluster: it can be started, killed and started again with the same arguments."""

    def __init__(
        self, name: str, command: list[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = command
        self.log_file = folder / f"{name}.log"
        self._pidfile = folder / f"{name}.pid"
        self._folder = folder
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the program; its log is appended to."""
        if self.running:
            return
        self._reap()
        self._pidfile.unlink(missing_ok=True)
        supervisor = [sys.executable, "-I", "-S", str(SUPERVISOR), str(self._pidfile), *self.command]
        # HOME is the cluster's folder, so that no program reads or leaves anything in the person's own.
        environment = os.environ | {"HOME": str(self._folder)} | self._environment
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                supervisor,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._folder,
                # Ctrl-C in a terminal is for the test run, which then stops its programs.
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether the program runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the program itself, once it runs."""
        deadline = time.monotonic() + 10
        while not (self._pidfile.exists() and (text := self._pidfile.read_text())):
            if time.monotonic() > deadline or not self.running:
                raise ClusterError(self.failure("did not start"))
            time.sleep(0.01)
        return int(text)

    @property
    def pids(self) -> list[int]:
        """The program and its supervisor."""
        return [self.pid, self._process.pid] if self._process is not None else []

    def kill(self) -> None:
        """Ends the program at once, as ``kill -9`` does, and waits until it is gone."""
        if self._process is None:
            return
        if self.running:
            # It may end by itself at this very moment.
            with contextlib.suppress(ProcessLookupError, ClusterError):
                os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def wait_ready(self, check: Callable[[], bool], timeout: float = 120) -> None:
        """Polls until ``check`` is true; fails as soon as the program has ended."""
        deadline = time.monotonic() + timeout
        while True:
            if not self.running:
                status = self._process.returncode if self._process is not None else "never started"
                raise ClusterError(self.failure(f"ended before it was ready (exit {status})"))
            if check():
                return
            if time.monotonic() > deadline:
                raise ClusterError(self.failure(f"was not ready within {timeout:g} s"))
            time.sleep(0.05)

    def log(self) -> str:
        """All that the program has written."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def failure(self, what: str) -> str:
        """A message about this program that ends with the end of its log."""
        return f"{self.name} {what}; the end of {self.log_file}:\n{shorten(self.log()) or '(empty)'}"

    def _reap(self) -> None:
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
