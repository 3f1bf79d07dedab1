"""`slicewise deviceclasses`: what it prints, what it says beside that, and its status."""

import json
from pathlib import Path

import pytest
import yaml

from slicewise.cli import main
from tests.inventory.resource_slices import board, device_class, instance, resource_slice

SLICES = [resource_slice(board(), instance("1g.10gb")), device_class("gpu.nvidia.com", "nvidia.com/gpu")]
SERVED = (
    "warning: nvidia.com/gpu is served by DeviceClass gpu.nvidia.com, which is not ours; "
    "no class is printed for it\n"
)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    path = tmp_path / "dra.yaml"
    path.write_text(yaml.safe_dump_all(SLICES))
    return path


def test_classes_go_to_standard_output_and_what_is_another_s_beside_it(
    snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deviceclasses", "--snapshot", str(snapshot)]) == 0
    as_yaml = capsys.readouterr()
    assert main(["deviceclasses", "--snapshot", str(snapshot), "-o", "json"]) == 0
    as_json = capsys.readouterr()
    documents = list(yaml.safe_load_all(as_yaml.out))
    assert [each["metadata"]["name"] for each in documents] == ["h100-80gb-mig-1g-10gb"]
    assert json.loads(as_json.out) == {"apiVersion": "v1", "kind": "List", "items": documents}
    assert as_yaml.err == as_json.err == SERVED


def test_a_cluster_without_slices_wants_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("{apiVersion: v1, kind: List, items: []}")
    assert main(["deviceclasses", "--snapshot", str(path)]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "no DeviceClass is wanted: no complete ResourceSlices of gpu.nvidia.com need one\n"
