"""`slicewise pools`, `plan` and `drift` on a snapshot that holds the GPU operator's ConfigMaps."""

import json
from pathlib import Path

import pytest
import yaml

from slicewise.cli.main import main
from tests.queue_sync.scenes import MIXED, ONE, mixed
from tests.queue_sync.test_expected import MIG_FILE, SEVEN, asked


def config_map(name: str, text: str) -> dict[str, object]:
    metadata = {"name": name, "namespace": "gpu-operator"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config.yaml": text}}


PLAN = {
    "apiVersion": "slicewise.io/v1alpha1",
    "kind": "QuotaPlan",
    "metadata": {"name": "research"},
    "spec": {"engine": "kueue", "queues": [{"name": "team-a"}]},
}


@pytest.mark.parametrize("known", [False, True], ids=["without the files", "with the files"])
def test_a_node_on_its_way_is_unsettled_where_the_files_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, known: bool
) -> None:
    items = [asked(mixed("n1", SEVEN), "research"), mixed("n2", SEVEN), PLAN]
    items += [config_map("mig", MIG_FILE), config_map("broken", "mig-configs: 1")] if known else []
    snapshot = tmp_path / "cluster.yaml"
    snapshot.write_text(yaml.safe_dump_all(items))
    assert main(["pools", "--snapshot", str(snapshot), "-o", "json"]) == 0
    said = capsys.readouterr()
    (pool,) = json.loads(said.out)
    assert pool["resources"] == {ONE: 7 if known else 14}
    assert [each["node"] for each in pool["unsettled"]] == (["n1"] if known else [])
    assert ("ConfigMap broken: config.yaml: this is not a MIG manager configuration" in said.err) == known
    assert main(["plan", "--snapshot", str(snapshot), "-o", "json"]) == 0
    queues = [each for each in json.loads(capsys.readouterr().out)["items"] if each["kind"] == "ClusterQueue"]
    (flavor,) = queues[0]["spec"]["resourceGroups"][0]["flavors"]
    assert flavor == {"name": MIXED, "resources": [{"name": ONE, "nominalQuota": "7" if known else "14"}]}
