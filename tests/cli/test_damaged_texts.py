"""Text within the objects of a snapshot is as hostile as the objects around it: a command says so, or goes on."""

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
from slicewise.kube.yaml import dump, load
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
# The files of the GPU operator and of Kueue, in ConfigMaps of the snapshot.
FILES: Final = {
    ("mig-parted", "config.yaml"): {
        "version": "v1",
        "mig-configs": {
            "all-1g.10gb": [{"devices": "all", "mig-enabled": True, "mig-devices": {"1g.10gb": 7}}],
            "some": [{"devices": [0], "device-filter": ["0x233010DE"], "mig-enabled": False}],
        },
    },
    ("device-plugin", "ts4"): {
        "version": "v1",
        "flags": {"migStrategy": "mixed"},
        "sharing": {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}},
    },
    ("kueue-manager-config", "controller_manager_config.yaml"): {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "integrations": {"frameworks": ["batch/job", "pod"]},
        "resources": {"excludeResourcePrefixes": ["nvidia.com/gpu"], "transformations": []},
        "manageJobsWithoutQueueName": False,
    },
}
# Where JSON or YAML stands within a text, and which commands read it from a snapshot.
TEXTS: Final = (
    ("Node", "h1", "slicewise.io/offer"),
    ("Node", "h2", "slicewise.io/offer"),
    ("Job", "serve", "slicewise.io/decision"),
    ("Job", "serve", LAST_APPLIED),
    ("Pod", "serve-1", "slicewise.io/decision"),
    ("ClusterQueue", "team-a", "slicewise.io/owned"),
    *(("ConfigMap", name, key) for name, key in FILES),
)
READING: Final = (
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
COMMANDS: Final = tuple(f"{line} --snapshot {{cluster}}" for line in READING)
# Files that people write and name on the command line, each with a command that reads it.
CASES: Final = {
    "snapshot": ["cluster.yaml"],
    "namespace": "team-a",
    "cases": [{"name": "a", "manifest": "work.yaml", "expect": {"class": "inference", "strategy": "mig"}}],
}
KINDS: Final = {
    "kinds": [
        {
            "group": "ml.example.com",
            "kind": "Experiment",
            "versions": ["v1"],
            "paths": ["T spec.driver.template", "P spec.workers[].pod"],
        }
    ]
}
WRITTEN: Final = {
    "cases": "test {cases}",
    "kinds": "mutate -f {work} --kinds-file {kinds} --snapshot {cluster}",
    "usage": "advise --usage {usage} --snapshot {cluster}",
    "work": "explain -f {work} --snapshot {cluster}",
    "old": "mutate -f {work} --old {old} --as-apply --snapshot {cluster}",
}
USAGE: Final = (
    "namespace,pod,time,use,memory\nteam-a,serve-1,1767225600,0.5,1Gi\nteam-a,serve-1,1767225660,0.5,1Gi\n"
)


def slicewise(line: str, folder: Path) -> Ran:
    """Calls the command with the files of a folder."""
    files = {file.stem: str(file) for file in folder.iterdir()}
    words = [word.format(**files) for word in line.split()]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    return Ran(status, out.getvalue(), err.getvalue())


def parted(text: str) -> list[Object]:
    documents = [each for each in load(text) if each]
    return [item for each in documents for item in (each["items"] if each["kind"] == "List" else [each])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster with everything that Slicewise writes, as it writes it."""
    found = tmp_path_factory.mktemp("damaged")
    (found / "cluster.yaml").write_text(CLUSTER)
    (found / "work.yaml").write_text(yaml.safe_dump(job(**INFERENCE)))
    rewritten = parted(slicewise("mutate -f {work} --snapshot {cluster}", found).out)[0]
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
    (found / "cases.yaml").write_text(json.dumps(CASES))
    (found / "kinds.yaml").write_text(json.dumps(KINDS))
    items = [
        *parted(CLUSTER),
        rewritten,
        pod,
        *parted(slicewise("plan -o yaml --snapshot {cluster}", found).out),
    ]
    for item in items:
        if item["kind"] == "Node":
            item["metadata"]["annotations"] = {"slicewise.io/offer": json.dumps(OFFER)}
            item["metadata"]["labels"] |= {
                "nvidia.com/mig.config": "all-1g.10gb",
                "nvidia.com/device-plugin.config": "ts4",
            }
    items += [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "kueue-system" if "kueue" in name else "gpu-operator"},
            "data": {key: json.dumps(content)},
        }
        for (name, key), content in FILES.items()
    ]
    (found / "cluster.yaml").write_text(dump(items))
    return found


def standing(folder: Path) -> list[Object]:
    return load((folder / "cluster.yaml").read_text())


def texts(items: list[Object], kind: str, name: str) -> dict[str, str]:
    """The annotations of an object, or the files in a ConfigMap."""
    item = next(each for each in items if (each["kind"], each["metadata"]["name"]) == (kind, name))
    found: dict[str, str] = item["data"] if kind == "ConfigMap" else item["metadata"]["annotations"]
    return found


def test_every_text_is_there_and_every_command_reads_the_snapshot(folder: Path) -> None:
    items = standing(folder)
    assert all(json.loads(texts(items, kind, name)[key]) for kind, name, key in TEXTS)
    for line in (*COMMANDS, *WRITTEN.values()):
        ran = slicewise(line, folder)
        assert ran.status in {0, 1, 3}, f"{line}: {ran.err}"


@settings(
    max_examples=2 * settings().max_examples, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(COMMANDS), st.sampled_from(TEXTS), st.randoms(use_true_random=False), st.text(max_size=6)
)
def test_whatever_is_damaged_in_a_text_is_no_traceback(
    folder: Path, tmp_path: Path, line: str, place: tuple[str, str, str], rng: Random, torn: str
) -> None:
    kind, name, key = place
    items = standing(folder)
    text = texts(items, kind, name)[key]
    if torn:
        at = rng.randrange(len(text))
        text = text[:at] + torn + text[at + rng.randrange(30) :]
    else:
        text = encoded(rng, damaged(rng, json.loads(text))).decode("utf-8", "replace")
    texts(items, kind, name)[key] = text
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "cluster.yaml").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    (tmp_path / "old.yaml").write_text(json.dumps(next(item for item in items if item["kind"] == "Job")))
    ran = slicewise(line, tmp_path)
    assert_told_in_sentences(ran)
    # What somebody wrote into a text moves no cursor of a terminal.
    assert "Cc" not in {category(character) for character in (ran.out + ran.err).replace("\n", "")}


@settings(
    max_examples=2 * settings().max_examples, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(list(WRITTEN)), st.randoms(use_true_random=False), st.text(max_size=6))
def test_whatever_is_damaged_in_a_file_is_no_traceback(
    folder: Path, tmp_path: Path, name: str, rng: Random, torn: str
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (written,) = (file for file in tmp_path.iterdir() if file.stem == name)
    text = written.read_text()
    if torn or written.suffix == ".csv":
        at = rng.randrange(len(text))
        changed = (text[:at] + torn + text[at + rng.randrange(30) :]).encode("utf-8", "replace")
    else:
        changed = encoded(rng, damaged(rng, yaml.safe_load(text)))
    written.write_bytes(changed)
    assert_told_in_sentences(slicewise(WRITTEN[name], tmp_path))


def assert_told_in_sentences(ran: Ran) -> None:
    assert ran.status in {0, 1, 2, 3}
    if ran.status == 2:
        assert ran.err.count("\n") == 1, ran.err
