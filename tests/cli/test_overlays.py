"""`slicewise overlays`: what Karpenter is told of nodes that have not come yet."""

from typing import Any

import pytest

from slicewise.cli.overlays import overlays
from slicewise.inventory.pools import Inventory
from tests.inventory.nodes import BALANCED, document, read
from tests.inventory.test_declared_pools import GPU, plan

SLICE = "nvidia.com/mig-1g.10gb"
MIXED = "h100-80gb-mig-mixed"


def capacities(documents: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    return {each["metadata"]["name"]: each["spec"]["capacity"] for each in documents}


def test_an_overlay_is_for_the_node_pool_whose_label_names_the_pool() -> None:
    declared = plan({MIXED: {SLICE: 56, GPU: 8}}, perNode={MIXED: {SLICE: 14, GPU: 2}})
    assert overlays(Inventory(), [declared]) == (
        [
            {
                "apiVersion": "karpenter.sh/v1alpha1",
                "kind": "NodeOverlay",
                "metadata": {"name": f"slicewise-{MIXED}"},
                "spec": {
                    "requirements": [{"key": "slicewise.io/pool", "operator": "In", "values": [MIXED]}],
                    "capacity": {SLICE: "14"},
                },
            }
        ],
        [],
    )


def test_without_a_word_about_one_node_the_largest_that_stands_is_taken() -> None:
    status = {"mig-1g.10gb": 16, "mig-2g.20gb": 8, "mig-3g.40gb": 8}
    standing = Inventory([read(document("n", BALANCED, status))])
    documents, complaints = overlays(standing, [plan({MIXED: {SLICE: 56}})])
    assert capacities(documents) == {
        f"slicewise-{MIXED}": {SLICE: "16", "nvidia.com/mig-2g.20gb": "8", "nvidia.com/mig-3g.40gb": "8"}
    }
    assert complaints == []


@pytest.mark.parametrize(
    ("maximum", "words"),
    [
        ({MIXED: {SLICE: 56}}, "no node yet, and no plan says what one will have; give it under perNode"),
        ({"t4-time-slicing-x10": {GPU: 40}}, "rename them in the device plugin"),
        ({"a100-40gb-mig-single-1g-5gb": {GPU: 56}}, "rename them in the device plugin"),
    ],
)
def test_what_no_overlay_can_say_is_told(maximum: Any, words: str) -> None:
    documents, (complaint,) = overlays(Inventory(), [plan(maximum)])
    assert documents == []
    assert words in complaint


def test_karpenter_knows_whole_boards_itself() -> None:
    assert overlays(Inventory(), [plan({"l4-exclusive": {GPU: 8}})]) == ([], [])
