"""JSON within the annotations of a snapshot is as hostile as the objects around it: a command says so, or goes on."""

import contextlib
import io
import json
from pathlib import Path
from random import Random
from typing import Any, Final
from unicodedata import category

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slicewise.cli.main import main
from tests.cli.test_command import CLUSTER, INFERENCE, Ran, job
from tests.fuzz.damage import damaged, encoded

Object = dict[str, Any]

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
OFFER: Final = {
    "resources": {"nvidia.com/mig-1g.10gb": 7},
    "since": "2026-01-01T00:00:00Z",
    "heldSince": "2026-01-01T00:00:00Z",
    "pool": "h100-80gb-mig-mixed",
    "model": "NVIDIA-H100-80GB-HBM3",
    "strategy": "mig",
}
# Where JSON stands within a text, and which commands read it from a snapshot.
TEXTS: Final = (
    ("Node", "h1", "slicewise.io/offer"),
    ("Node", "h2", "slicewise.io/offer"),
    ("Job", "serve", "slicewise.io/decision"),
    ("Job", "serve", LAST_APPLIED),
    ("Pod", "serve-1", "slicewise.io/decision"),
    ("ClusterQueue", "team-a", "slicewise.io/owned"),
)
COMMANDS: Final = (
    "pools",
    "pools -o json",
    "explain -f {work}",
    "mutate -f {work}",
    "mutate -f {work} --old {old}",
    "mutate -f {work} --old {old} --as-apply",
    "plan",
    "diff",
    "drift",
    "doctor",
    "why team-a",
    "uninstall --check",
    "report --usage {usage}",
    "advise --usage {usage}",
)
USAGE: Final = (
    "namespace,pod,time,use,memory\nteam-a,serve-1,1767225600,0.5,1Gi\nteam-a,serve-1,1767225660,0.5,1Gi\n"
)


def slicewise(line: str, folder: Path) -> Ran:
    """Calls the command with the snapshot of a folder."""
    files = {file.stem: str(file) for file in folder.iterdir()}
    words = [word.format(**files) for word in line.split()]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([*words, "--snapshot", str(folder / "cluster.yaml")])
    return Ran(status, out.getvalue(), err.getvalue())


def parted(text: str) -> list[Object]:
    documents = [each for each in yaml.safe_load_all(text) if each]
    return [item for each in documents for item in (each["items"] if each["kind"] == "List" else [each])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster with everything that Slicewise writes, as it writes it."""
    found = tmp_path_factory.mktemp("damaged")
    (found / "cluster.yaml").write_text(CLUSTER)
    (found / "work.yaml").write_text(yaml.safe_dump(job(**INFERENCE)))
    rewritten = parted(slicewise("mutate -f {work}", found).out)[0]
    annotations = rewritten["metadata"]["annotations"]
    decided = {"slicewise.io/decision": annotations["slicewise.io/decision"]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "serve-1", "namespace": "team-a", "annotations": decided},
        "spec": {**rewritten["spec"]["template"]["spec"], "nodeName": "h1"},
        "status": {"phase": "Running"},
    }
    annotations[LAST_APPLIED] = json.dumps(job(**INFERENCE))
    (found / "old.yaml").write_text(yaml.safe_dump(rewritten))
    (found / "usage.csv").write_text(USAGE)
    items = [*parted(CLUSTER), rewritten, pod, *parted(slicewise("plan -o yaml", found).out)]
    for item in items:
        if item["kind"] == "Node":
            item["metadata"]["annotations"] = {"slicewise.io/offer": json.dumps(OFFER)}
    (found / "cluster.yaml").write_text(yaml.safe_dump_all(items))
    return found


def standing(folder: Path) -> list[Object]:
    return list(yaml.safe_load_all((folder / "cluster.yaml").read_text()))


def annotations(items: list[Object], kind: str, name: str) -> dict[str, str]:
    found = next(item for item in items if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return dict(found["metadata"]["annotations"])


def test_every_text_is_there_and_every_command_reads_the_snapshot(folder: Path) -> None:
    items = standing(folder)
    assert all(json.loads(annotations(items, kind, name)[key]) for kind, name, key in TEXTS)
    for line in COMMANDS:
        ran = slicewise(line, folder)
        assert ran.status in {0, 1, 3}, f"{line}: {ran.err}"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(COMMANDS), st.sampled_from(TEXTS), st.randoms(use_true_random=False), st.text(max_size=6)
)
def test_whatever_is_damaged_in_a_text_is_no_traceback(
    folder: Path, tmp_path: Path, line: str, place: tuple[str, str, str], rng: Random, torn: str
) -> None:
    kind, name, key = place
    items = standing(folder)
    text = annotations(items, kind, name)[key]
    if torn:
        at = rng.randrange(len(text))
        text = text[:at] + torn + text[at + rng.randrange(30) :]
    else:
        text = encoded(rng, damaged(rng, json.loads(text))).decode("utf-8", "replace")
    for item in items:
        if (item["kind"], item["metadata"]["name"]) == (kind, name):
            item["metadata"]["annotations"][key] = text
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "cluster.yaml").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    (tmp_path / "old.yaml").write_text(json.dumps(next(item for item in items if item["kind"] == "Job")))
    ran = slicewise(line, tmp_path)
    assert ran.status in {0, 1, 2, 3}
    if ran.status == 2:
        assert ran.err.count("\n") == 1, ran.err
    # What somebody wrote into a text moves no cursor of a terminal.
    assert "Cc" not in {category(character) for character in (ran.out + ran.err).replace("\n", "")}
