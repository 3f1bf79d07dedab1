"""KWOK: nodes and pods that behave, without a kubelet.

Purpose: nodes annotated ``kwok.x-k8s.io/node: fake`` become Ready and keep their lease; pods bound to them run, and
pods of a Job complete. The Stages come from the Go module that the program was built from, with three additions that
tests steer by annotation:

- a node with :data:`NOT_READY` turns NotReady and stays so until the annotation goes;
- a pod with :data:`KEEP_RUNNING` doesn't complete;
- a pod with :data:`RUNS_FOR` (``5s``) completes only after that long.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from e2e.harness.binaries import Programs
from e2e.harness.client import Object, load

FAKE_NODE = {"kwok.x-k8s.io/node": "fake"}
NOT_READY = "e2e.slicewise.io/not-ready"
KEEP_RUNNING = "e2e.slicewise.io/keep-running"
RUNS_FOR = "e2e.slicewise.io/runs-for"

READY = '.status.conditions.[] | select( .type == "Ready" ) | .status'


def stages(programs: Programs) -> list[Object]:
    """The Stage objects."""
    folders = ("kwok-stages-node", "kwok-stages-lease", "kwok-stages-pod")
    found = [stage for folder in folders for path in programs.manifests(folder) for stage in load(path)]
    for stage in found:
        if stage["metadata"]["name"] == "node-initialize":
            _require(stage, NOT_READY, "DoesNotExist")
        if stage["metadata"]["name"] == "pod-complete":
            _require(stage, KEEP_RUNNING, "DoesNotExist")
            stage["spec"]["delay"] = {
                "durationMilliseconds": 0,
                "durationFrom": {"expressionFrom": f'.metadata.annotations["{RUNS_FOR}"]'},
            }
    return [*found, _not_ready()]


def _require(stage: Object, annotation: str, operator: str) -> None:
    expression = {"key": f'.metadata.annotations["{annotation}"]', "operator": operator}
    stage["spec"]["selector"]["matchExpressions"].append(expression)


def _not_ready() -> Object:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": "node-not-ready"},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": "Node"},
            "selector": {
                "matchExpressions": [
                    {"key": f'.metadata.annotations["{NOT_READY}"]', "operator": "Exists"},
                    {"key": READY, "operator": "In", "values": ["True"]},
                ]
            },
            # Outweighs the heartbeat, which would keep the node Ready.
            "weight": 10000,
            "next": {
                "statusTemplate": (
                    "{{ $now := Now }}\n"
                    "conditions:\n"
                    "- lastHeartbeatTime: {{ $now | Quote }}\n"
                    "  lastTransitionTime: {{ $now | Quote }}\n"
                    "  message: kubelet is down\n"
                    "  reason: KubeletNotReady\n"
                    '  status: "False"\n'
                    "  type: Ready\n"
                )
            },
        },
    }


def write_configuration(path: Path, programs: Programs) -> None:
    """Writes the Stages into one file; KWOK refuses to start without any."""
    path.write_text(yaml.safe_dump_all(stages(programs)))


def command(programs: Programs, kubeconfig: Path, configuration_file: Path, port: int) -> list[str]:
    """The command line."""
    (selector,) = (f"{key}={value}" for key, value in FAKE_NODE.items())
    return [
        str(programs.program("kwok")),
        f"--kubeconfig={kubeconfig}",
        f"--config={configuration_file}",
        f"--manage-nodes-with-annotation-selector={selector}",
        "--manage-all-nodes=false",
        f"--server-address=127.0.0.1:{port}",
        "--node-ip=127.0.0.1",
        "--cidr=10.244.0.1/16",
    ]
