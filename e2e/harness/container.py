"""One container of a Pod as a process of the test run: what its spec names is what is started.

Command, arguments and environment are taken as they stand, fields of the downward API and references resolved. Three
things cannot be had without a container and are put in their place:

- **Addresses.** There is no network of its own, so each container port becomes a free port of this machine, and
  `0.0.0.0:PORT` in arguments and environment becomes that. A port that stands in none of them is an error: nobody could
  say where the program would listen.
- **Paths.** There is no filesystem of its own, so each volume is a folder of the Pod's, and its mount path in arguments
  and environment becomes that.
- **The service account.** Clients read its token from one fixed path, which cannot be had either. So the container gets
  `SLICEWISE_KUBECONFIG`, the environment variable of `--kubeconfig`, with a file for that very account.

A kind of volume, environment variable or probe that is not played here is an error, never left out in silence.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.harness.certificates import write_private
from e2e.harness.client import Object
from e2e.harness.cluster import AnyCluster
from e2e.harness.errors import ClusterError
from e2e.harness.processes import Program, free_port

_identities = threading.Lock()
# Where the console scripts of the environment are: what /opt/slicewise/bin is in the image.
BIN = Path(sys.executable).parent


class NotYetError(Exception):
    """A Secret or ConfigMap that is mounted does not exist yet; a kubelet waits for it."""


class Process(Program):
    """A program that can be told to end, and whose end says how it went."""

    @property
    def status(self) -> int | None:
        """The exit status, once it has ended."""
        return None if self._process is None else self._process.poll()

    def terminate(self) -> None:
        """Sends SIGTERM."""
        with contextlib.suppress(ProcessLookupError, ClusterError):
            os.kill(self.pid, signal.SIGTERM)


@dataclass
class Probe:
    """An HTTP probe and what it found last."""

    path: str
    port: int
    period: float
    timeout: float
    failures_allowed: int
    eager: bool
    """Whether it asks four times a second until the first pass, where a kubelet keeps to the period."""
    failures: int = 0
    next_at: float = 0.0
    passed: bool = False

    def forget(self) -> None:
        """A container that starts anew is asked anew."""
        self.failures, self.next_at, self.passed = 0, 0.0, False

    def look(self, host: str) -> bool:
        """Asks when it is time to; returns whether the container passes."""
        now = time.monotonic()
        if now < self.next_at:
            return self.passed
        good = answer(host, self.port, self.path, self.timeout)[0] in range(200, 400)
        self.failures = 0 if good else self.failures + 1
        if good or self.failures >= self.failures_allowed:
            self.passed = good
        self.next_at = time.monotonic() + (0.25 if self.eager and not self.passed else self.period)
        return self.passed


def answer(host: str, port: int, path: str, timeout: float = 30, token: str = "") -> tuple[int, str]:
    """What a server says to a GET, with a bearer token if there is one: status and text; 0 when nothing answers."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        found = connection.getresponse()
        return found.status, found.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


@dataclass
class Launch:
    """How to start a container here."""

    command: list[str]
    environment: dict[str, str]
    account: str
    """The service account's name."""
    ports: dict[str, int] = field(default_factory=dict)
    """Port of this machine by the name and by the number of the container's port."""
    readiness: Probe | None = None
    liveness: Probe | None = None


Runtime = Callable[[Launch, Path], Launch]
"""What becomes of a container, and of the folder with all that it mounts, just before it is started."""


def as_it_stands(found: Launch, folder: Path) -> Launch:  # noqa: ARG001
    """The program of this environment, as whoever runs the tests."""
    return found


def launch(cluster: AnyCluster, pod: Object, folder: Path) -> Launch:
    """Prepares the only container of a Pod. Raises NotYetError, or ClusterError for what cannot be played here."""
    containers = pod["spec"]["containers"]
    if len(containers) != 1 or pod["spec"].get("initContainers"):
        raise ClusterError(f"Pod {pod['metadata']['name']}: the harness plays Pods of one container.")
    (spec,) = containers
    mounts = mount(cluster, pod, spec, folder)
    numbers = [port["containerPort"] for port in spec.get("ports", [])]
    ports = {str(number): free_port() for number in numbers}
    environment = {each["name"]: _value(cluster, pod, each) for each in spec.get("env", [])}
    words = [*spec.get("command", []), *spec.get("args", [])]
    if not words:
        raise ClusterError(f"Pod {pod['metadata']['name']}: the container names no command.")
    words = [
        re.sub(r"\$\((\w+)\)", lambda found: environment.get(found[1], found[0]), word) for word in words
    ]
    given = [*words, *environment.values()]
    for number in ports:
        if not any(word.endswith(f"0.0.0.0:{number}") for word in given):
            raise ClusterError(f"container port {number} stands in no argument: where would it listen?")

    def here(word: str) -> str:
        for number, port in ports.items():
            word = re.sub(rf"\b0\.0\.0\.0:{number}$", f"{cluster.listen_host}:{port}", word)
        for path, own in mounts.items():
            word = re.sub(rf"(?<![\w/.-]){re.escape(path)}(?![\w.-])", str(own), word)
        return word

    account = pod["spec"].get("serviceAccountName", "default")
    with _identities:
        kubeconfig = cluster.kubeconfig_for(f"system:serviceaccount:{pod['metadata']['namespace']}:{account}")
    found = Launch(
        [here(word) for word in words],
        {name: here(value) for name, value in environment.items()}
        | {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "SLICEWISE_KUBECONFIG": str(kubeconfig),
            # aiohttp reads all that the machine trusts when it is imported: a tenth of a start, and of no use here.
            "SSL_CERT_FILE": os.devnull,
        },
        account,
        ports
        | {
            port["name"]: ports[str(port["containerPort"])]
            for port in spec.get("ports", [])
            if "name" in port
        },
    )
    found.readiness = _probe(spec.get("readinessProbe"), found.ports, eager=True)
    found.liveness = _probe(spec.get("livenessProbe"), found.ports, eager=False)
    return found


def _probe(spec: Object | None, ports: dict[str, int], *, eager: bool) -> Probe | None:
    if spec is None:
        return None
    if "httpGet" not in spec or spec["httpGet"].get("scheme", "HTTP") != "HTTP":
        raise ClusterError(f"the harness plays HTTP probes, not {sorted(spec)}.")
    return Probe(
        spec["httpGet"]["path"],
        ports[str(spec["httpGet"]["port"])],
        spec.get("periodSeconds", 10),
        spec.get("timeoutSeconds", 1),
        spec.get("failureThreshold", 3),
        eager,
    )


def _value(cluster: AnyCluster, pod: Object, variable: Object) -> str:
    """The value of an environment variable."""
    if "valueFrom" not in variable:
        return str(variable.get("value", ""))
    source, namespace = variable["valueFrom"], pod["metadata"]["namespace"]
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"])
    for kind, key in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
        if key in source:
            return _files(cluster, kind, source[key]["name"], namespace)[source[key]["key"]].decode()
    raise ClusterError(f"variable {variable['name']}: the harness does not play {sorted(source)}.")


def _field(pod: Object, path: str) -> str:
    """A field of the downward API."""
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if keyed:
        return str(pod["metadata"].get(keyed[1], {}).get(keyed[2], ""))
    found: Any = pod
    for part in path.split("."):
        found = found.get(part, {})
    if isinstance(found, dict):
        raise ClusterError(f"the Pod has no field {path}.")
    return str(found)


def _files(cluster: AnyCluster, kind: str, name: str, namespace: str) -> dict[str, bytes]:
    item = cluster.find("v1", kind, name, namespace)
    if item is None:
        raise NotYetError(f"{kind} {namespace}/{name} does not exist")
    data = item.get("data") or {}
    if kind == "Secret":
        return {key: base64.b64decode(value) for key, value in data.items()}
    return {key: value.encode() for key, value in data.items()}


def mount(cluster: AnyCluster, pod: Object, container: Object, folder: Path) -> dict[str, Path]:
    """Writes what is mounted, where it changed; returns the folder by mount path."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
    found = {}
    for each in container.get("volumeMounts", []):
        volume = volumes[each["name"]]
        target = folder / each["name"]
        target.mkdir(parents=True, exist_ok=True)
        found[each["mountPath"].rstrip("/")] = target
        if "emptyDir" in volume:
            continue
        sources = {
            "Secret": volume.get("secret", {}).get("secretName"),
            "ConfigMap": volume.get("configMap", {}).get("name"),
        }
        named = [(kind, name) for kind, name in sources.items() if name]
        if not named:
            raise ClusterError(f"volume {each['name']}: the harness does not play {sorted(volume)}.")
        for name, content in _files(cluster, *named[0], pod["metadata"]["namespace"]).items():
            if not (target / name).exists() or (target / name).read_bytes() != content:
                write_private(target / f".{name}", content)
                (target / f".{name}").replace(target / name)
    return found
