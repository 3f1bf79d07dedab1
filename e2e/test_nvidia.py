"""Nodes as NVIDIA's own programs make them, held against what their GPUs and their configuration really give.

Each row is a machine: a board; its GPUs (`whole` is MIG mode off, `empty` MIG mode on without slices, else slices); the
plugin's `migStrategy`; how many shares each resource is given and by what; and the truth, resource by resource. The
programs say what the Node looks like, Slicewise builds pools from it, and the pools have to come out as the truth.

Where this process may not mount in a namespace of its own, the device plugin cannot run. Then the resources of the
truth stand in for its registrations, and each test says `labels-only` in its name.
"""

import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from e2e.harness import nvidia
from e2e.harness.binaries import NVIDIA, Programs, ensure
from slicewise.inventory.node import Node
from slicewise.inventory.pools import Inventory

# The first test that asks waits for the build.
pytestmark = pytest.mark.timeout(1800)

MACHINES: Final = """
t4       whole / whole / whole / whole  none    -      gpu exclusive 4
t4       whole / whole / whole / whole  none    ts10   gpu time-slicing 40
t4       whole                          single  ts4    gpu time-slicing 4
t4       whole / whole                  mixed   ts4r   gpu.shared time-slicing 8
l4       whole                          none    -      gpu exclusive 1
l4       whole / whole                  none    ts4r   gpu.shared time-slicing 8
l4       whole / whole                  none    mps4   gpu mps 8
l4       whole / whole                  single  mps2r  gpu.shared mps 4
a30      whole / whole                  mixed   -      gpu exclusive 2
a30      4x1g.6gb / 4x1g.6gb            single  -      gpu mig 8
a30      4x1g.6gb / 4x1g.6gb            mixed   -      mig-1g.6gb mig 8
a30      2x2g.12gb                      single  -      gpu mig 2
a30      1x4g.24gb / 2x2g.12gb          mixed   -      mig-4g.24gb mig 1, mig-2g.12gb mig 2
a30      1x2g.12gb 2x1g.6gb             mixed   -      mig-2g.12gb mig 1, mig-1g.6gb mig 2
a30      1x2g.12gb 2x1g.6gb             single  -      nothing
a100-40  whole / whole                  none    -      gpu exclusive 2
a100-40  whole / whole                  single  ts4    gpu time-slicing 8
a100-40  whole / whole                  mixed   ts4r   gpu.shared time-slicing 8
a100-40  whole / whole                  none    mps4   gpu mps 8
a100-40  7x1g.5gb / 7x1g.5gb            single  -      gpu mig 14
a100-40  7x1g.5gb / 7x1g.5gb            single  ts4    gpu time-slicing 56
a100-40  7x1g.5gb / 7x1g.5gb            single  ts4r   gpu.shared time-slicing 56
a100-40  7x1g.5gb / 7x1g.5gb            single  mps4   nothing
a100-40  7x1g.5gb / 7x1g.5gb            mixed   -      mig-1g.5gb mig 14
a100-40  7x1g.5gb / 7x1g.5gb            mixed   ts2    mig-1g.5gb time-slicing 28
a100-40  7x1g.5gb / 7x1g.5gb            mixed   ts2r   mig-1g.5gb.shared time-slicing 28
a100-40  7x1g.5gb / 7x1g.5gb            mixed   mps4   nothing
a100-40  7x1g.5gb / 7x1g.5gb            none    -      nothing
a100-40  7x1g.5gb / 7x1g.5gb            none    ts4r   nothing
a100-40  4x1g.10gb                      single  -      gpu mig 4
a100-40  3x2g.10gb / 3x2g.10gb          single  -      gpu mig 6
a100-40  2x3g.20gb                      mixed   -      mig-3g.20gb mig 2
a100-40  whole / 7x1g.5gb               mixed   -      gpu exclusive 1, mig-1g.5gb mig 7
a100-40  whole / 7x1g.5gb               mixed   ts2    gpu time-slicing 2, mig-1g.5gb time-slicing 14
a100-40  whole / 7x1g.5gb               mixed   ts2r   gpu.shared time-slicing 2, mig-1g.5gb.shared time-slicing 14
a100-40  whole / 7x1g.5gb               single  -      nothing
a100-40  whole / empty                  mixed   -      gpu exclusive 1
a100-40  empty / empty                  single  -      nothing
a100-40  empty / empty                  mixed   -      nothing
a100-40  empty / empty                  none    -      nothing
a100-40  7x1g.5gb / empty               mixed   -      mig-1g.5gb mig 7
a100-40  6x1g.5gb 1x1g.5gb+me           mixed   -      mig-1g.5gb mig 7
a100-40  6x1g.5gb 1x1g.5gb+me           single  -      nothing
a100-80  whole / whole                  mixed   -      gpu exclusive 2
a100-80  7x1g.10gb / 7x1g.10gb          single  -      gpu mig 14
a100-80  7x1g.10gb / 7x1g.10gb          mixed   -      mig-1g.10gb mig 14
a100-80  4x1g.20gb / 4x1g.20gb          mixed   -      mig-1g.20gb mig 8
a100-80  2x1g.10gb 1x2g.20gb 1x3g.40gb  mixed   -      mig-1g.10gb mig 2, mig-2g.20gb mig 1, mig-3g.40gb mig 1
a100-80  1x4g.40gb 1x3g.40gb            mixed   ts2    mig-4g.40gb time-slicing 2, mig-3g.40gb time-slicing 2
a100-80  1x7g.80gb / 1x7g.80gb          single  -      gpu mig 2
a100-80  1x7g.80gb / 7x1g.10gb          mixed   -      mig-7g.80gb mig 1, mig-1g.10gb mig 7
h100     whole / whole / whole / whole  single  -      gpu exclusive 4
h100     whole / whole                  none    ts4    gpu time-slicing 8
h100     whole / whole                  single  mps4r  gpu.shared mps 8
h100     7x1g.10gb / 7x1g.10gb          single  -      gpu mig 14
h100     7x1g.10gb / 7x1g.10gb          mixed   -      mig-1g.10gb mig 14
h100     6x1g.10gb 1x1g.10gb+me         mixed   -      mig-1g.10gb mig 7
h100     1x3g.40gb 4x1g.10gb            mixed   -      mig-3g.40gb mig 1, mig-1g.10gb mig 4
h100     whole / 2x3g.40gb              mixed   -      gpu exclusive 1, mig-3g.40gb mig 2
h100     whole / whole / 3x2g.20gb      mixed   ts2r   gpu.shared time-slicing 4, mig-2g.20gb.shared time-slicing 6
"""

SYSTEM: Final = {"cpu": "64", "memory": "512Gi", "pods": "110"}


def _machine(board: str, gpus: str, strategy: str, sharing: str) -> nvidia.Machine:
    layouts = tuple(_layout(gpu) for gpu in gpus.split(" / "))
    profiles = {name for layout in layouts for name in layout or ()}
    return nvidia.Machine(nvidia.BOARDS[board], layouts, strategy, _sharing(sharing, strategy, profiles))


def _layout(gpu: str) -> tuple[str, ...] | None:
    if gpu == "whole":
        return None
    slices = [] if gpu == "empty" else [each.split("x") for each in gpu.split()]
    return tuple(profile for count, profile in slices for _ in range(int(count)))


def _sharing(text: str, strategy: str, profiles: set[str]) -> dict[str, Any]:
    """`ts4` is time-slicing with 4 replicas, `mps2r` MPS with 2 and `renameByDefault`, `-` is none."""
    if text == "-":
        return {}
    kind = "timeSlicing" if text.startswith("ts") else "mps"
    slices = [f"mig-{profile.replace('+', '.')}" for profile in sorted(profiles)]
    names = ["gpu", *(slices if strategy == "mixed" and kind == "timeSlicing" else [])]
    replicas = int(text.removeprefix("ts").removeprefix("mps").removesuffix("r"))
    resources = [{"name": f"nvidia.com/{name}", "replicas": replicas} for name in names]
    return {kind: {"resources": resources, "renameByDefault": text.endswith("r")}}


def _truth(text: str) -> dict[str, tuple[str, int]]:
    rows = [] if text == "nothing" else [each.split() for each in text.split(", ")]
    return {f"nvidia.com/{name}": (strategy, int(count)) for name, strategy, count in rows}


def _rows() -> dict[str, tuple[nvidia.Machine, dict[str, tuple[str, int]]]]:
    rows = {}
    for line in MACHINES.strip().splitlines():
        board, gpus, strategy, sharing, truth = re.split(" {2,}", line)
        machine = _machine(board, gpus, strategy, sharing)
        rows[f"{board}: {gpus}, {strategy}, {sharing}"] = (machine, _truth(truth))
    return rows


ROWS: Final = _rows()
WHOLE: Final = nvidia.mount_namespaces()


@pytest.fixture(scope="module")
def programs() -> Programs:
    return ensure(NVIDIA)


@pytest.mark.parametrize(
    ("machine", "truth"), ROWS.values(), ids=[f"{'' if WHOLE else 'labels-only '}{name}" for name in ROWS]
)
def test_pools_are_what_the_boards_and_their_configuration_give(
    machine: nvidia.Machine, truth: dict[str, tuple[str, int]], programs: Programs, tmp_path: Path
) -> None:
    labels = nvidia.labels(programs, machine, tmp_path)
    numbers = {name: count for name, (_, count) in truth.items()}
    if WHOLE:
        numbers = nvidia.registered(programs, machine, tmp_path, len(numbers))
    resources = SYSTEM | {name: str(count) for name, count in numbers.items()}
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n", "labels": {"nvidia.com/gpu.present": "true", **labels}},
        "spec": {},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    pools = Inventory([msgspec.convert(node, Node)])
    offers = {
        name: (str(unit.strategy), unit.quantity) for pool in pools for name, unit in pool.resources.items()
    }
    assert offers == truth, f"labels {labels}, registered {numbers}"
