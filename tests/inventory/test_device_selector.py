"""The selectors of DeviceClasses: which devices they take, and what is said of those that are not read."""

import pytest

from slicewise.inventory.device_selector import SelectorError, selects
from slicewise.inventory.sources.dra import Device, PublishedDevice
from tests.inventory.resource_slices import H100

ONE = PublishedDevice(
    "gpu-0-mig-1g10gb-0",
    Device(H100, "1g.10gb"),
    {"type": "mig", "profile": "1g.10gb", "productName": H100, "minor": 3, "ready": True},
)
NVIDIA = 'device.attributes["gpu.nvidia.com"]'

TAKEN: dict[str, bool] = {
    "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'mig'": True,
    "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'": False,
    'device.driver == "gpu.amd.com"': False,
    f'{NVIDIA}.profile in ["3g.40gb", "1g.10gb"]': True,
    f'{NVIDIA}.profile in ["3g.40gb"]': False,
    f'{NVIDIA}["profile"] == "1g.10gb"': True,
    f'{NVIDIA}.profile != "1g.10gb"': False,
    f'!({NVIDIA}.type == "gpu")': True,
    f'{NVIDIA}.type == "gpu" || {NVIDIA}.profile == "1g.10gb"': True,
    f"{NVIDIA}.minor == 3 && {NVIDIA}.ready == true && {NVIDIA}.ready": True,
    f'{NVIDIA}.minor == "3"': False,
    "true": True,
    "false || true && false": False,
    # An attribute that the device does not have takes nothing, however it is turned.
    f'{NVIDIA}.uuid == "GPU-0"': False,
    f'{NVIDIA}.uuid != "GPU-0"': False,
    f'!({NVIDIA}.uuid == "GPU-0")': False,
    'device.attributes["gpu.amd.com"].type != "gpu"': False,
    # … unless another term decides.
    f'{NVIDIA}.uuid == "GPU-0" || {NVIDIA}.type == "mig"': True,
    f'!({NVIDIA}.uuid == "GPU-0" && {NVIDIA}.type == "gpu")': True,
}


@pytest.mark.parametrize(("expression", "taken"), TAKEN.items())
def test_a_selector_takes_what_cel_takes(expression: str, *, taken: bool) -> None:
    assert selects(expression, ONE) is taken


UNREAD: dict[str, str] = {
    f'{NVIDIA}.productName.startsWith("NVIDIA")': "it has '.' after productName, which is not read",
    'has(device.attributes["gpu.nvidia.com"].uuid)': "it has 'has', which is not read",
    f"{NVIDIA}.minor + 1 == 3": "it has '+ 1 == 3', which is not read",
    "device.capacity": "it has capacity where attributes should be",
    'device.driver == "x" true': "it has 'true' where it should end",
    "device.driver ==": "it ends too early",
    "": "it ends too early",
    "(true": "it has its end where ) should be",
    "device.attributes[1].type": "it has '1' where a text should be",
    r'device.driver == "\x"': r'it has "\x", which is no text',
    "!" * 40 + "true": "it is nested more than 32 deep",
    "(" * 40 + "true": "it is nested more than 32 deep",
    "true || " * 2000 + "true": "it is longer than 10240 characters",
}


@pytest.mark.parametrize(("expression", "words"), UNREAD.items(), ids=range(len(UNREAD)))
def test_what_is_not_read_is_said_and_never_guessed(expression: str, words: str) -> None:
    with pytest.raises(SelectorError) as raised:
        selects(expression, ONE)
    assert str(raised.value) == words
