"""The DeviceClasses of what is published: their names, what they serve, and which are left to others."""

from typing import Any

import pytest

from slicewise.inventory.device_classes import device_classes
from slicewise.inventory.served_names import read_device_class
from slicewise.inventory.sources.dra import Device
from tests.inventory.resource_slices import A100, H100, device_class

GPU = "nvidia.com/gpu"
SLICE = "nvidia.com/mig-1g.10gb"
ONE = Device(H100, "1g.10gb")
OURS = {"slicewise.io/managed": "true"}
NVIDIA = device_class("gpu.nvidia.com", GPU)


def names(documents: list[dict[str, Any]]) -> dict[str, str | None]:
    return {each["metadata"]["name"]: each["spec"].get("extendedResourceName") for each in documents}


def expression(document: dict[str, Any]) -> str:
    (selector,) = document["spec"]["selectors"]
    return str(selector["cel"]["expression"])


def test_a_class_selects_the_profile_on_the_model() -> None:
    assert device_classes([ONE], []) == (
        [
            {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "DeviceClass",
                "metadata": {"name": "h100-80gb-mig-1g-10gb", "labels": OURS},
                "spec": {
                    "extendedResourceName": SLICE,
                    "selectors": [
                        {
                            "cel": {
                                "expression": 'device.driver == "gpu.nvidia.com" && '
                                'device.attributes["gpu.nvidia.com"].type == "mig" && '
                                'device.attributes["gpu.nvidia.com"].productName == "NVIDIA H100 80GB HBM3" && '
                                'device.attributes["gpu.nvidia.com"].profile == "1g.10gb"'
                            }
                        }
                    ],
                },
            }
        ],
        [],
    )


CLASSES: dict[str, tuple[list[Device], list[dict[str, Any]], dict[str, str | None]]] = {
    "whole boards, when nobody serves their name": ([Device(H100)], [], {"h100-80gb-gpu": GPU}),
    "a profile with an attribute, as resources spell it": (
        [Device(H100, "1g.10gb+me")],
        [],
        {"h100-80gb-mig-1g-10gb-me": "nvidia.com/mig-1g.10gb.me"},
    ),
    "two packagings are one model": (
        [Device(A100, "1g.10gb"), Device("NVIDIA A100 80GB PCIe", "1g.10gb")],
        [],
        {"a100-80gb-mig-1g-10gb": SLICE},
    ),
    "a profile of two models: one class has the name": (
        [ONE, Device(A100, "1g.10gb")],
        [],
        {"a100-80gb-mig-1g-10gb": None, "h100-80gb-mig-1g-10gb": None, "mig-1g-10gb": SLICE},
    ),
    "classes of ours are printed again": (
        [ONE],
        [device_class("h100-80gb-mig-1g-10gb", SLICE, **OURS)],
        {"h100-80gb-mig-1g-10gb": SLICE},
    ),
    "a class that serves another name is in nobody's way": (
        [ONE],
        [NVIDIA, device_class("mig.nvidia.com")],
        {"h100-80gb-mig-1g-10gb": SLICE},
    ),
}


@pytest.mark.parametrize(("devices", "standing", "expected"), CLASSES.values(), ids=CLASSES)
def test_each_profile_and_model_has_a_class_and_each_name_one(
    devices: list[Device], standing: list[dict[str, Any]], expected: dict[str, str | None]
) -> None:
    documents, complaints = device_classes(devices, map(read_device_class, standing))
    assert names(documents) == expected
    assert complaints == []


def test_the_class_over_all_models_selects_them_all() -> None:
    documents, _ = device_classes([ONE, Device(A100, "1g.10gb")], [])
    by_name = {each["metadata"]["name"]: expression(each) for each in documents}
    assert f'.productName in ["{A100}", "{H100}"] && ' in by_name["mig-1g-10gb"]
    assert f'.productName == "{A100}" && ' in by_name["a100-80gb-mig-1g-10gb"]


UNPRINTED: dict[str, tuple[list[Device], dict[str, Any], str]] = {
    "NVIDIA's own class serves whole boards": (
        [Device(H100)],
        NVIDIA,
        "nvidia.com/gpu is served by DeviceClass gpu.nvidia.com, which is not ours",
    ),
    "somebody's class serves the profile": (
        [ONE],
        device_class("theirs", SLICE),
        "nvidia.com/mig-1g.10gb is served by DeviceClass theirs, which is not ours",
    ),
    "somebody's class has the name of ours": (
        [ONE],
        device_class("h100-80gb-mig-1g-10gb"),
        "DeviceClass h100-80gb-mig-1g-10gb stands and is not ours",
    ),
}


@pytest.mark.parametrize(("devices", "other", "words"), UNPRINTED.values(), ids=UNPRINTED)
def test_what_is_another_s_is_said_and_not_printed(
    devices: list[Device], other: dict[str, Any], words: str
) -> None:
    documents, (complaint,) = device_classes(devices, [read_device_class(other)])
    assert documents == []
    assert complaint.startswith(words)


def test_a_product_name_stays_a_text_within_cel() -> None:
    (document,), _ = device_classes([Device('x" || true || "')], [])
    assert r'.productName == "x\" || true || \""' in expression(document)


def test_a_long_model_is_cut_and_stays_apart_from_its_neighbour() -> None:
    documents, _ = device_classes([Device("a" * 63 + "x", "1g.10gb"), Device("a" * 63 + "y", "1g.10gb")], [])
    assert len(names(documents)) == 3
    assert all(len(name) <= 63 for name in names(documents))
