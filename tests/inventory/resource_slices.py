"""ResourceSlices and DeviceClasses in the shape that NVIDIA's DRA driver 0.4.1 publishes (resource.k8s.io/v1)."""

from collections.abc import Iterable
from typing import Any

from slicewise.gpu import mig
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.inventory.served_names import read_device_class
from slicewise.inventory.sources.dra import read_claim, read_slice

H100 = "NVIDIA H100 80GB HBM3"
A100 = "NVIDIA A100-SXM4-80GB"
COUNTERS = {"consumesCounters": [{"counterSet": "gpu-0", "counters": {"memory-slice-0": {"value": "1"}}}]}


def device(name: str, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "attributes": {key: {"string": value} for key, value in attributes.items()}}


def board(product: str = H100) -> dict[str, Any]:
    return device("gpu-0", type="gpu", productName=product, uuid="GPU-0")


def instance(profile: str, product: str = H100, name: str = "gpu-0-mig") -> dict[str, Any]:
    return device(name, type="mig", productName=product, profile=profile, parentUUID="GPU-0")


def resource_slice(
    *devices: Any, name: str = "n1-a", pool: str = "n1", generation: Any = 1, count: int = 1, **spec: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": name},
        "spec": {
            "driver": "gpu.nvidia.com",
            "nodeName": pool,
            "pool": {"name": pool, "generation": generation, "resourceSliceCount": count},
            "devices": list(devices),
            **spec,
        },
    }


def device_class(name: str, extended: str | None = None, **labels: str) -> dict[str, Any]:
    spec = {"extendedResourceName": extended} if extended else {}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": metadata, "spec": spec}


def node_devices(*devices: Any, classes: Iterable[dict[str, Any]] = (), **spec: Any) -> PublishedDevices:
    """What is published for node n1, with NVIDIA's own class for whole boards beside others."""
    return published_devices([resource_slice(*devices, **spec)], [NVIDIA_CLASS, *classes])


def published_devices(
    slices: Iterable[dict[str, Any]],
    classes: Iterable[dict[str, Any]] = (),
    claims: Iterable[dict[str, Any]] = (),
) -> PublishedDevices:
    found = PublishedDevices()
    for item in slices:
        found.put_slice(item["metadata"]["name"], read_slice(item))
    for item in classes:
        found.put_class(item["metadata"]["name"], read_device_class(item))
    for item in claims:
        found.put_claim(item["metadata"]["name"], read_claim(item))
    return found


def partitionable(index: int = 0, product: str = H100) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The devices of one board under dynamic MIG, and its counters: each placement that NVIDIA publishes for it."""
    board = mig.board_of(product.replace(" ", "-"))
    assert board is not None
    counters = f"gpu-{index}-counter-set"

    def consuming(device: dict[str, Any], start: int, size: int, compute: int, memory: str) -> dict[str, Any]:
        amounts = {f"memory-slice-{slot}": {"value": "1"} for slot in range(start, start + size)}
        amounts["multiprocessors"] = {"value": str(16 * compute)}
        capacity = {"memory": {"value": memory}}
        return {
            **device,
            "capacity": capacity,
            "consumesCounters": [{"counterSet": counters, "counters": amounts}],
        }

    whole = consuming(
        device(f"gpu-{index}", type="gpu", productName=product, uuid=f"GPU-{index}"),
        0,
        board.memory_slices or 0,
        8,
        "81559Mi",
    )
    devices = [whole]
    for profile, placement in board.profiles.items():
        for start in placement.starts or ():
            name = f"gpu-{index}-mig-{profile.replace('.', '').replace('+', '-')}-{start}"
            made = instance(profile, product, name)
            made["attributes"]["parentUUID"] = {"string": f"GPU-{index}"}
            memory = f"{placement.mebibytes or 40320}Mi"
            devices.append(consuming(made, start, placement.memory or 0, placement.compute, memory))
    everything = whole["consumesCounters"][0]["counters"]
    return devices, {"name": counters, "counters": everything}


def class_of(name: str, extended: str, *terms: str) -> dict[str, Any]:
    """A DeviceClass whose selector joins terms over the attributes of NVIDIA's driver."""
    expression = " && ".join(
        [
            'device.driver == "gpu.nvidia.com"',
            *(f'device.attributes["gpu.nvidia.com"].{term}' for term in terms),
        ]
    )
    document = device_class(name, extended)
    document["spec"]["selectors"] = [{"cel": {"expression": expression}}]
    return document


def class_of_profile(profile: str) -> dict[str, Any]:
    name = "mig-" + profile.replace(".", "-").replace("+", "-")
    return class_of(name, f"nvidia.com/mig-{profile}", 'type == "mig"', f'profile == "{profile}"')


NVIDIA_CLASS = class_of("gpu.nvidia.com", "nvidia.com/gpu", 'type == "gpu"')


def claim(name: str, *devices: str, pool: str = "n1", explicit: bool = False) -> dict[str, Any]:
    """A ResourceClaim with devices of NVIDIA's driver; one that the scheduler made, unless it is `explicit`."""
    results = [
        {"request": "r", "driver": "gpu.nvidia.com", "pool": pool, "device": device} for device in devices
    ]
    made = {} if explicit else {"resource.kubernetes.io/extended-resource-claim": "true"}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "lab", "annotations": made},
        "spec": {},
        "status": {"allocation": {"devices": {"results": results}}} if results else {},
    }
