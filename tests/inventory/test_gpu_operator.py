"""What is planned for a node, from the MIG manager's and the device plugin's files."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.inventory.gpu_operator import (
    ConfigError,
    Configs,
    Planned,
    Sharing,
    collect,
    differs,
    planned,
    read_geometries,
    read_sharing,
    sharing_of,
)
from slicewise.inventory.sources.gpu_feature_discovery import operator_labels, read

MIG_FILE = """
version: v1
mig-configs:
  all-disabled:
  - {devices: all, mig-enabled: false}
  all-1g.10gb:
  - {device-filter: ["0x233010DE", "0x20B210DE"], devices: all, mig-enabled: true, mig-devices: {1g.10gb: 7}}
  - {device-filter: "0x20B010DE", devices: all, mig-enabled: true, mig-devices: {1g.10gb: 4}}
  training-4g:
  - {devices: [0, 1], mig-enabled: true, mig-devices: {4g.40gb: 1, 3g.40gb: 1}}
  overlapping:
  - {devices: all, mig-enabled: true, mig-devices: {1g.10gb: 7}}
  - {devices: [0, 1], mig-enabled: true, mig-devices: {3g.40gb: 2, 1g.10gb: 0}}
  - {devices: [1, 99], mig-enabled: false}
  overruled:
  - {devices: [0], mig-enabled: true, mig-devices: {3g.40gb: 2}}
  - {devices: all, mig-enabled: true, mig-devices: {1g.10gb: 7, 2g.20gb: 0}}
  too-much:
  - {devices: all, mig-enabled: true, mig-devices: {3g.40gb: 2, 1g.10gb: 1}}
"""
PLUGIN_FILE = """
version: v1
flags: {migStrategy: mixed}
sharing:
  timeSlicing:
    renameByDefault: true
    resources: [{name: nvidia.com/gpu, replicas: 10}]
"""
CONFIGS = Configs(read_geometries(MIG_FILE), {"ts10": read_sharing(PLUGIN_FILE)})


def h100(config: str, **labels: str) -> dict[str, str]:
    facts = {"gpu.product": "NVIDIA-H100-80GB-HBM3", "gpu.count": "8", "mig.config": config}
    return {f"nvidia.com/{key}": value for key, value in {**facts, **labels}.items()}


def plan(labels: dict[str, str], configs: Configs = CONFIGS) -> Planned:
    facts = read(labels)
    assert facts is not None
    return planned(operator_labels(labels).mig_config, facts, configs)


PLANNED = {
    "off": (h100("all-disabled"), {}),
    "by device filter": (h100("all-1g.10gb"), {"1g.10gb": 56}),
    "another board of the same file": (
        h100("all-1g.10gb", **{"gpu.product": "NVIDIA-A100-SXM4-40GB"}),
        {"1g.10gb": 32},
    ),
    "boards by index": (h100("training-4g"), {"4g.40gb": 2, "3g.40gb": 2}),
    "the last of several entries for a board": (h100("overlapping"), {"1g.10gb": 42, "3g.40gb": 2}),
    "an entry for all boards after one for some": (h100("overruled"), {"1g.10gb": 56}),
    "count is of slices under single": (
        h100("all-1g.10gb", **{"gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "gpu.count": "56"}),
        {"1g.10gb": 56},
    ),
}


@pytest.mark.parametrize(("labels", "slices"), PLANNED.values(), ids=PLANNED)
def test_what_a_node_is_meant_to_become(labels: dict[str, str], slices: dict[str, int]) -> None:
    found = plan(labels)
    assert (dict(found.slices), found.impossible, found.unknown) == (slices, "", "")


def test_an_impossible_geometry_is_called_so_before_anyone_waits() -> None:
    assert plan(h100("too-much")).impossible == (
        "nvidia.com/mig.config too-much is impossible here: "
        "2 × 3g.40gb + 1 × 1g.10gb cannot be placed on the 8 memory slices of this board"
    )


def test_a_name_that_no_file_has_is_not_guessed() -> None:
    assert plan(h100("mine")).unknown == (
        "nvidia.com/mig.config asks for mine, which no known configuration has"
    )


UNKNOWN = {
    "a board that is in no table": (
        {"gpu.product": "NVIDIA-Z9-80GB"},
        "which entries of all-1g.10gb are for NVIDIA-Z9-80GB",
    ),
    "a board that no entry is for": (
        {"gpu.product": "NVIDIA-A30"},
        "all-1g.10gb says nothing of boards such as NVIDIA-A30",
    ),
}


@pytest.mark.parametrize(("labels", "words"), UNKNOWN.values(), ids=UNKNOWN)
def test_of_boards_that_a_file_does_not_speak_of_nothing_is_said(labels: dict[str, str], words: str) -> None:
    found = plan(h100("all-1g.10gb", **labels))
    assert words in found.unknown
    assert differs(found, {"2g.12gb": 2}) == ""


def test_boards_that_are_not_spoken_of_may_be_as_they_are() -> None:
    some, all_of_them = (
        plan(h100("training-4g")),
        plan(h100("training-4g", **{"gpu.count": "2"})),
    )
    assert (some.partial, all_of_them.partial) == (True, False)
    shown = {"4g.40gb": 2, "3g.40gb": 2, "1g.10gb": 42}
    assert differs(some, shown) == ""
    assert differs(all_of_them, shown).startswith("2 × 3g.40gb + 2 × 4g.40gb is planned, 42 × 1g.10gb")
    assert some.names(shown)
    assert not all_of_them.names(shown)
    assert not some.names({"1g.10gb": 56})


def test_a_geometry_that_came_about_is_not_called_impossible() -> None:
    found = plan(h100("too-much"))
    assert found.impossible
    assert differs(found, {"3g.40gb": 16, "1g.10gb": 8}) == ""
    assert differs(found, {}) == found.impossible


def test_a_result_that_differs_is_told() -> None:
    found = plan(h100("training-4g"))
    assert differs(found, {"4g.40gb": 2, "3g.40gb": 2}) == ""
    assert differs(found, {"4g.40gb": 2}) == "2 × 3g.40gb + 2 × 4g.40gb is planned, 2 × 4g.40gb is shown"


def test_sharing_is_read_with_the_plugins_defaults() -> None:
    assert sharing_of("ts10", CONFIGS) == Sharing("mixed", "time-slicing", {"nvidia.com/gpu": 10}, False)
    mps = read_sharing("sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}")
    assert (mps.strategy, mps.fails_above_one) == ("mps", True)


def test_a_key_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match=r"asks for 'ts4', which does not exist \(there are: ts10\)"):
        sharing_of("ts4", CONFIGS)


BAD = {
    "no geometry": ("mig-configs: 1", "not a MIG manager configuration"),
    "profile": (
        "mig-configs: {a: [{devices: all, mig-enabled: true, mig-devices: {big: 1}}]}",
        "'big' is no MIG",
    ),
    "a key twice": ("mig-configs: {a: [], a: []}", "the key a stands twice"),
    "two documents": ("mig-configs: {}\n---\nmig-configs: {}", "holds 2 documents; write one"),
    "a list": ("- mig-configs:", "Expected `object`, got `array`"),
    "deep nesting": ("mig-configs: " + "[" * 300 + "]" * 300, "nested more than 200 deep"),
    "half of a character": ("mig-configs: {\ud800: []}", "half of a character"),
    "devices": ("mig-configs: {a: [{devices: some, mig-enabled: true}]}", "write all or a list of indices"),
}


@pytest.mark.parametrize(("text", "sentence"), BAD.values(), ids=BAD)
def test_a_file_that_cannot_be_used_says_why(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_geometries(text)


def test_an_impossible_date_is_text_as_it_is_for_kubectl() -> None:
    assert read_sharing("flags: {migStrategy: 2026-13-45}").mig_strategy == "2026-13-45"


TEXTS = st.text() | st.builds(
    lambda text, at, end, what: text[:at] + what + text[max(at, end) :],
    st.sampled_from([MIG_FILE, PLUGIN_FILE]),
    st.integers(0, 700),
    st.integers(0, 700),
    st.sampled_from(["", "[]", "{", "2026-13-45", "&a", "*a", "\ud800", "\0", "!!python/none", "- ", "1e400"])
    | st.text(max_size=8),
)


@given(TEXTS)
def test_whatever_is_in_a_config_map_it_is_read_or_complained_of_in_one_line(text: str) -> None:
    metadata = {"name": "damaged"}
    _, complaints = collect(
        [
            {
                "metadata": metadata,
                "data": {"config.yaml": "mig-configs:\n" + text, "any": "version: v1\n" + text, "own": text},
            }
        ]
    )
    assert all(
        complaint.startswith("ConfigMap damaged: ") and "\n" not in complaint for complaint in complaints
    )


def test_one_share_is_no_sharing() -> None:
    with pytest.raises(ConfigError, match="write two or more"):
        read_sharing("sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 1}]}}")


def test_config_maps_are_found_by_what_they_hold() -> None:
    maps = [
        {"metadata": {"name": "mig"}, "data": {"config.yaml": MIG_FILE}},
        {"metadata": {"name": "plugin"}, "data": {"ts10": PLUGIN_FILE, "other": "sharing: 3"}},
        {"metadata": {"name": "unrelated"}, "data": {"key": "value"}},
    ]
    found, complaints = collect(maps)
    assert set(found.geometries) == {
        "all-disabled",
        "all-1g.10gb",
        "training-4g",
        "overlapping",
        "overruled",
        "too-much",
    }
    assert set(found.sharings) == {"ts10"}
    assert len(complaints) == 1
    assert complaints[0].startswith("ConfigMap plugin: other: this is not a device plugin configuration")


@pytest.mark.parametrize(
    ("product", "device", "profile"),
    [
        ("NVIDIA-B300-SXM6-AC", "0x318210DE", "1g.34gb"),
        ("NVIDIA-H20", "0x232910DE", "1g.12gb"),
        ("NVIDIA-A800-SXM4-80GB", "0x20F310DE", "1g.10gb"),
        ("NVIDIA-H800", "0x232410DE", "1g.10gb"),
        ("NVIDIA-GH200-144G-HBM3e", "0x234810DE", "1g.18gb"),
    ],
)
def test_a_filter_finds_the_boards_that_are_sold_under_other_names(
    product: str, device: str, profile: str
) -> None:
    entry = {"device-filter": [device], "devices": "all", "mig-enabled": True, "mig-devices": {profile: 7}}
    geometries = read_geometries(json.dumps({"mig-configs": {"all": [entry]}}))
    labels = {"nvidia.com/mig.config": "all", "nvidia.com/gpu.product": product, "nvidia.com/gpu.count": "2"}
    assert plan(labels, Configs(geometries)).slices == {profile: 14}
