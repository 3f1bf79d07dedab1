"""Runs NVIDIA's own gpu-feature-discovery and device plugin on GPUs that are not there.

Purpose: :func:`labels` gives what GPU feature discovery writes on a node, :func:`registered` what the device plugin
registers with a kubelet, both for a :class:`Machine`. The programs are unmodified and pinned in ``nvidia/go.mod``; they
ask ``nvidia/nvml.c``, which answers from a text file. A profile's name comes from its share of the memory, rounded up
to eighths, so what is said of sizes has to fit together as it does on real boards.

Invariants: the plugin runs in a mount namespace of its own, so nothing of this machine's ``/proc/driver`` and
``/var/lib`` is seen or changed. That needs root: :func:`mount_namespaces` says whether it can be had.

Failure: :class:`ClusterError` with what the program said.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.harness.binaries import Programs
from e2e.harness.errors import ClusterError

PREFIX = "nvidia.com/"
PLUGINS = "/var/lib/kubelet/device-plugins"
# What the plugin runs in: the files of the driver and of the kubelet are this namespace's own.
IN_NAMESPACE = f"""
set -e
mount -t tmpfs tmpfs /proc/driver
mount -t tmpfs tmpfs /var/lib
mkdir -p /proc/driver/nvidia-caps {PLUGINS}
cp "$1/mig-minors" /proc/driver/nvidia-caps/mig-minors
fakekubelet {PLUGINS} > "$1/kubelet" 2> "$1/kubelet.log" &
until test -S {PLUGINS}/kubelet.sock; do sleep 0.05; done
exec nvidia-device-plugin --kubelet-socket={PLUGINS}/kubelet.sock --config-file="$1/config.json"
"""


@dataclass(frozen=True)
class Profile:
    """A MIG profile: NVML's number of it, memory in MiB, multiprocessors, compute slices, how many fit one GPU."""

    number: int
    memory: int
    multiprocessors: int
    slices: int
    instances: int


@dataclass(frozen=True)
class Board:
    """A GPU model as NVML describes it: memory in MiB, compute capability, NVML's number of the architecture."""

    name: str
    memory: int
    compute: tuple[int, int]
    architecture: int
    profiles: Mapping[str, Profile] = field(default_factory=dict)


def _seventh(names: str, memory: tuple[int, int, int, int], multiprocessors: int) -> dict[str, Profile]:
    """The profiles of a board of seven compute slices, in the order 1g, 2g, 3g, 4g, 7g, 1g+me, 1g of double memory."""
    one, two, half, full = memory
    facts = [
        Profile(0, one, multiprocessors, 1, 7),
        Profile(1, two, multiprocessors * 2, 2, 3),
        Profile(2, half, multiprocessors * 3, 3, 2),
        Profile(3, half, multiprocessors * 4, 4, 1),
        Profile(4, full, multiprocessors * 7, 7, 1),
        Profile(7, one, multiprocessors, 1, 1),
        Profile(9, two, multiprocessors, 1, 4),
    ]
    return dict(zip(names.split(), facts, strict=True))


A100_40 = "1g.5gb 2g.10gb 3g.20gb 4g.20gb 7g.40gb 1g.5gb+me 1g.10gb"
OF_80 = "1g.10gb 2g.20gb 3g.40gb 4g.40gb 7g.80gb 1g.10gb+me 1g.20gb"
A30 = {
    "1g.6gb": Profile(0, 5836, 14, 1, 4),
    "2g.12gb": Profile(1, 11672, 28, 2, 2),
    "4g.24gb": Profile(3, 23344, 56, 4, 1),
    "1g.6gb+me": Profile(7, 5836, 14, 1, 1),
}
BOARDS = {
    "t4": Board("Tesla T4", 15360, (7, 5), 6),
    "l4": Board("NVIDIA L4", 23034, (8, 9), 8),
    "a30": Board("NVIDIA A30", 24576, (8, 0), 7, A30),
    "a100-40": Board(
        "NVIDIA A100-SXM4-40GB", 40960, (8, 0), 7, _seventh(A100_40, (4864, 9856, 19968, 40192), 14)
    ),
    "a100-80": Board(
        "NVIDIA A100-SXM4-80GB", 81920, (8, 0), 7, _seventh(OF_80, (9856, 19968, 40192, 80384), 14)
    ),
    "h100": Board(
        "NVIDIA H100 80GB HBM3", 81559, (9, 0), 9, _seventh(OF_80, (9984, 20096, 40320, 80896), 16)
    ),
}


@dataclass(frozen=True)
class Machine:
    """A node's GPUs, all of one board, and how its programs are configured.

    ``gpus`` has one entry a GPU: ``None`` with MIG mode off, else its instances by profile. ``strategy`` is the
    plugin's ``migStrategy``. ``sharing`` is the section of that name of the plugin's configuration file.
    """

    board: Board
    gpus: tuple[tuple[str, ...] | None, ...]
    strategy: str
    sharing: Mapping[str, Any]

    def nvml(self) -> str:
        """The file that ``nvml.c`` reads."""
        board, lines = self.board, list[str]()
        major, minor = board.compute
        for instances in self.gpus:
            mode = f"{int(bool(board.profiles))} {int(instances is not None)}"
            lines.append(f"gpu {board.memory} {major} {minor} {board.architecture} {mode} {board.name}")
            for name, of in board.profiles.items():
                media = int(name.endswith("+me") or name.startswith("7g"))
                sizes = f"{of.memory} {of.multiprocessors} {of.slices} {media} {of.instances}"
                lines.append(f"profile {of.number} {sizes}")
            lines += [f"mig {board.profiles[name].number}" for name in instances or ()]
        return "".join(f"{line}\n" for line in lines)

    def minors(self) -> str:
        """The driver's list of capability devices, which the plugin reads for MIG."""
        names = ["config", "monitor"]
        for index, instances in enumerate(self.gpus):
            for number in range(1, len(instances or ()) + 1):
                names += [f"gpu{index}/gi{number}/access", f"gpu{index}/gi{number}/ci0/access"]
        return "".join(f"{name} {minor}\n" for minor, name in enumerate(names, start=1))

    def prepare(self, programs: Programs, folder: Path) -> dict[str, str]:
        """Writes the files that the programs read, and gives the environment to run them in."""
        configuration = {"version": "v1", "flags": {"migStrategy": self.strategy}, "sharing": self.sharing}
        (folder / "config.json").write_text(json.dumps(configuration), encoding="utf-8")
        (folder / "nvml").write_text(self.nvml(), encoding="utf-8")
        (folder / "mig-minors").write_text(self.minors(), encoding="utf-8")
        # All that the plugin asks of the MPS daemon is an answer.
        daemon = folder / "nvidia-cuda-mps-control"
        daemon.write_text("#!/bin/sh\necho 100.0\n", encoding="utf-8")
        daemon.chmod(0o755)
        tools = programs.folder / "bin"
        path = f"{tools}:{folder}:{os.environ['PATH']}"
        library = {"LD_LIBRARY_PATH": str(tools), "MOCK_NVML": str(folder / "nvml")}
        return {"PATH": path, **library, "NODE_NAME": "n", "MPS_ROOT": str(folder)}


def mount_namespaces() -> bool:
    """Whether this process may have a mount namespace of its own, with mounts in it."""
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /proc/driver"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def labels(programs: Programs, machine: Machine, folder: Path) -> dict[str, str]:
    """What GPU feature discovery writes on the node; nothing where it gives up."""
    environment = machine.prepare(programs, folder)
    command = ["gpu-feature-discovery", "--oneshot", "--use-node-feature-api=false", "--output-file="]
    answer = subprocess.run(
        [*command, f"--config-file={folder / 'config.json'}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if answer.returncode == 97:
        raise ClusterError(f"the mock of NVML failed: {answer.stderr.strip()}")
    return dict(re.findall(r"^(nvidia\.com/[^=\s]+)=(.*)$", answer.stdout, re.MULTILINE))


def registered(programs: Programs, machine: Machine, folder: Path, expected: int) -> dict[str, int]:
    """Resource -> healthy devices, as the device plugin registered them; nothing where it gives up.

    Returns when ``expected`` resources are there (and a moment later, for those that nobody expects), or when the
    plugin has ended or says that it has nothing to offer. One of which nothing is expected may do neither.
    """
    environment = machine.prepare(programs, folder)
    log, seen = folder / "plugin.log", folder / "kubelet"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", IN_NAMESPACE, "sh", str(folder)],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + (120 if expected else 20)
            while process.poll() is None and "No devices found" not in log.read_text(errors="replace"):
                if expected and len(_lists(seen)) >= expected:
                    time.sleep(0.3)
                    break
                if time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            if process.returncode == 97 or not seen.exists():
                raise ClusterError(f"the device plugin did not start: {log.read_text(errors='replace')}")
            return {} if process.poll() is not None else _lists(seen)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _lists(seen: Path) -> dict[str, int]:
    lines = seen.read_text(encoding="utf-8").splitlines(keepends=True) if seen.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("\n")]
    return {each["resource"]: each["allocatable"] for each in found}
