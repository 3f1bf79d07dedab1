"""Clouds as their own labels describe them: labels and numbers in, the pool that they make out."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import slicewise
from slicewise.api import keys
from slicewise.gpu import mig
from slicewise.gpu.strategies import Strategy
from slicewise.inventory import sources
from slicewise.inventory.node_state import NodeRules
from slicewise.inventory.planned_geometry import observe
from slicewise.inventory.pools import Inventory, Pool
from slicewise.inventory.sources import Facts, doks, gke, gpu_feature_discovery, karpenter
from tests.inventory.nodes import document, read

MIG, EXCLUSIVE, TIME, MPS, SHARED = (
    Strategy.MIG,
    Strategy.EXCLUSIVE,
    Strategy.TIME_SLICING,
    Strategy.MPS,
    Strategy.SHARED,
)
GKE = "cloud.google.com/gke-"
AWS = "karpenter.k8s.aws/instance-gpu-"
AUTO = "eks.amazonaws.com/instance-gpu-"
ACK = "aliyun.accelerator/nvidia_"
CW = "gpu.nvidia.com/"
DOKS = "doks.digitalocean.com/gpu-"
AKS = {"kubernetes.azure.com/accelerator": "nvidia"}
TYPE = "node.kubernetes.io/instance-type"


def prefixed(prefix: str, **labels: str) -> dict[str, str]:
    return {prefix + key.replace("_", "-"): value for key, value in labels.items()}


# Labels, capacity -> the pool's name, and of its resources: quantity, strategy, MiB of one.
Offers = Mapping[str, tuple[int, Strategy, int | None]]
CLOUDS: dict[str, tuple[dict[str, str], dict[str, int], str, Offers]] = {
    "GKE, whole": (
        prefixed(GKE, accelerator="nvidia-l4", accelerator_count="4"),
        {"gpu": 4},
        "l4-exclusive",
        {"gpu": (4, EXCLUSIVE, 23034)},
    ),
    "GKE, time-sharing": (
        prefixed(
            GKE,
            accelerator="nvidia-tesla-t4",
            accelerator_count="2",
            gpu_sharing_strategy="time-sharing",
            max_shared_clients_per_gpu="3",
        ),
        {"gpu": 6},
        "t4-time-slicing-x3",
        {"gpu": (6, TIME, 15360)},
    ),
    "GKE, MPS": (
        prefixed(
            GKE,
            accelerator="nvidia-l4",
            accelerator_count="1",
            gpu_sharing_strategy="mps",
            max_shared_clients_per_gpu="10",
        ),
        {"gpu": 10},
        "l4-mps-x10",
        {"gpu": (10, MPS, 2303)},
    ),
    "GKE, MIG": (
        prefixed(GKE, accelerator="nvidia-tesla-a100", accelerator_count="2", gpu_partition_size="1g.5gb"),
        {"gpu": 14},
        "a100-40gb-mig-single-1g-5gb",
        {"gpu": (14, MIG, 4864)},
    ),
    "GKE, MIG that is shared": (
        prefixed(
            GKE,
            accelerator="nvidia-h100-80gb",
            accelerator_count="1",
            gpu_partition_size="1g.10gb",
            gpu_sharing_strategy="time-sharing",
            max_shared_clients_per_gpu="2",
        ),
        {"gpu": 14},
        "h100-80gb-mig-single-1g-10gb-x2",
        {"gpu": (14, TIME, 9984)},
    ),
    "GKE, a board that nobody knows": (
        prefixed(GKE, accelerator="nvidia-x9000", accelerator_count="8"),
        {"gpu": 8},
        "x9000-exclusive",
        {"gpu": (8, EXCLUSIVE, None)},
    ),
    "GKE, an eighth of a board": (
        {**prefixed(GKE, accelerator="nvidia-rtx-pro-6000", accelerator_count="1"), TYPE: "g4-standard-6"},
        {"gpu": 1},
        "rtx-pro-6000-blackwell-server-edition-12gb-vgpu",
        {"gpu": (1, Strategy.VGPU, 12235)},
    ),
    "GKE, half of a board, shared in time": (
        {
            **prefixed(
                GKE,
                accelerator="nvidia-rtx-pro-6000",
                gpu_sharing_strategy="time-sharing",
                max_shared_clients_per_gpu="2",
            ),
            TYPE: "g4-standard-24",
        },
        {"gpu": 2},
        "rtx-pro-6000-blackwell-server-edition-48gb-time-slicing-x2",
        {"gpu": (2, TIME, 48943)},
    ),
    "GKE, the board of a virtual workstation": (
        prefixed(GKE, accelerator="nvidia-l4-vws", accelerator_count="1"),
        {"gpu": 1},
        "l4-exclusive",
        {"gpu": (1, EXCLUSIVE, 23034)},
    ),
    "Karpenter": (
        prefixed(AWS, name="l4", count="2", memory="22888", manufacturer="nvidia"),
        {"gpu": 2},
        "l4-exclusive",
        {"gpu": (2, EXCLUSIVE, 22888)},
    ),
    "Karpenter, one name for two boards": (
        prefixed(AWS, name="a100", count="8", memory="81920", manufacturer="nvidia"),
        {"gpu": 8},
        "a100-80gb-exclusive",
        {"gpu": (8, EXCLUSIVE, 81920)},
    ),
    "Karpenter, a part of a board, of which EC2 counts 0": (
        prefixed(AWS, name="l4", count="0", memory="2861", manufacturer="nvidia"),
        {"gpu": 1},
        "l4-3gb-vgpu",
        {"gpu": (1, Strategy.VGPU, 2861)},
    ),
    "Karpenter, a whole board of which EC2 counts 0": (
        prefixed(AWS, name="h100", count="0", memory="81920", manufacturer="nvidia"),
        {"gpu": 1},
        "h100-80gb-exclusive",
        {"gpu": (1, EXCLUSIVE, 81920)},
    ),
    "Karpenter, divided by the device plugin": (
        prefixed(AWS, name="a100", count="8", memory="40960", manufacturer="nvidia"),
        {"gpu": 0, "mig-1g.5gb": 56},
        "a100-40gb-mig-mixed",
        {"mig-1g.5gb": (56, MIG, 4864)},
    ),
    "Karpenter, some boards divided and some whole": (
        prefixed(AWS, name="a100", count="8", memory="40960", manufacturer="nvidia"),
        {"gpu": 1, "mig-1g.5gb": 49},
        "a100-40gb-mig-mixed",
        {"gpu": (1, EXCLUSIVE, 40960), "mig-1g.5gb": (49, MIG, 4864)},
    ),
    "Bottlerocket, divided and shared": (
        prefixed(AWS, name="a100", count="8", memory="81920", manufacturer="nvidia"),
        {"gpu": 0, "mig-1g.10gb.shared": 112},
        "a100-80gb-mig-mixed-shared",
        {"mig-1g.10gb.shared": (112, SHARED, 9728)},
    ),
    "EKS Auto Mode": (
        prefixed(AUTO, name="h200", count="8", manufacturer="nvidia"),
        {"gpu": 8},
        "h200-exclusive",
        {"gpu": (8, EXCLUSIVE, 143771)},
    ),
    "Bottlerocket, shared in a way that nothing tells": (
        prefixed(AWS, name="a10g", count="4", memory="22888", manufacturer="nvidia"),
        {"gpu": 0, "gpu.shared": 40},
        "a10g-shared",
        {"gpu.shared": (40, SHARED, 22888)},
    ),
    "ACK": (
        {ACK + "name": "Tesla-V100-SXM2-32GB", ACK + "mem": "32510MiB", ACK + "count": "8"},
        {"gpu": 8},
        "v100-32gb-exclusive",
        {"gpu": (8, EXCLUSIVE, 32510)},
    ),
    "CoreWeave": (
        {
            CW + "class": "H100_NVLINK_80GB",
            CW + "model": "H100_NVLINK_80GB",
            CW + "count": "8",
            CW + "vram": "81",
        },
        {"gpu": 8},
        "h100-80gb-exclusive",
        {"gpu": (8, EXCLUSIVE, 81559)},
    ),
    "DOKS": (
        {DOKS + "brand": "nvidia", DOKS + "model": "h100", TYPE: "gpu-h100x8-640gb"},
        {"gpu": 8},
        "h100-80gb-exclusive",
        {"gpu": (8, EXCLUSIVE, 81559)},
    ),
    "AKS, MIG mixed": (
        {**AKS, TYPE: "Standard_NC24ads_A100_v4"},
        {"mig-1g.10gb": 7},
        "a100-80gb-mig-mixed",
        {"mig-1g.10gb": (7, MIG, 9728)},
    ),
    "a bare plugin, MIG mixed": (
        {},
        {"mig-1g.5gb": 14},
        "unknown-mig-mixed",
        {"mig-1g.5gb": (14, MIG, None)},
    ),
    "a bare plugin on a known machine": (
        {TYPE: "bare.large"},
        {"gpu.shared": 20},
        "unknown-bare-large-shared",
        {"gpu.shared": (20, SHARED, None)},
    ),
    "labels set by hand": (
        {
            **AKS,
            "gpu.product": "Tesla-T4",
            "gpu.replicas": "10",
            "gpu.sharing-strategy": "time-slicing",
        },
        {"gpu": 10},
        "t4-time-slicing-x10",
        {"gpu": (10, TIME, 15360)},
    ),
    "labels set by hand, whole boards": (
        {**AKS, "gpu.product": "NVIDIA-A100-80GB-PCIe", "gpu.replicas": "1", "gpu.sharing-strategy": "none"},
        {"gpu": 1},
        "a100-80gb-exclusive",
        {"gpu": (1, EXCLUSIVE, 81920)},
    ),
    "labels set by hand, slices of strategy single": (
        {**AKS, "gpu.product": "NVIDIA-A100-80GB-PCIe-MIG-1g.10gb", "gpu.replicas": "1"},
        {"gpu": 7},
        "a100-80gb-mig-single-1g-10gb",
        {"gpu": (7, MIG, 9728)},
    ),
    "labels set by hand, shares under MPS": (
        {"gpu.product": "NVIDIA-L4-SHARED", "gpu.replicas": "4", "gpu.sharing-strategy": "mps"},
        {"gpu": 4},
        "l4-mps-x4",
        {"gpu": (4, MPS, 5758)},
    ),
}


def pool_of(labels: Mapping[str, str], capacity: Mapping[str, int], **parts: Any) -> Pool:
    (pool,) = Inventory([read(document("node", labels, capacity, **parts))])
    return pool


@pytest.mark.parametrize(("labels", "capacity", "name", "offers"), CLOUDS.values(), ids=CLOUDS)
def test_a_cloud_is_read_by_its_own_labels(
    labels: dict[str, str], capacity: dict[str, int], name: str, offers: Offers
) -> None:
    pool = pool_of(labels, capacity)
    assert (pool.name, pool.unsettled) == (name, ())
    assert {
        resource.removeprefix("nvidia.com/"): (unit.quantity, unit.strategy, unit.memory)
        for resource, unit in pool.resources.items()
    } == offers


# Where the cloud's count and the numbers differ, nobody is believed.
@pytest.mark.parametrize(
    ("labels", "capacity"),
    [
        (prefixed(GKE, accelerator="nvidia-l4", accelerator_count="4"), {"gpu": 40}),
        (prefixed(AWS, name="l4", count="1", manufacturer="nvidia"), {"gpu": 8}),
        ({ACK + "name": "NVIDIA-A10", ACK + "count": "2"}, {"gpu": 1}),
        ({CW + "class": "A40", CW + "count": "8"}, {"gpu": 16}),
        ({DOKS + "brand": "nvidia", DOKS + "model": "l40s", TYPE: "gpu-l40sx1-48gb"}, {"gpu": 4}),
        (prefixed(AWS, name="a100", count="8", manufacturer="nvidia"), {"gpu": 16, "mig-1g.5gb": 49}),
    ],
)
def test_a_count_that_is_not_the_capacity_is_not_believed(
    labels: dict[str, str], capacity: dict[str, int]
) -> None:
    pool = pool_of(labels, capacity)
    assert pool.resources == {}
    assert "labels give" in pool.unsettled[0].reason


def test_where_a_plugin_shares_what_a_cloud_counts_the_reason_says_what_to_set() -> None:
    pool = pool_of(prefixed(AWS, name="a10g", count="1", manufacturer="nvidia"), {"gpu": 10})
    assert pool.unsettled[0].reason == (
        "labels give 1 of nvidia.com/gpu, the capacity is 10; where the device plugin shares or divides the boards, "
        "set nvidia.com/gpu.product, nvidia.com/gpu.replicas and nvidia.com/gpu.sharing-strategy on the node"
    )


def test_fewer_boards_than_a_cloud_counts_are_no_shares() -> None:
    pool = pool_of(prefixed(GKE, accelerator="nvidia-h100-80gb", accelerator_count="8"), {"gpu": 7})
    assert pool.unsettled[0].reason == (
        "labels give 8 of nvidia.com/gpu, the capacity is 7; a board is missing, so look at the driver's log "
        "on the node"
    )


# A label that somebody wrote by hand and that means nothing: a board is not taken for a whole one for all that.
MISWRITTEN: dict[str, tuple[dict[str, str], str]] = {
    "GKE's partition size": (
        prefixed(GKE, accelerator="nvidia-tesla-a100", accelerator_count="1", gpu_partition_size="huge"),
        "the label cloud.google.com/gke-gpu-partition-size says huge",
    ),
    "GKE's sharing": (
        prefixed(GKE, accelerator="nvidia-l4", accelerator_count="1", gpu_sharing_strategy="fair"),
        "the label cloud.google.com/gke-gpu-sharing-strategy says fair",
    ),
    "GKE's count": (
        prefixed(GKE, accelerator="nvidia-l4", accelerator_count="two"),
        "the label cloud.google.com/gke-accelerator-count says two, which is no number; correct it",
    ),
    "GKE's clients": (
        prefixed(GKE, accelerator="nvidia-l4", accelerator_count="1", max_shared_clients_per_gpu="few"),
        "the label cloud.google.com/gke-max-shared-clients-per-gpu says few, which is no number",
    ),
    "Karpenter's count": (
        prefixed(AWS, name="l4", count="two", manufacturer="nvidia"),
        f"the label {AWS}count says two, which is no number",
    ),
    "Karpenter's memory, by which it tells a part of a board": (
        prefixed(AWS, name="l4", count="1", memory="3G", manufacturer="nvidia"),
        f"the label {AWS}memory says 3G, which is no number",
    ),
    "CoreWeave's count": (
        {CW + "class": "A40", CW + "count": "two"},
        f"the label {CW}count says two, which is no number",
    ),
    "ACK's count": (
        {ACK + "name": "NVIDIA-A10", ACK + "count": "-1"},
        f"the label {ACK}count says -1, which is no number",
    ),
    "replicas": (
        {"gpu.product": "NVIDIA-A10", "gpu.replicas": "one"},
        "the label nvidia.com/gpu.replicas says one, which is no number",
    ),
    "a count": (
        {"gpu.product": "NVIDIA-A10", "gpu.count": "-1"},
        "the label nvidia.com/gpu.count says -1, which is no number",
    ),
    "the way of sharing": (
        {"gpu.product": "NVIDIA-A10", "gpu.replicas": "1", "gpu.sharing-strategy": "MPS"},
        "the label nvidia.com/gpu.sharing-strategy says MPS; write time-slicing, mps or none",
    ),
}


@pytest.mark.parametrize(("labels", "reason"), MISWRITTEN.values(), ids=MISWRITTEN)
def test_a_label_that_means_nothing_is_called_so(labels: dict[str, str], reason: str) -> None:
    pool = pool_of(labels, {"gpu": 1})
    assert pool.resources == {}
    assert pool.unsettled[0].reason.startswith(reason)


@pytest.mark.parametrize(
    "part", ["-MIG-1g10gb", "-MIG-", "-MIG-xx", "-MIG", "-mig-1g.10gb", "-MIG-1G.10GB", "-1g.10gb"]
)
@pytest.mark.parametrize("shared", ["", "-SHARED"])
def test_a_mig_part_that_is_no_profile_makes_no_whole_board(part: str, shared: str) -> None:
    labels = {
        "gpu.product": f"NVIDIA-A100-80GB-PCIe{part}{shared}",
        "gpu.replicas": "1",
        "gpu.sharing-strategy": "none",
    }
    pool = pool_of(labels, {"gpu": 7})
    assert (pool.resources, pool.model) == ({}, "NVIDIA-A100-80GB-PCIe")
    assert pool.unsettled[0].reason.startswith(
        f"the label nvidia.com/gpu.product says {part}, which is no MIG profile; correct it"
    )


def test_slices_and_shares_of_them_are_in_pools_of_their_own() -> None:
    product = "NVIDIA-A100-80GB-PCIe-MIG-1g.10gb"
    found = {
        pool.name: pool.strategy
        for labels in ({"gpu.product": product, "gpu.replicas": "1"}, {"gpu.product": f"{product}-SHARED"})
        for pool in Inventory([read(document("node", labels, {"gpu": 7}))])
    }
    assert found == {"a100-80gb-mig-single-1g-10gb": MIG, "a100-80gb-mig-single-1g-10gb-shared": TIME}


# A plain GPU of which nothing says what it is: not counted, and the reason says what to set.
UNSAID: dict[str, tuple[dict[str, str], str]] = {
    "a bare plugin": ({}, "no label says what nvidia.com/gpu is here"),
    "Jetson": ({"kubernetes.io/arch": "arm64"}, "no label says what nvidia.com/gpu is here"),
    "AKS": (
        AKS,
        "kubernetes.azure.com/accelerator does not say whether nvidia.com/gpu is a whole board or a slice",
    ),
    "a name too long for a label": (
        {"gpu.count": "2", "gpu.replicas": "1", "gfd.timestamp": "1"},
        "the label nvidia.com/gpu.product is missing: it drops a name that is longer than 63 characters",
    ),
    "EKS without Karpenter": ({"gpu.present": "true"}, "no label says what nvidia.com/gpu is here"),
}


@pytest.mark.parametrize(("labels", "reason"), UNSAID.values(), ids=UNSAID)
def test_a_plain_gpu_that_nothing_explains_is_not_counted(labels: dict[str, str], reason: str) -> None:
    pool = pool_of(labels, {"gpu": 2})
    assert pool.resources == {}
    said = pool.unsettled[0].reason
    assert reason in said
    assert "set nvidia.com/gpu.product" in said


@pytest.mark.parametrize("labels", [labels for labels, _ in UNSAID.values()], ids=UNSAID)
def test_an_admin_may_vouch_that_they_are_whole_boards(labels: dict[str, str]) -> None:
    (pool,) = Inventory([read(document("node", labels, {"gpu": 2}))], rules=NodeRules(vouched=True))
    assert pool.strategy is EXCLUSIVE
    assert pool.resources["nvidia.com/gpu"].quantity == 2


def test_a_part_of_a_board_is_no_whole_one_whoever_vouches_for_it() -> None:
    labels = {**AKS, TYPE: "Standard_NV12ads_A10_v5"}
    (pool,) = Inventory([read(document("node", labels, {"gpu": 1}))], rules=NodeRules(vouched=True))
    assert (pool.name, pool.strategy) == ("a10-8gb-vgpu", Strategy.VGPU)
    assert pool.resources["nvidia.com/gpu"].memory == 7676


@pytest.mark.parametrize(
    ("product", "instance_type", "name", "memory"),
    [
        ("NVIDIA-A10-4Q", "", "a10-4q-vgpu", None),
        ("GRID-A100-1-5C", "", "grid-a100-1-5c-vgpu", None),
        ("NVIDIA-A10", "Standard_NV6ads_A10_v5", "a10-4gb-vgpu", 3838),
    ],
)
def test_a_product_set_by_hand_makes_no_whole_board_of_a_part(
    product: str, instance_type: str, name: str, memory: int | None
) -> None:
    labels = {
        **AKS,
        TYPE: instance_type,
        "gpu.product": product,
        "gpu.replicas": "1",
        "gpu.sharing-strategy": "none",
    }
    pool = pool_of(labels, {"gpu": 1})
    assert (pool.name, pool.strategy, pool.unsettled) == (name, Strategy.VGPU, ())
    assert pool.resources["nvidia.com/gpu"].memory == memory


def test_names_that_say_themselves_count_beside_boards_that_nothing_explains() -> None:
    pool = pool_of({}, {"gpu": 2, "mig-1g.5gb": 14})
    assert pool.model == "unknown"
    assert {name: unit.quantity for name, unit in pool.resources.items()} == {"nvidia.com/mig-1g.5gb": 14}
    assert "no label says what nvidia.com/gpu is here" in pool.unsettled[0].reason


def test_unknown_boards_of_different_machines_are_different_pools() -> None:
    nodes = [read(document(name, {TYPE: name}, {"mig-1g.5gb": 7})) for name in ("small", "large")]
    assert [pool.name for pool in Inventory(nodes)] == ["unknown-large-mig-mixed", "unknown-small-mig-mixed"]


def test_feature_discovery_is_believed_before_a_cloud() -> None:
    labels = {**prefixed(GKE, accelerator="nvidia-l4", accelerator_count="1"), "gpu.product": "NVIDIA-L4"}
    labels |= {"gpu.count": "1", "gpu.replicas": "4", "gpu.sharing-strategy": "time-slicing"}
    assert pool_of(labels, {"gpu": 4}).name == "l4-time-slicing-x4"


BY_CLOUD = [source for source in sources.SOURCES if source is not gpu_feature_discovery]


@pytest.mark.parametrize(
    "source", [each for each in BY_CLOUD if hasattr(each, "PRODUCTS")], ids=lambda source: source.SOURCE
)
def test_the_boards_of_a_cloud_are_called_as_feature_discovery_calls_them(source: Any) -> None:
    known = mig.known_products()
    divisible = {
        name for name in source.PRODUCTS.values() if any(word in name for word in ("A100", "H100", "H200"))
    }
    assert divisible <= known


@pytest.mark.parametrize("source", BY_CLOUD, ids=lambda source: source.SOURCE)
def test_a_node_of_somebody_else_says_nothing(source: Any) -> None:
    assert source.read({"kubernetes.io/os": "linux"}) is None


def test_boards_of_another_vendor_are_none_of_ours() -> None:
    assert karpenter.read(prefixed(AWS, name="radeon-pro-v520", count="1", manufacturer="amd")) is None
    assert gke.read(prefixed(GKE, accelerator="tpu-v5-lite-podslice")) is None
    assert doks.read({DOKS + "brand": "amd", DOKS + "model": "mi300x"}) is None
    assert observe(read(document("n", prefixed(GKE, accelerator="tpu-v5"), {"cpu": 8}))) is None


def test_a_cloud_is_one_source_and_its_place_among_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cumulus:
        LABELS = ("cumulus.example/",)

        def read(self, labels: Mapping[str, str], /) -> Facts | None:
            board = labels.get("cumulus.example/board")
            return (
                Facts("cumulus", board, says_plain=True, devices=2, replicas=4, sharing=MPS)
                if board
                else None
            )

    monkeypatch.setattr(sources, "SOURCES", (*sources.SOURCES, Cumulus()))
    pool = pool_of({"cumulus.example/board": "NVIDIA-L4"}, {"gpu": 8})
    assert (pool.name, pool.sources, pool.unsettled) == ("l4-mps-x4", ("cumulus",), ())
    assert pool.resources["nvidia.com/gpu"].memory == 5758


# Every label by which NVIDIA says what a node is.
NVIDIA_LABELS = {
    name for name, key in vars(keys).items() if re.fullmatch(r"nvidia\.com/\w+[.-].+", str(key))
} - {"GPU_SHARED", "MIG_PREFIX"}
HOUSE = Path(slicewise.__file__).parent.parent


def looked_up(tree: ast.AST) -> Iterator[ast.expr]:
    """Yields what a file looks up in mappings: `each[it]`, `each.get(it)`, `it in each`."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(slice=key) | ast.Compare(left=key, ops=[ast.In() | ast.NotIn()]):
                yield key
            case ast.Call(func=ast.Attribute(attr="get"), args=[key, *_]):
                yield key
            case _:
                pass


def nvidia_labels(file: Path) -> set[str]:
    found = set[str]()
    text = file.read_text(encoding="utf-8")
    if "nvidia" not in text and not any(name in text for name in NVIDIA_LABELS):
        return found  # not worth to be parsed
    for key in looked_up(ast.parse(text)):
        for part in ast.walk(key):
            match part:
                case ast.Attribute(value=ast.Name(id="keys"), attr=name) if name in NVIDIA_LABELS:
                    found.add(name)
                case ast.Constant(value=str(word)) if word.startswith("nvidia.com/"):
                    found.add(word)
                case _:
                    pass
    return found


def test_one_file_reads_nvidias_labels() -> None:
    files = [
        file
        for half in ("slicewise", "admission", "queue_sync", "release")
        for file in (HOUSE / half).rglob("*.py")
    ]
    readers = {file.relative_to(HOUSE) for file in files if nvidia_labels(file)}
    assert {str(reader) for reader in readers} == {"slicewise/inventory/sources/gpu_feature_discovery.py"}
