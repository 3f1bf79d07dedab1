"""What the command costs from the shell, beside a Python that does nothing, in turn: processor time."""

import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from slicewise.kube import yaml
from tests.docs.pages import ROOT, page

NAME = "startup"
HELP = "commands from the shell, beside `python -c pass`"
ROUNDS = 11
NODES = 200
NOTHING = ("-c", "pass")
POD = """
apiVersion: v1
kind: Pod
metadata: {name: train, namespace: team-a}
spec: {containers: [{name: main, image: train, resources: {limits: {nvidia.com/gpu: 1}}}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: team-a, labels: {slicewise.io/policy: default}}
"""


def _node(number: int) -> dict[str, object]:
    labels = {
        "nvidia.com/gpu.product": "NVIDIA-L4",
        "nvidia.com/gpu.count": "4",
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.memory": "23034",
    }
    devices = {"nvidia.com/gpu": "4", "cpu": "64"}
    status = {
        "capacity": devices,
        "allocatable": devices,
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"n{number}", "labels": labels},
        "spec": {},
        "status": status,
    }


# Every command that answers from files, on the example cluster of docs/example.md; the policy test is of its first job.
ON_THE_EXAMPLE: Final = {
    "mutate": "-f jobs.yaml",
    "explain": "-f jobs.yaml",
    "pools": "",
    "plan": "",
    "diff": "",
    "drift": "",
    "why": "team-a",
    "release": "gone --snapshot given.yaml",
    "uninstall": "--check",
    "overlays": "",
    "deviceclasses": "",
    "doctor": "",
    "test": "cases.yaml",
    "report": "--usage usage.json.gz",
    "advise": "--usage usage.json.gz",
    "completion": "bash",
}
# These serve, or ask a cluster; `demo` plays through them all.
OTHERS: Final = {"page", "snapshot", "demo", "webhook", "controller"}
CASES: Final = """
snapshot: [cluster.yaml]
cases:
- name: served
  manifest: job.yaml
  expect: {class: inference}
"""
# What a plan that is gone gave, and has been given back.
GIVEN: Final = """
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {name: emptied, annotations: {slicewise.io/plan: gone}}
spec: {}
"""
_WITHOUT_SNAPSHOT: Final = {"test", "completion"}


def example(name: str, folder: Path) -> list[str]:
    """Returns the words of a command on the example cluster, whose files are in a folder."""
    words = [
        str(folder / word) if (folder / word).is_file() else word for word in ON_THE_EXAMPLE[name].split()
    ]
    snapshot = [] if name in _WITHOUT_SNAPSHOT else ["--snapshot", str(folder / "cluster.yaml")]
    return [name, *words, *snapshot]


def write_example(folder: Path) -> None:
    """Writes the files of the example cluster into a folder."""
    for name, text in page("example.md").files().items():
        (folder / name).write_text(text, encoding="utf-8")
    first, _ = (folder / "jobs.yaml").read_text(encoding="utf-8").split("---", 1)
    (folder / "job.yaml").write_text(first, encoding="utf-8")
    (folder / "cases.yaml").write_text(CASES, encoding="utf-8")
    (folder / "given.yaml").write_text(GIVEN, encoding="utf-8")
    shutil.copy(ROOT / "docs" / "usage.json.gz", folder)


def _seconds(arguments: Sequence[str]) -> float:
    """Returns the processor time of a call; what else the machine does counts for little in that."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], check=False, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in {0, 1}:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(arguments: Sequence[str]) -> int:
    """Prints each command's median and, round by round, its ratio to a Python that does nothing.

    Args:
        arguments: how many rounds; 11 where nothing is said.
    """
    rounds = int(arguments[0]) if arguments else ROUNDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nodes, pod = folder / "nodes.yaml", folder / "pod.yaml"
        nodes.write_text(yaml.dump(map(_node, range(NODES))), encoding="utf-8")
        pod.write_text(POD, encoding="utf-8")
        write_example(folder)
        sides = {
            "--version": ["--version"],
            "--help": ["--help"],
            f"pools, {NODES} nodes": ["pools", "--snapshot", str(nodes)],
            "mutate a Pod": ["mutate", "-f", str(pod), "--snapshot", str(nodes), "--snapshot", str(pod)],
        }
        sides |= {f"{each}, example": example(each, folder) for each in ON_THE_EXAMPLE}
        pairs: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for _ in range(rounds):
            for side, words in sides.items():
                pairs[side].append((_seconds(NOTHING), _seconds(["-m", "slicewise", *words])))
        for side, measured in pairs.items():
            ratio = statistics.median(ours / nothing for nothing, ours in measured)
            ours = statistics.median(ours for _, ours in measured)
            print(f"  {side:22} {ours * 1000:6.0f} ms   {ratio:5.1f} × python -c pass")
    return 0
