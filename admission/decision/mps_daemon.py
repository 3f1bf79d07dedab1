"""A pod that meets an MPS daemon: one that is no part of the device plugin, or the plugin's own.  Pure.

The published recipe for such a daemon (a DaemonSet running nvidia-cuda-mps-control with its pipe directory on a
hostPath) asks of each client: the same directory mounted, CUDA_MPS_PIPE_DIRECTORY and CUDA_MPS_LOG_DIRECTORY naming it,
and the host's IPC namespace. The device plugin's own MPS needs none of this (k8s-device-plugin issue 843), but it
mounts the daemon's /dev/shm, beside which a container can have none of its own (issue 805).
"""

from typing import Any, Final

from admission.decision.gpu_requests import containers
from admission.decision.model import Decision
from admission.workloads.model import PodSpec
from slicewise.gpu.strategies import Strategy

_VOLUME: Final = "slicewise-mps"
_SHM: Final = "/dev/shm"  # noqa: S108  where containers have it
_VARIABLES: Final = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")


def connected(
    spec_pointer: str, spec: PodSpec, asking: frozenset[str], directory: str
) -> list[dict[str, Any]]:
    """Returns what connects the containers that ask for a GPU; what people set themselves stays."""
    found: list[dict[str, Any]] = []
    if spec.host_ipc is not True:
        found.append({"op": "add", "path": f"{spec_pointer}/hostIPC", "value": True})
    if not any(volume.name == _VOLUME for volume in spec.volumes or ()):
        volume = {"name": _VOLUME, "hostPath": {"path": directory, "type": "Directory"}}
        found += _added(f"{spec_pointer}/volumes", spec.volumes, [volume])
    for pointer, container in containers(spec):
        if pointer not in asking:
            continue
        path = f"{spec_pointer}{pointer}"
        if not any(mount.mount_path == directory for mount in container.volume_mounts or ()):
            mount = {"name": _VOLUME, "mountPath": directory}
            found += _added(f"{path}/volumeMounts", container.volume_mounts, [mount])
        said = {variable.name for variable in container.env or ()}
        variables = [{"name": name, "value": directory} for name in _VARIABLES if name not in said]
        found += _added(f"{path}/env", container.env, variables)
    return found


def shadowed(title: str, spec: PodSpec, decision: Decision) -> list[str]:
    """Warns of containers that get a share and have a /dev/shm of their own."""
    if decision.strategy != Strategy.MPS:
        return []
    return [
        f"{title}: container {container.name!r} mounts a {_SHM} of its own and gets an MPS share, whose daemon is met "
        "there, so it may find no GPU; remove that mount or use another class"
        for _, container in containers(spec)
        if container.name in decision.containers
        and any(mount.mount_path.rstrip("/") == _SHM for mount in container.volume_mounts or ())
    ]


def _added(path: str, present: list[Any] | None, items: list[Any]) -> list[dict[str, Any]]:
    if not items:
        return []
    if present is None:
        return [{"op": "add", "path": path, "value": items}]
    return [{"op": "add", "path": f"{path}/-", "value": item} for item in items]
