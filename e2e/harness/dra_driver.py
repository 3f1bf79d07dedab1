"""What the chart of NVIDIA's DRA driver puts into a cluster for others: its DeviceClasses and its kinds' definitions.

The chart comes from the Go module proxy, in the version that ``dradriver/go.sum`` says, and is rendered by Helm.
Nothing of it is changed, and its programs are not run: there is no GPU here that they could find.


Failure: :class:`ClusterError` with the words of Go or Helm.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import yaml

from e2e.harness.client import Object
from e2e.harness.errors import ClusterError
from e2e.harness.schemas import downloaded, pinned
from tests.manifests.tools import tool

PINS = Path(__file__).parents[1] / "dradriver"
CHART = "deployments/helm/dra-driver-nvidia-gpu"
KINDS = ("CustomResourceDefinition", "DeviceClass")


@cache
def chart_objects() -> list[Object]:
    """The chart's DeviceClasses and definitions, as it makes them for a cluster with resource.k8s.io/v1."""
    ((_, folder),) = downloaded(PINS, [f"{module}@{version}" for module, version in pinned(PINS).items()])
    command = [
        tool("helm"),
        "template",
        "driver",
        str(folder / CHART),
        "--namespace",
        "nvidia-dra",
        "--include-crds",
    ]
    # Its chart wants to hear that no device plugin is on the same nodes.
    command += [
        "--api-versions",
        "resource.k8s.io/v1/DeviceClass",
        "--set",
        "gpuResourcesEnabledOverride=true",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ClusterError(f"the chart of NVIDIA's DRA driver cannot be rendered: {answer.stderr.strip()}")
    objects = [each for each in yaml.safe_load_all(answer.stdout) if each]
    return [each for kind in KINDS for each in objects if each["kind"] == kind]
