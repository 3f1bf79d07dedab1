"""How long the command takes from the shell, beside a Python that does nothing, in turn."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from slicewise.kube import yaml

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


def _seconds(arguments: Sequence[str]) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def run(_arguments: Sequence[str]) -> int:
    """Prints each command's median and, round by round, its ratio to a Python that does nothing."""
    with tempfile.TemporaryDirectory() as folder:
        nodes, pod = Path(folder, "nodes.yaml"), Path(folder, "pod.yaml")
        nodes.write_text(yaml.dump(map(_node, range(NODES))), encoding="utf-8")
        pod.write_text(POD, encoding="utf-8")
        sides = {
            "--version": ["--version"],
            "--help": ["--help"],
            f"pools, {NODES} nodes": ["pools", "--snapshot", str(nodes)],
            "mutate a Pod": ["mutate", "-f", str(pod), "--snapshot", str(nodes), "--snapshot", str(pod)],
        }
        for name, words in sides.items():
            pairs = [(_seconds(NOTHING), _seconds(["-m", "slicewise", *words])) for _ in range(ROUNDS)]
            ratio = statistics.median(ours / nothing for nothing, ours in pairs)
            ours = statistics.median(ours for _, ours in pairs)
            print(f"  {name:18} {ours * 1000:6.0f} ms   {ratio:5.1f} × python -c pass")
    return 0
