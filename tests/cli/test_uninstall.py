"""`slicewise uninstall --check`: what stays is named, with what follows from it and what to do."""

import json
from pathlib import Path
from typing import Any

import pytest

from queue_sync.planning.desired import desired
from queue_sync.planning.observed import Object
from slicewise.cli.main import main
from slicewise.kube.yaml import dump
from tests.queue_sync.scenes import exclusive, inventory, plan

WHOLE = "h100-80gb-exclusive"


def snapshot(folder: Path, *objects: Object) -> str:
    file = folder / "cluster.yaml"
    file.write_text(dump([exclusive("bare"), *objects]))
    return str(file)


def quota_plan(name: str, **spec: Any) -> Object:
    queue = {"name": name, "shares": {"*": 1}}
    body = {"engine": "kueue", "queues": [queue], "pools": {"matchNames": [f"{name}-*"]}, **spec}
    return {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": name},
        "spec": body,
    }


def marked_node() -> Object:
    node = exclusive("marked")
    node["metadata"]["labels"]["slicewise.io/pool"] = WHOLE
    return node


def pod(name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "team-a"},
        "spec": {"containers": [], **spec},
    }


POOL = {"matchExpressions": [{"key": "slicewise.io/pool", "operator": "In", "values": [WHOLE]}]}
STEERED = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [POOL]}}}
POLICY = {
    "apiVersion": "slicewise.io/v1alpha1",
    "kind": "SlicingPolicy",
    "metadata": {"name": "strict"},
    "spec": {"defaultClass": "a", "classes": {"a": {"strategy": "exclusive"}}},
}


def given_back(document: Object) -> Object:
    """A queue as the release of its plan leaves it, with a number that somebody else wrote; other objects are gone."""
    if document["kind"] != "ClusterQueue":
        return exclusive("another")
    owned = {"slicewise.io/owned": '{"added":[],"flavors":[],"resources":[]}'}
    annotations = {**document["metadata"]["annotations"], **owned}
    return {**document, "metadata": {**document["metadata"], "annotations": annotations}}


MADE = desired([plan()], inventory(exclusive("n")), {"lab": {"team": "a"}}).objects
CASES: dict[str, tuple[list[Object], list[tuple[str, list[str]]]]] = {
    "nothing": ([], []),
    "a plan that waits": ([quota_plan("a", deletionPolicy="Release")], [("QuotaPlan", ["a"])]),
    "plans of both kinds, those that wait first": (
        [quota_plan("b"), quota_plan("a"), quota_plan("c", deletionPolicy="Release")],
        [("QuotaPlan", ["c"]), ("QuotaPlan", ["a", "b"])],
    ),
    "what a plan made": (
        list(MADE),
        [("ClusterQueue", ["team-a"]), ("ResourceFlavor", [WHOLE])],
    ),
    "a queue of Volcano's": (
        [
            {
                "apiVersion": "scheduling.volcano.sh/v1beta1",
                "kind": "Queue",
                "metadata": {"name": "q", "annotations": {"slicewise.io/plan": "gone"}},
                "spec": {"deserved": {"nvidia.com/gpu": "2"}},
            }
        ],
        [("Queue", ["q"])],
    ),
    "queues that gave everything back": ([*map(given_back, MADE)], []),
    "a queue of somebody else's": (
        [
            {
                "apiVersion": "kueue.x-k8s.io/v1beta2",
                "kind": "ClusterQueue",
                "metadata": {"name": "own"},
                "spec": {},
            }
        ],
        [],
    ),
    "pods": (
        [
            pod("free"),
            pod("steered", affinity=STEERED),
            pod("selecting", nodeSelector={"slicewise.io/pool": WHOLE}),
        ],
        [("Pod", ["team-a/selecting", "team-a/steered"])],
    ),
    "a node, a namespace and a policy": (
        [
            marked_node(),
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": "in", "labels": {"slicewise.io/policy": "strict"}},
            },
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "out"}},
            POLICY,
        ],
        [("Node", ["marked"]), ("Namespace", ["in"]), ("SlicingPolicy", ["strict"])],
    ),
}


@pytest.mark.parametrize(("objects", "expected"), CASES.values(), ids=CASES)
def test_what_stays_is_named(
    objects: list[Object],
    expected: list[tuple[str, list[str]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = main(["uninstall", "--check", "--snapshot", snapshot(tmp_path, *objects), "-o", "json"])
    found = json.loads(capsys.readouterr().out)
    assert status == bool(expected)
    assert [(each["kind"], each["names"]) for each in found] == expected
    assert all(each["consequence"] and each["fix"].endswith(".") for each in found)


COMMANDS = {
    "a plan to release": (
        quota_plan("a", deletionPolicy="Release"),
        "kubectl delete quotaplan a",
    ),
    "a plan to keep": (
        quota_plan("a"),
        (
            """kubectl patch quotaplan a --type merge -p '{"spec":{"deletionPolicy":"Release"}}' && """
            "kubectl delete quotaplan a"
        ),
    ),
    "a node": (
        marked_node(),
        "kubectl label nodes --all slicewise.io/pool- && kubectl annotate nodes --all slicewise.io/offer-",
    ),
    "a namespace": (
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": "in",
                "labels": {"slicewise.io/policy": "x", "slicewise.io/mode": "off", "a": "b"},
            },
        },
        "kubectl label namespaces in slicewise.io/mode- slicewise.io/policy-",
    ),
}


@pytest.mark.parametrize(("item", "command"), COMMANDS.values(), ids=COMMANDS)
def test_the_command_that_is_printed_is_one_to_run(
    item: Object, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["uninstall", "--check", "--snapshot", snapshot(tmp_path, item)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith(f": `{command}`.")


def test_people_read_three_lines_for_each_kind_and_ten_names_at_most(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = [quota_plan(f"p{number:02}") for number in range(12)]
    assert main(["uninstall", "--check", "--snapshot", snapshot(tmp_path, *plans)]) == 1
    first, consequence, fix = capsys.readouterr().out.splitlines()
    assert first == f"QuotaPlan {', '.join(f'p{number:02}' for number in range(10))} and 2 more"
    assert consequence.startswith("  deletionPolicy Retain")
    assert fix.startswith("  -> To give the quotas back")


def test_a_clean_cluster_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["uninstall", "--check", "--snapshot", snapshot(tmp_path)]) == 0
    assert capsys.readouterr().out == "Nothing would stay behind but the definitions.\n"


def test_what_files_do_not_hold_is_not_called_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "out"}}
    (tmp_path / "one.yaml").write_text(dump([space]))
    assert main(["uninstall", "--check", "--snapshot", str(tmp_path / "one.yaml")]) == 0
    assert capsys.readouterr().err == (
        "warning: no Node, QuotaPlan, Pod, ClusterQueue or Queue was read, so what stays of these "
        "is not known; give them too, as `slicewise snapshot` does\n"
    )
    queue = {
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "Queue",
        "metadata": {"name": "q"},
        "spec": {},
    }
    whole = snapshot(tmp_path, space, pod("free"), quota_plan("t4"), queue)
    assert main(["uninstall", "--check", "--snapshot", whole]) == 1
    assert capsys.readouterr().err == ""


def test_it_never_uninstalls(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["uninstall"])
    assert left.value.code == 2
    assert "--check" in capsys.readouterr().err
