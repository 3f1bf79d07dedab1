"""A real node: kubelet, containerd and runc, with NVIDIA's own device plugin and GPU feature discovery on made-up GPUs.

Purpose: :class:`RealNode` joins a cluster of the tests. :meth:`RealNode.divide` gives its GPUs another division, as an
admin does: the device plugin ends and starts again with it. :meth:`RealNode.discover` runs GPU feature discovery and
puts what it found on the Node, as node feature discovery does. All else is done by the programs themselves.

Invariants: everything runs in one mount and one process namespace, which end with the test run, pods included. The
kubelet's and containerd's folders are in memory there; nothing of this machine's ``/var/lib`` is seen or changed.
Servers listen on loopback. No image is pulled: the only one is made here, of one static program.

Failure: ``ClusterError`` with the end of a program's log. It takes root, and Debian's containerd and runc, which
are installed when they are missing.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

from e2e.harness import debian, nvidia
from e2e.harness.binaries import NODE, NVIDIA, ensure
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import Cluster, answers
from e2e.harness.processes import Program, free_port

IMAGE = "slicewise.io/e2e/pause:1"
"""It waits until it is ended; with the name of an environment variable, its last words are what that holds."""
TAINT = "nvidia.com/gpu"
RUNTIME = "unix:///run/containerd/containerd.sock"
# $1 is the node's folder. The driver's list of capability devices is a file there, which changes with the division.
IN_NAMESPACE = f"""
set -e
for folder in /proc/driver /var/lib /run; do mount -t tmpfs tmpfs $folder; done
mkdir -p /proc/driver/nvidia-caps {nvidia.PLUGINS}
ln -s "$1/mig-minors" /proc/driver/nvidia-caps/mig-minors
exec containerd --config "$1/containerd.toml"
"""


class RealNode:
    """One node of a cluster, with GPUs that can be divided anew."""

    def __init__(self, cluster: Cluster, name: str, machine: nvidia.Machine) -> None:
        self._cluster, self.name = cluster, name
        self._folder = cluster.folder / name
        self._programs, self._nvidia = ensure(NODE), ensure(NVIDIA)
        self._machine = machine
        self._health = free_port()
        # The shell becomes containerd, which is the first process of its namespace and takes all others along.
        namespaces = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        stage = ["unshare", *namespaces, "sh", "-c", IN_NAMESPACE, "sh", str(self._folder)]
        self.containerd = Program("containerd", stage, cluster.folder)
        self._inside_of_it: list[Program] = []

    def start(self) -> None:
        """Starts the node with its GPUs as they are; returns when it is Ready and pods can run."""
        for name in ("containerd", "runc"):
            debian.program((name,), name)
        self._folder.mkdir()
        self._environment = self._machine.prepare(self._nvidia, self._folder)
        self._write_configuration()
        self.containerd.start()
        self.containerd.wait_ready(self._import_image)
        kubelet = [str(self._programs.program("kubelet")), f"--config={self._folder / 'kubelet.json'}"]
        kubelet += [f"--kubeconfig={self._kubeconfig()}", f"--hostname-override={self.name}"]
        self.kubelet = Program("kubelet", self._inside(*kubelet), self._cluster.folder)
        self._inside_of_it.append(self.kubelet)
        self.start_kubelet()
        self.start_plugin()
        eventually(self._is_ready, f"{self.name} is Ready")

    def stop(self) -> None:
        """Ends everything on the node at once."""
        for program in (self.containerd, *self._inside_of_it):
            program.kill()

    def start_kubelet(self) -> None:
        """Starts the kubelet, or starts it again."""
        self.kubelet.start()
        self.kubelet.wait_ready(functools.partial(answers, self._health, "/healthz"))

    def start_plugin(self) -> None:
        """Starts the device plugin with the GPUs as they are now."""
        plugin = ["nvidia-device-plugin", f"--config-file={self._folder / 'config.json'}"]
        self.plugin = Program("plugin", self._inside(*plugin), self._cluster.folder, self._environment)
        self._inside_of_it.append(self.plugin)
        self.plugin.start()

    def divide(self, machine: nvidia.Machine) -> None:
        """Divides the GPUs anew; labels stay what they were until :meth:`discover`."""
        self.plugin.kill()
        self._machine = machine
        self._environment = machine.prepare(self._nvidia, self._folder)
        self.start_plugin()

    def discover(self) -> None:
        """Puts the labels on the Node that GPU feature discovery gives it now, and takes off those of before."""
        found = {"nvidia.com/gpu.present": "true"}
        found |= nvidia.labels(self._nvidia, self._machine, self._folder)
        old = self.get()["metadata"]["labels"]
        gone = {key: None for key in old if key.startswith(nvidia.PREFIX) and key not in found}
        self._cluster.patch("v1", "Node", self.name, {"metadata": {"labels": {**gone, **found}}})

    def get(self) -> Object:
        """The Node object."""
        return self._cluster.get("v1", "Node", self.name)

    def gpus(self) -> dict[str, tuple[int, int]]:
        """NVIDIA's resources of the node: name -> capacity and allocatable."""
        status = self.get()["status"]
        capacity, allocatable = status["capacity"], status["allocatable"]
        return {
            name: (int(capacity[name]), int(allocatable.get(name, 0)))
            for name in sorted(capacity)
            if name.startswith(nvidia.PREFIX)
        }

    def log(self) -> str:
        """The end of every program's log."""
        return "\n".join(each.failure("was running") for each in (self.containerd, self.kubelet, self.plugin))

    def _is_ready(self) -> bool:
        conditions = self.get()["status"]["conditions"]
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def _inside(self, *command: str) -> list[str]:
        """How to run a program on the node, so that it ends with the process that is started for it here."""
        enter = ["nsenter", f"--target={self._first_process()}", "--mount", "--pid"]
        return [*enter, "setpriv", "--pdeathsig=KILL", *command]

    def _first_process(self) -> str:
        """The process id of the first process of the node's namespaces; nothing where there is none."""
        pid = self.containerd.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").strip()

    def _import_image(self) -> bool:
        archive = self._folder / "image.tar"
        if not archive.exists():
            archive.write_bytes(_image(self._programs.program("pause").read_bytes()))
        command = self._inside("ctr", "--namespace=k8s.io", "images", "import", str(archive))
        return (
            bool(self._first_process())
            and subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
        )

    def _kubeconfig(self) -> Path:
        user, role = f"system:node:{self.name}", "system:node"
        group = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}
        self._cluster.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "e2e-nodes"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [group],
            }
        )
        return self._cluster.kubeconfig_for(user, ["system:nodes"])

    def _write_configuration(self) -> None:
        network = self._folder / "network"
        network.mkdir()
        # The node is Ready once there is a network. Its pods use the machine's, so nothing is ever asked of this one.
        loopback = {"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "loopback"}]}
        (network / "none.conflist").write_text(json.dumps(loopback), encoding="utf-8")
        (self._folder / "containerd.toml").write_text(
            "version = 2\n"
            '[plugins."io.containerd.grpc.v1.cri"]\n'
            f'sandbox_image = "{IMAGE}"\n'
            'stream_server_address = "127.0.0.1"\n'
            # A root that may not spare its processes from the kernel's killer (no CAP_SYS_RESOURCE) will do.
            "restrict_oom_score_adj = true\n"
            '[plugins."io.containerd.grpc.v1.cri".cni]\n'
            f'conf_dir = "{network}"\n',
            encoding="utf-8",
        )
        kubelet = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": free_port(),
            "healthzPort": self._health,
            "authentication": {"webhook": {"enabled": False}, "anonymous": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": RUNTIME,
            # Nothing of this machine's control groups is changed but by runc, for each container.
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "resolvConf": "",
            "podLogsDir": str(self._folder / "pods"),
            "volumePluginDir": str(self._folder / "volume-plugins"),
            "registerWithTaints": [{"key": TAINT, "value": "present", "effect": "NoSchedule"}],
        }
        (self._folder / "kubelet.json").write_text(json.dumps(kubelet), encoding="utf-8")


def _image(program: bytes) -> bytes:
    """An archive of an OCI image with one program in it."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> Object:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)}

    layer = blob(_tar({"pause": program}), "layer.v1.tar")
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/pause"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [layer],
    }
    named = {"annotations": {"io.containerd.image.name": IMAGE}}
    listed = blob(json.dumps(manifest).encode(), "manifest.v1+json") | named
    index = json.dumps({"schemaVersion": 2, "manifests": [listed]}).encode()
    return _tar({**blobs, "oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index})


def _tar(files: dict[str, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return output.getvalue()
