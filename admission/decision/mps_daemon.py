"""A pod that meets an MPS daemon: one that is no part of the device plugin, or the plugin's own.  Pure.

The published recipe for such a daemon (a DaemonSet running nvidia-cuda-mps-control with its pipe directory on a
hostPath) asks of each client: the same directory mounted, CUDA_MPS_PIPE_DIRECTORY and CUDA_MPS_LOG_DIRECTORY naming it,
and the host's IPC namespace. The device plugin's own MPS needs none of this (k8s-device-plugin issue 843), but it
mounts the daemon's /dev/shm, beside which a container can have none of its own (issue 805).
"""

from typing import Final

import msgspec

from admission.decision.gpu_requests import containers
from admission.decision.model import Decision
from admission.workloads.model import Container, Mount, PodSpec, Variable, Volume
from slicewise.api import keys

_SHM: Final = "/dev/shm"  # noqa: S108  where containers have it
_VARIABLES: Final = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")


def shared_with_host(spec: PodSpec, directory: str) -> PodSpec:
    """Returns the pod with the host's IPC namespace and the daemon's directory as a volume."""
    volumes = spec.volumes or []
    if not any(volume.name == keys.MPS_VOLUME for volume in volumes):
        volumes = [*volumes, Volume(keys.MPS_VOLUME, {"path": directory, "type": "Directory"})]
    return msgspec.structs.replace(spec, host_ipc=True, volumes=volumes)


def client(container: Container, directory: str) -> Container:
    """Returns a container that meets the daemon; what people set themselves stays."""
    mounts, env = container.volume_mounts or [], container.env or []
    if not any(mount.mount_path == directory for mount in mounts):
        mounts = [*mounts, Mount(keys.MPS_VOLUME, directory)]
    said = {variable.name for variable in env}
    env = [*env, *(Variable(name, directory) for name in _VARIABLES if name not in said)]
    return msgspec.structs.replace(container, volume_mounts=mounts, env=env)


def shadowed(title: str, spec: PodSpec, decision: Decision) -> list[str]:
    """Warns of containers that get a share of MPS and have a /dev/shm of their own."""
    return [
        f"{title}: container {container.name!r} mounts a {_SHM} of its own and gets an MPS share, whose daemon is met "
        "there, so it may find no GPU; remove that mount or use another class"
        for _, container in containers(spec)
        if container.name in decision.containers
        and any(mount.mount_path.rstrip("/") == _SHM for mount in container.volume_mounts or ())
    ]
