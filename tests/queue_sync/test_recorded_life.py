"""The life of a real node, as `e2e/nvidia_node.py` recorded it under a kubelet, looked at as the controller looks."""

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.queue_sync.scenes import GPU, MIXED, ONE
from tests.queue_sync.test_node_trust import Story, quantities

RECORDED: Final = Path(__file__).parents[1] / "inventory/recorded/kubelet-1.36.3"
SHARE = "nvidia.com/gpu.shared"
WHOLE, SHARES = "h100-80gb-exclusive", "h100-80gb-time-slicing-x4"
HALF: Final = {GPU: 1, ONE: 7}
# When, in seconds; which step is seen; what counts then; the label `slicewise.io/pool`. Another division has to settle
# for 60 seconds, and less of the same one is held for 360.
LIFE: Final = [
    (0, "1-whole", {GPU: 2}, WHOLE),
    (10, "2-plugin-gone", {GPU: 2}, WHOLE),
    (20, "1-whole", {GPU: 2}, WHOLE),
    (30, "2-plugin-gone", {GPU: 2}, WHOLE),
    (40, "3-divided-old-labels", {GPU: 2}, WHOLE),
    (50, "4-divided", {GPU: 2}, None),
    (109, "4-divided", {GPU: 2}, None),
    (110, "4-divided", {ONE: 14}, MIXED),
    (120, "5-kubelet-restarted", {ONE: 14}, MIXED),
    (130, "6-half", {ONE: 14}, None),
    (190, "6-half", HALF, MIXED),
    (200, "7-shared", HALF, None),
    (260, "7-shared", {SHARE: 8}, SHARES),
    (560, "8-shared-later", {SHARE: 8}, SHARES),
]


def recorded(step: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((RECORDED / f"{step}.yaml").read_text(encoding="utf-8"))
    document["metadata"]["annotations"] = {}
    return document


@pytest.mark.parametrize("restarts", [False, True], ids=["one process", "restarted before every look"])
def test_what_counts_of_a_real_node_from_whole_boards_to_slices_and_to_shares(restarts: bool) -> None:  # noqa: FBT001
    story = Story(restarts=restarts)
    seen = [
        (at, step, quantities(belief.counted), belief.label)
        for at, step, _, _ in LIFE
        for belief in [story.at(at, recorded(step))]
    ]
    assert seen == LIFE
