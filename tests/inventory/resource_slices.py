"""ResourceSlices and DeviceClasses in the shape that NVIDIA's DRA driver 0.4.1 publishes (resource.k8s.io/v1)."""

from typing import Any

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
