"""`-o`, `-n`, `-A` and `-l`: alike on every command that lists things."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

import pytest
import yaml

from slicewise.cli import demo, main
from slicewise.cli.commands import COMMANDS
from slicewise.cli.output import OUTPUTS, reference
from slicewise.cli.selection import label_selector

NODE = """
apiVersion: v1
kind: Node
metadata:
  name: {name}
  labels:
    zone: "{zone}"
    nvidia.com/gpu.product: {product}
    nvidia.com/gpu.memory: "{memory}"
    nvidia.com/gpu.count: "{gpus}"
    nvidia.com/gpu.replicas: "1"
spec: {{taints: [{{key: team, value: a, effect: NoSchedule}}]}}
status:
  capacity: {{nvidia.com/gpu: "{gpus}"}}
  allocatable: {{nvidia.com/gpu: "{gpus}"}}
  conditions: [{{type: Ready, status: "True"}}]
---
"""
REST = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: team-a, labels: {slicewise.io/policy: default, team: a}}}
- {apiVersion: v1, kind: Namespace, metadata: {name: team-b, labels: {slicewise.io/policy: default, team: b}}}
- apiVersion: slicewise.io/v1alpha1
  kind: QuotaPlan
  metadata: {name: research}
  spec:
    engine: kueue
    cohort: science
    maximum: {"a100-40gb-mig-mixed": {nvidia.com/mig-1g.5gb: 7}}
    perNode: {"a100-40gb-mig-mixed": {nvidia.com/mig-1g.5gb: 7}}
    queues:
    - {name: team-a, share: 1, borrowing: {count: 2}, namespaces: {matchLabels: {team: a}}}
    - {name: team-b, share: 1, namespaces: {matchLabels: {team: b}}}
- apiVersion: v1
  kind: Pod
  metadata: {name: typo, namespace: team-a, labels: {app: web}}
  spec: {containers: [{name: main, resources: {limits: {nvidia.com/mig-9g.9gb: "1"}}}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: typo, namespace: team-b, labels: {app: batch}}
  spec: {containers: [{name: main, resources: {limits: {nvidia.com/mig-9g.9gb: "1"}}}]}
"""
JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: train, namespace: team-a}
spec:
  template:
    spec:
      restartPolicy: Never
      tolerations: [{key: team, operator: Exists}]
      containers: [{name: main, image: x, resources: {limits: {nvidia.com/gpu: 1}}}]
"""
USE = "pod,time,use,memory\nteam-a/typo,2026-11-01T00:00:00Z,0.1,1000\nteam-a/typo,2026-11-01T01:00:00Z,0.1,1000\n"


@pytest.fixture(autouse=True)
def _cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        NODE.format(name="h1", zone="x", product="NVIDIA-H100-80GB-HBM3", memory=81559, gpus=8),
        NODE.format(name="h2", zone="y", product="NVIDIA-H100-80GB-HBM3", memory=81559, gpus=4),
        NODE.format(name="l1", zone="x", product="NVIDIA-L4", memory=23034, gpus=1),
    ]
    (tmp_path / "cluster.yaml").write_text("".join(nodes) + REST)
    (tmp_path / "job.yaml").write_text(JOB)
    (tmp_path / "use.csv").write_text(USE)
    monkeypatch.chdir(tmp_path)


# A call of every command that lists things, and what it names.
LISTS = {
    ("pools",): ["pool/h100-80gb-exclusive-", "pool/l4-exclusive-"],
    ("plan",): ["resourceflavor.kueue.x-k8s.io/", "clusterqueue.kueue.x-k8s.io/team-a"],
    ("diff",): ["resourceflavor.kueue.x-k8s.io/", "localqueue.kueue.x-k8s.io/team-b"],
    ("drift",): ["pod/typo"],
    ("doctor",): ["pod/typo", "slicingpolicy.slicewise.io/default"],
    ("why", "team-a"): ["clusterqueue.kueue.x-k8s.io/team-a"],
    ("why", "pod/typo", "-n", "team-a"): ["pod/typo"],
    ("uninstall", "--check"): ["quotaplan.slicewise.io/research", "namespace/team-a"],
    ("overlays",): ["nodeoverlay.karpenter.sh/slicewise-a100-40gb-mig-mixed"],
    ("deviceclasses",): [],
    ("mutate", "-f", "job.yaml"): ["job.batch/train"],
    ("explain", "-f", "job.yaml"): ["job.batch/train"],
    ("report", "--usage", "use.csv"): ["pod/typo"],
    ("advise", "--usage", "use.csv"): ["pod/typo"],
}


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words, "--snapshot", "cluster.yaml"]) in {0, 1}
    out, err = capsys.readouterr()
    # No code of a terminal, and no object that nobody put into words.
    assert [each for each in ("\033", " at 0x", "object at") if each in out + err] == []
    return out


REFERENCES = {
    "Pod": "pod/x",
    "Node": "node/x",
    "ResourceQuota": "resourcequota/x",
    "ClusterQueue": "clusterqueue.kueue.x-k8s.io/x",
    "Queue": "queue.scheduling.volcano.sh/x",
    "SlicingPolicy": "slicingpolicy.slicewise.io/x",
    "Deployment": "deployment.apps/x",
    "StatefulSet": "statefulset.apps/x",
    "Job": "job.batch/x",
    "Job.batch.volcano.sh": "job.batch.volcano.sh/x",
    "RayCluster": "raycluster.ray.io/x",
    "Unheard": "unheard/x",
}


@pytest.mark.parametrize(("kind", "written"), REFERENCES.items())
def test_a_name_is_written_as_kubectl_writes_it(kind: str, written: str) -> None:
    assert reference(kind, "x") == written


VOLCANO_JOB = """
apiVersion: v1
kind: Pod
metadata:
  name: gang-main-0
  namespace: team-a
  ownerReferences: [{apiVersion: batch.volcano.sh/v1alpha1, kind: Job, name: gang, uid: x, controller: true}]
spec: {nodeName: h1, containers: [{name: main, resources: {limits: {nvidia.com/gpu: "1"}}}]}
status: {phase: Running}
---
apiVersion: batch.volcano.sh/v1alpha1
kind: Job
metadata: {name: other, namespace: team-a}
spec:
  tasks:
  - name: main
    replicas: 1
    template: {spec: {containers: [{name: main, resources: {limits: {nvidia.com/mig-9g.9gb: 1}}}]}}
"""


@pytest.mark.parametrize(("command", "names"), [("drift", ("gang", "other")), ("doctor", ("gang",))])
def test_a_job_of_volcanos_is_named_with_its_group(
    command: str, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("jobs.yaml").write_text(VOLCANO_JOB)
    lines = ask(capsys, command, "-o", "name", "--snapshot", "jobs.yaml").splitlines()
    written = [line.removesuffix(" -n team-a") for line in lines]
    assert {line for line in written if line.startswith("job.")} == {
        f"job.batch.volcano.sh/{name}" for name in names
    }


def test_every_command_with_an_output_has_all_of_them() -> None:
    listing = set()
    for command in COMMANDS:
        parser = ArgumentParser()
        command.load()[0](parser)
        action = next((each for each in parser._actions if each.dest == "output"), None)
        if action is not None and action.choices is not None:
            listing.add(command.name)
            assert tuple(action.choices)[: len(OUTPUTS)] == OUTPUTS, command.name
    assert listing == {words[0] for words in LISTS}


@pytest.mark.parametrize(("words", "named"), LISTS.items(), ids=" ".join)
def test_each_output_of_each_command(
    words: tuple[str, ...], named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    names = ask(capsys, *words, "-o", "name").splitlines()
    for start in named:
        assert any(name.startswith(start) for name in names), names
    assert all(name.count("/") == 1 and name == name.strip() for name in names)
    documents = list(yaml.safe_load_all(ask(capsys, *words, "-o", "yaml")))
    document = json.loads(ask(capsys, *words, "-o", "json"))
    listed = document["items"] if isinstance(document, dict) and document.get("kind") == "List" else None
    assert documents == ([document] if listed is None else listed)
    short, wide = (ask(capsys, *words, "-o", output) for output in ("table", "wide"))
    assert len(wide) >= len(short)


WIDER = {
    ("pools",): ["MOST ON ONE NODE", "MEMORY OF ONE", "nvidia.com/gpu=8", "team=a:NoSchedule"],
    ("plan",): [
        "PLAN",
        "COHORT",
        "SOURCE",
        "gpu-feature-discovery",
        "research",
        "science",
        "borrows up to 2",
    ],
    ("drift",): ["NameNotOffered", "NAMESPACE"],
    ("doctor",): ["SEVERITY"],
    ("overlays",): ["NODEPOOLS OF POOL"],
    ("mutate", "-f", "job.yaml"): ["WHY"],
}


@pytest.mark.parametrize(("words", "more"), WIDER.items(), ids=" ".join)
def test_wide_says_more_than_the_table(
    words: tuple[str, ...], more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    short, wide = (ask(capsys, *words, "-o", output) for output in ("table", "wide"))
    assert [word for word in more if word not in wide] == []
    assert any(word not in short for word in more)


@pytest.mark.parametrize(
    ("engine", "kind", "holds"),
    [
        ("kueue", "ClusterQueue", "a100-40gb-mig-mixed: nvidia.com/mig-1g.5gb=4 (borrows up to 2)"),
        ("volcano", "Queue", "nvidia.com/gpu=7 (may use up to 9), nvidia.com/mig-1g.5gb=4 (may use up to 6)"),
    ],
)
def test_the_numbers_of_each_engines_queues_are_shown_with_their_limits(
    engine: str, kind: str, holds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Path("cluster.yaml")
    cluster.write_text(cluster.read_text().replace("engine: kueue", f"engine: {engine}"))
    lines = [line for line in ask(capsys, "plan", "-o", "wide").splitlines() if " team-a " in line]
    assert any(line.startswith(f"{kind} ") and holds in line for line in lines), lines


def test_wide_says_by_how_many_memory_is_shared(capsys: pytest.CaptureFixture[str]) -> None:
    recorded = Path(demo.__file__).parent / "recorded" / "cluster.yaml"
    assert main(["pools", "-o", "wide", "--snapshot", str(recorded)]) == 0
    assert "nvidia.com/gpu=15360Mi shared by 10" in capsys.readouterr().out


SELECTED = {
    ("pools", "-l", "zone=y"): ("h100", "l4-"),
    ("pools", "-l", "zone in (x),zone!=y"): ("l4-", "nothing"),
    ("pools", "-l", "nosuch=1"): ("No node has the labels that -l selects.", "No node offers"),
    ("plan", "-l", "nosuch=1"): ("No plan wants anything: nothing is as selected.", "QuotaPlan"),
    ("plan", "-n", "team-a"): ("team-a/team-a", "team-b/team-b"),
    ("plan", "-l", "slicewise.io/managed=true"): ("ClusterQueue", "selected"),
    ("plan", "-l", "!slicewise.io/managed"): ("selected", "ClusterQueue"),
    ("diff", "-n", "team-b"): ("LocalQueue/team-b/team-b", "LocalQueue/team-a/team-a"),
    ("drift", "-n", "team-a"): ("team-a/typo", "team-b/typo"),
    ("drift", "-n", "team-a", "-A"): ("team-b/typo", "nothing"),
    ("drift", "-l", "app=web"): ("team-a/typo", "team-b/typo"),
}


@pytest.mark.parametrize(("words", "expected"), SELECTED.items(), ids=" ".join)
def test_namespaces_and_labels_select(
    words: tuple[str, ...], expected: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    shown, hidden = expected
    out = ask(capsys, *words)
    assert (shown in out, hidden in out) == (True, False)


BYPASSING = """
apiVersion: v1
kind: Pod
metadata:
  name: {team}-{kind}-x
  namespace: team-{team}
  labels: {{team: {team}, pod-template-hash: 5f6d}}
  ownerReferences: [{{apiVersion: apps/v1, kind: {kind}, name: {name}, controller: true}}]
spec: {{containers: [{{name: main, resources: {{limits: {{nvidia.com/gpu: "1"}}}}}}]}}
---
"""


@pytest.mark.parametrize(
    ("selector", "team"), [("team=a", "team-a"), ("team!=a", "team-b"), ("team in (b)", "team-b")]
)
def test_what_bypassed_the_webhook_is_selected_by_the_labels_of_its_pods(
    selector: str, team: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A live cluster is asked for Pods, and not for what owns them."""
    pods = [
        BYPASSING.format(team=team, kind=kind, name=name)
        for team in ("a", "b")
        for kind, name in (("ReplicaSet", "web-5f6d"), ("ReplicaSet", "bare"), ("StatefulSet", "data"))
    ]
    (tmp_path / "pods.yaml").write_text("".join(pods))
    assert main(["drift", "-l", selector, "--snapshot", "cluster.yaml", "--snapshot", "pods.yaml"]) == 1
    named = {
        line.split()[1] for line in capsys.readouterr().out.splitlines() if "carries no decision" in line
    }
    assert named == {f"{team}/web", f"{team}/bare", f"{team}/data"}
    assert main(["drift", "-l", "!team,!app", "--snapshot", "cluster.yaml", "--snapshot", "pods.yaml"]) == 0


@pytest.mark.parametrize("command", ["plan", "diff"])
def test_a_plan_that_matches_no_pool_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        Path("cluster.yaml")
        .read_text()
        .replace("engine: kueue", "engine: kueue\n    pools: {matchNames: [h10-*]}")
    )
    text = "".join(line for line in text.splitlines(keepends=True) if "a100-40gb" not in line)
    Path("cluster.yaml").write_text(text)
    assert main([command, "--snapshot", "cluster.yaml"]) == (command == "diff")
    captured = capsys.readouterr()
    assert captured.err == (
        "warning: QuotaPlan research matches no pool, so its queues get nothing; correct spec.pools: "
        "`slicewise pools` lists the names\n"
    )
    assert command == "diff" or "ClusterQueue   team-a          nothing" in captured.out


@pytest.mark.parametrize("mode", ["write", "report"])
def test_a_plan_for_a_pool_that_is_still_to_be_made_matches_it(
    mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pools = f"engine: kueue\n    mode: {mode}\n    pools: {{matchNames: [a100-40gb-mig-mixed]}}"
    cluster = Path("cluster.yaml")
    cluster.write_text(cluster.read_text().replace("engine: kueue", pools))
    assert main(["plan", "--snapshot", "cluster.yaml"]) == 0
    captured = capsys.readouterr()
    assert "a100-40gb-mig-mixed: nvidia.com/mig-1g.5gb=4" in captured.out
    assert "matches no pool" not in captured.err


@pytest.mark.parametrize("command", ["plan", "diff", "drift"])
def test_a_misspelt_namespace_is_no_empty_answer(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "-n", "taem-a", "--snapshot", "cluster.yaml"]) == 2
    assert (
        capsys.readouterr().err
        == f"slicewise {command}: there is no namespace taem-a; did you mean team-a?\n"
    )


def test_a_misspelt_queue_is_asked_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "taem-a", "--snapshot", "cluster.yaml"]) == 2
    assert (
        capsys.readouterr().err == "slicewise why: no QuotaPlan lists a queue taem-a; did you mean team-a?\n"
    )


SELECTORS = {
    "": True,
    "team=a": True,
    "team==a": True,
    "team = b": False,
    "team!=b": True,
    "other!=b": True,
    "team in (a, b)": True,
    "team notin (a,b)": False,
    "team": True,
    "!team": False,
    "!other": True,
    "team in (a,b),app=web": True,
    "team=a,app=db": False,
    "example.org/empty=": True,
    "gpus>2": True,
    "gpus > 8": False,
    "gpus<9,team=a": True,
    "gpus<8": False,
    "team>0": False,
    "other<1": False,
}


@pytest.mark.parametrize(("text", "selected"), SELECTORS.items())
def test_labels_are_selected_as_kubectl_does(text: str, selected: bool) -> None:  # noqa: FBT001
    labels = {"team": "a", "app": "web", "example.org/empty": "", "gpus": "8"}
    assert label_selector(text).matches(labels) is selected


@pytest.mark.parametrize(
    "text", ["=a", "team in a", "team in (a", "a=b=c", "team>b", "team>=1", "team>", ",", "a,"]
)
def test_what_selects_no_labels_is_a_sentence(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"selects no labels; write for example team=a"):
        label_selector(text)


@pytest.mark.parametrize(
    ("taints", "wrong"),
    [
        ("", ""),
        ("team, example.org/draining ,karpenter.sh/,", ""),
        ("a b", "'a b'"),
        ("team,example.org/a/b", "'example.org/a/b'"),
        ("team=a:NoSchedule", "'team=a:NoSchedule'"),
    ],
)
def test_keys_of_taints_are_keys(taints: str, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pools", "--snapshot", "cluster.yaml", "--transient-taints", taints]
    if not wrong:
        assert main(words) == 0
        return
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert f"--transient-taints: {wrong} is no key of a taint; write" in capsys.readouterr().err
