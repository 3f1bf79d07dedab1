"""A release of the chart, made by Helm itself on a cluster of the tests: installed, upgraded, tested, taken away.

What Helm renders is changed in two places on its way to the API server, by a post-renderer, because nothing routes
cluster addresses there: the webhook's Service leads to loopback, and the webhook configurations name the port there.
The Pods run under the kubelet that the harness plays.

The version before the current one: as long as there is no release, :func:`previous` makes one up, from the chart as it
is with an older version and definitions that lack a field. Once there is one, it is the chart of the last tag
(``git archive TAG charts/slicewise``), and the image of that tag has to be what its Pods run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from e2e.harness.balancer import Balancer
from e2e.harness.cluster import AnyCluster
from e2e.harness.errors import ClusterError
from e2e.harness.installation import CHART, NAMESPACE, ROOT
from e2e.harness.pods import Played
from e2e.harness.processes import free_port, shorten
from slicewise import __version__
from tests.manifests.tools import tool

NAME: Final = "slicewise"
BEFORE: Final = "0.0.9"
REGISTRY: Final = "registry.example.com/slicewise"
"""Where the documentation's reader pushed the image to."""
WEBHOOK: Final = {"app.kubernetes.io/name": "slicewise", "app.kubernetes.io/component": "webhook"}
_PLUGIN: Final = "loopback"


def previous(folder: Path) -> Path:
    """The chart of the version before, in a folder of its own."""
    chart = folder / "previous"
    shutil.copytree(CHART, chart)
    about = chart / "Chart.yaml"
    about.write_text(about.read_text().replace(f"ersion: {__version__}", f"ersion: {BEFORE}"))
    for path, field in (("slicingpolicies", "whenNothingFits"), ("quotaplans", "cohort")):
        file = chart / f"files/crds/{path}.yaml"
        definition = yaml.safe_load(file.read_text())
        (version,) = definition["spec"]["versions"]
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
        del spec["properties"][field]
        version["additionalPrinterColumns"] = [
            column for column in version["additionalPrinterColumns"] if field not in column["jsonPath"]
        ]
        spec["x-kubernetes-validations"] = [
            rule for rule in spec.get("x-kubernetes-validations", []) if field not in rule["rule"]
        ]
        file.write_text(yaml.safe_dump(definition, sort_keys=False))
    return chart


def packaged(chart: Path, folder: Path) -> Path:
    """The package of a chart, as a release has it."""
    made = subprocess.run(
        [tool("helm"), "package", str(chart), "--destination", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(made.stdout.rpartition(": ")[2].strip())


class Release:
    """One release under Helm's care, its Pods running beside the tests."""

    loopback = ("--post-renderer", _PLUGIN)
    """The options that have the webhook called on this machine."""

    def __init__(self, cluster: AnyCluster, folder: Path) -> None:
        self.cluster = cluster
        images = [
            f"{name}:{version}" for name in ("slicewise", REGISTRY) for version in (BEFORE, __version__)
        ]
        self.pods = Played(cluster, folder, images)
        self.folder = folder
        self.host = "localhost" if cluster.listen_host == "127.0.0.1" else cluster.listen_host
        self.port = free_port()
        self._balancer = Balancer(cluster.listen_host, self.port, self._targets)
        self._write_plugin()

    def _targets(self) -> list[tuple[str, int]]:
        return self.pods.addresses(WEBHOOK, "webhook", ready=True)

    def _write_plugin(self) -> None:
        folder = self.folder / "plugins" / _PLUGIN
        folder.mkdir(parents=True)
        command = {
            "command": sys.executable,
            "args": ["-m", "e2e.harness.loopback", self.host, str(self.port)],
        }
        plugin = {
            "apiVersion": "v1",
            "type": "postrenderer/v1",
            "name": _PLUGIN,
            "version": "0.1.0",
            "runtime": "subprocess",
            "runtimeConfig": {"platformCommand": [command]},
        }
        (folder / "plugin.yaml").write_text(yaml.safe_dump(plugin))

    def __enter__(self) -> Release:
        self._balancer.start()
        self.pods.kubelet.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pods.kubelet.stop()
        self._balancer.stop()

    def story(self) -> str:
        """The state of every Pod and the end of what it wrote."""
        pods = self.pods.kubelet.pods()
        return "\n".join(
            f"{pod.name}: ready={pod.ready} restarts={pod.restarts} {pod.problem}\n"
            + (shorten(pod.program.log()) if pod.program is not None else "not started")
            for pod in pods
        )

    def try_helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs Helm as an administrator of the cluster; whatever becomes of it."""
        own = {
            f"HELM_{name}": str(self.folder / name.lower())
            for name in ("CACHE_HOME", "CONFIG_HOME", "DATA_HOME", "PLUGINS")
        }
        environment = {**os.environ, **own, "PYTHONPATH": str(ROOT), "HELM_NAMESPACE": NAMESPACE}
        command = [tool("helm"), "--kubeconfig", str(self.cluster.kubeconfig), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    def helm(self, *arguments: str) -> str:
        """Runs Helm; raises when it fails."""
        done = self.try_helm(*arguments)
        if done.returncode:
            raise ClusterError(f"helm {arguments[0]} failed: {done.stderr.strip()} {done.stdout.strip()}")
        return done.stdout

    def upgrade(self, values: Mapping[str, Any], chart: Path = CHART, *more: str) -> str:
        """Installs, or upgrades to these values and the defaults of the chart; returns once all is ready.

        No replica of before is sent anything any more then: Helm waits until they are deleted, not until that is seen.
        """
        said = self.helm(
            *("upgrade", NAME, str(chart), "--install", "--create-namespace", "--reset-values"),
            # A third of Helm's work would be reading all that the API server defines, to judge what it refuses itself.
            *("--disable-openapi-validation", "--wait", "--timeout", "90s"),
            *(*self.loopback, *self.given(values), *more),
        )
        self.pods.kubelet.look()
        return said

    def given(self, values: Mapping[str, Any]) -> list[str]:
        """The options that set these values, and those that let Pods run here."""
        return [
            word
            for key, value in {**values, **self.pods.values}.items()
            for word in ("--set-json", f"{key}={json.dumps(value)}")
        ]
