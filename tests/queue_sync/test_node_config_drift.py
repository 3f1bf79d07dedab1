"""Nodes beside what is planned for them: on their way, impossible, and not what they should be."""

from typing import Any

import pytest

from slicewise.api import keys
from slicewise.inventory import planned_geometry
from slicewise.inventory.gpu_operator import Configs, collect
from slicewise.inventory.node_annotation import PersistedOffer, write_offer_annotation
from slicewise.inventory.node_state import Observation
from slicewise.inventory.pools import Inventory
from tests.queue_sync.scenes import GPU, exclusive, mixed, node, read_node, sliced

MIG_FILE = """
version: v1
mig-configs:
  all-1g.10gb:
  - {devices: all, mig-enabled: true, mig-devices: {1g.10gb: 7}}
  research:
  - {devices: all, mig-enabled: true, mig-devices: {3g.40gb: 1, 4g.40gb: 1}}
  first-only:
  - {devices: [0], mig-enabled: true, mig-devices: {1g.10gb: 7}}
  whole:
  - {devices: all, mig-enabled: false}
  too-much:
  - {devices: all, mig-enabled: true, mig-devices: {3g.40gb: 2, 1g.10gb: 1}}
  other-boards:
  - {device-filter: "0xFFFF10DE", devices: all, mig-enabled: true, mig-devices: {1g.10gb: 7}}
"""
SHARES = "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 10}]}}"
FILES = [
    {"metadata": {"name": "mig"}, "data": {"config.yaml": MIG_FILE}},
    {"metadata": {"name": "plugin"}, "data": {"ten": SHARES, "plain": "version: v1\n"}},
]
CONFIGS, COMPLAINTS = collect(FILES)
SEVEN, SPLIT = {"1g.10gb": 7}, {"3g.40gb": 1, "4g.40gb": 1}


def asked(document: dict[str, Any], config: str, state: str = "success") -> dict[str, Any]:
    document["metadata"]["labels"] |= {keys.MIG_CONFIG: config, keys.MIG_CONFIG_STATE: state}
    return document


def two_boards(document: dict[str, Any]) -> dict[str, Any]:
    document["metadata"]["labels"][keys.COUNT] = "2"
    return document


def seen(document: dict[str, Any], configs: Configs = CONFIGS) -> Observation:
    found = planned_geometry.observe(read_node(document), configs)
    assert found is not None
    return found


def codes(document: dict[str, Any], configs: Configs = CONFIGS) -> list[str]:
    return [concern.code for concern in planned_geometry.concerns(seen(document, configs), configs)]


def test_the_files_are_sound() -> None:
    assert COMPLAINTS == ()
    assert set(CONFIGS.sharings) == {"ten", "plain"}


ON_THE_WAY = {
    "a custom geometry": (
        asked(mixed("n", SEVEN), "research"),
        "which is 3g.40gb, 4g.40gb; the node shows 1g.10gb",
    ),
    "whole boards": (asked(mixed("n", SEVEN), "whole"), "which is no slices; the node shows 1g.10gb"),
    "a part of the boards": (
        asked(mixed("n", SPLIT), "first-only"),
        "which is 1g.10gb; the node shows 3g.40gb",
    ),
    "impossible": (
        asked(mixed("n", SEVEN), "too-much"),
        "is impossible here: 2 × 3g.40gb + 1 × 1g.10gb cannot",
    ),
}


@pytest.mark.parametrize(("document", "words"), ON_THE_WAY.values(), ids=ON_THE_WAY)
def test_a_node_that_does_not_show_what_is_planned_is_not_settled(document: Any, words: str) -> None:
    (doubt,) = seen(document).doubts
    assert (doubt.code, doubt.changing) == ("config", True)
    assert words in doubt.words
    assert planned_geometry.observe(read_node(document), Configs()) == planned_geometry.observe(
        read_node(document), Configs(sharings=CONFIGS.sharings)
    )


SETTLED = {
    "a custom geometry": asked(mixed("n", SPLIT), "research"),
    "more on boards that are not spoken of": two_boards(asked(mixed("n", {**SEVEN, **SPLIT}), "first-only")),
    "a name that no file has": asked(mixed("n", SEVEN), "mine"),
    "a file that says nothing of such boards": asked(mixed("n", SEVEN), "other-boards"),
    "no configuration": mixed("n", SEVEN),
    "whole boards": asked(exclusive("n"), "whole"),
}


@pytest.mark.parametrize("document", SETTLED.values(), ids=SETTLED)
def test_a_node_that_shows_it_or_of_which_nothing_is_known_is_settled(document: Any) -> None:
    assert seen(document).settled


def test_a_known_geometry_says_more_than_its_name() -> None:
    text = "mig-configs: {all-1g.10gb: [{devices: all, mig-enabled: true, mig-devices: {3g.40gb: 1, 4g.40gb: 1}}]}"
    configs, _ = collect([{"metadata": {"name": "mine"}, "data": {"config.yaml": text}}])
    assert not seen(asked(mixed("n", SPLIT), "all-1g.10gb")).settled
    assert seen(asked(mixed("n", SPLIT), "all-1g.10gb"), configs).settled


def test_a_failed_change_is_no_change_that_is_under_way() -> None:
    doubts = seen(asked(mixed("n", SEVEN), "research", "failed")).doubts
    assert [doubt.code for doubt in doubts] == ["mig-failed"]


def test_files_for_one_node_are_for_that_node() -> None:
    text = "mig-configs: {research: [{devices: all, mig-enabled: true, mig-devices: {1g.10gb: 7}}]}"
    own = {"metadata": {"name": "n-mig-config", "labels": {"nvidia.com/node-name": "n"}}, "data": {"c": text}}
    configs, complaints = collect([*FILES, own])
    assert complaints == ()
    assert seen(asked(mixed("n", SEVEN), "research"), configs).settled
    assert not seen(asked(mixed("m", SEVEN), "research"), configs).settled


def test_one_name_with_two_meanings_is_known_to_neither() -> None:
    text = "mig-configs: {research: [{devices: all, mig-enabled: true, mig-devices: {1g.10gb: 7}}]}"
    configs, complaints = collect([*FILES, {"metadata": {"name": "second"}, "data": {"c": text}}])
    (complaint,) = complaints
    assert complaint == (
        "ConfigMap second: c: research is defined otherwise in another ConfigMap, so what it means is not known; "
        "remove one of them, or give it another name"
    )
    assert "research" not in configs.geometries
    assert "too-much" in configs.geometries


def labelled(document: dict[str, Any], config: str) -> dict[str, Any]:
    document["metadata"]["labels"]["nvidia.com/device-plugin.config"] = config
    return document


CONCERNS = {
    "impossible": (asked(mixed("n", SEVEN), "too-much"), ["ImpossibleGeometry"]),
    "impossible and failed": (asked(mixed("n", SEVEN), "too-much", "failed"), ["ImpossibleGeometry"]),
    "a name that no file has": (asked(mixed("n", SEVEN), "mine"), ["UnknownGeometry"]),
    "a name that may be generated": (asked(mixed("n", {"2g.20gb": 3}), "all-2g.20gb"), []),
    "fewer than planned": (asked(mixed("n", {"1g.10gb": 6}), "all-1g.10gb"), ["GeometryDiffers"]),
    "as planned": (asked(mixed("n", SEVEN), "all-1g.10gb"), []),
    "on its way": (asked(mixed("n", SEVEN), "research"), []),
    "shares as planned": (labelled(sliced("n", 10), "ten"), []),
    "other shares": (labelled(sliced("n", 4), "ten"), ["SharingDiffers"]),
    "shares that are planned no more": (labelled(sliced("n", 4), "plain"), ["SharingDiffers"]),
    "a file that does not exist": (labelled(sliced("n", 10), "eleven"), ["MissingPluginConfig"]),
}


@pytest.mark.parametrize(("document", "found"), CONCERNS.values(), ids=CONCERNS)
def test_what_an_admin_should_know(document: Any, found: list[str]) -> None:
    assert codes(document) == found
    assert codes(document, Configs()) == []


def test_a_kept_belief_counts_while_a_node_is_on_its_way() -> None:
    before = seen(mixed("n", SEVEN))
    kept = {keys.OFFER: write_offer_annotation(PersistedOffer(before.offer, "2026-01-01T00:00:00Z"))}
    documents = [asked(mixed("n", SEVEN, annotations=kept), "research"), asked(mixed("m", SEVEN), "research")]
    (pool,) = Inventory([read_node(each) for each in documents], CONFIGS)
    assert {name: each.quantity for name, each in pool.resources.items()} == {"nvidia.com/mig-1g.10gb": 7}
    assert [each.node for each in pool.unsettled] == ["m", "n"]


def test_a_node_without_gpus_has_no_plan() -> None:
    assert planned_geometry.observe(read_node(node("n", {}, {})), CONFIGS) is None
    members = [read_node(node("n", {}, {})), read_node(exclusive("m"))]
    assert [set(pool.resources) for pool in Inventory(members, CONFIGS)] == [{GPU}]
