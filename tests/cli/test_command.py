"""The command as people and their scripts use it: output, messages, exit status."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest
import yaml

from slicewise.cli import main
from slicewise.cli.demo import next_commands
from slicewise.kube.yaml import dump, load
from tests.queue_sync.scenes import exclusive

Run = Callable[..., "Ran"]


class Ran:
    """What one call of the command did."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


CLUSTER = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: team-a, labels: {slicewise.io/policy: default, team: a}}}
- {apiVersion: v1, kind: Namespace, metadata: {name: plain}}
- apiVersion: v1
  kind: Node
  metadata:
    name: h1
    labels:
      nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3
      nvidia.com/gpu.count: "1"
      nvidia.com/gpu.replicas: "0"
      nvidia.com/gpu.memory: "81559"
      nvidia.com/mig.strategy: mixed
      nvidia.com/mig-1g.10gb.count: "7"
      nvidia.com/mig-1g.10gb.memory: "9984"
  status:
    capacity: {nvidia.com/mig-1g.10gb: "7"}
    allocatable: {nvidia.com/mig-1g.10gb: "7"}
    conditions: [{type: Ready, status: "True"}]
- apiVersion: v1
  kind: Node
  metadata: {name: h2, labels: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3, nvidia.com/mig.config.state: pending}}
  status:
    capacity: {nvidia.com/gpu: "8"}
    allocatable: {nvidia.com/gpu: "8"}
    conditions: [{type: Ready, status: "True"}]
---
apiVersion: slicewise.io/v1alpha1
kind: QuotaPlan
metadata: {name: research}
spec: {engine: kueue, queues: [{name: team-a, share: 1, namespaces: {matchLabels: {team: a}}}]}
"""


def job(name: str = "serve", namespace: str = "team-a", gpus: object = 1, **labels: str) -> dict[str, Any]:
    resources = {"limits": {"nvidia.com/gpu": gpus}}
    spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "x", "resources": resources}]}
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": {f"slicewise.io/{k}": v for k, v in labels.items()},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"template": {"spec": spec}},
    }


INFERENCE = {"workload-class": "inference"}
FARMS = "kinds: [{group: example.org, kind: Farm, paths: [T spec.template]}]"


def farm() -> dict[str, Any]:
    """A workload of a kind that no row is built in for."""
    return {**job(**INFERENCE), "apiVersion": "example.org/v1", "kind": "Farm"}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls the command with a cluster file and, on standard input, manifests."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, stdin: object = None, cluster: bool = True) -> Ran:
        text = stdin if isinstance(stdin, str) else dump([stdin])
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        status = main([*arguments, *(["--snapshot", "cluster.yaml"] if cluster else [])])
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return call


class TestMutate:
    def test_prints_the_manifest_as_the_webhook_would_leave_it(self, run: Run) -> None:
        ran = run("mutate", "-f", "-", stdin=job(**INFERENCE))
        left = yaml.safe_load(ran.out)
        container = left["spec"]["template"]["spec"]["containers"][0]
        assert (ran.status, ran.err) == (0, "")
        assert container["resources"] == {"limits": {"nvidia.com/mig-1g.10gb": "1"}}
        assert json.loads(left["metadata"]["annotations"]["slicewise.io/decision"])["strategy"] == "mig"

    def test_names_are_listed_as_the_webhook_lists_them_however_the_file_does(self, run: Run) -> None:
        ask = {"nvidia.com/mig-3g.40gb": 1, "nvidia.com/mig-2g.20gb": 1, "nvidia.com/gpu": 1}
        said = set()
        for names in (list(ask), list(reversed(ask))):
            item = job(**INFERENCE)
            resources = item["spec"]["template"]["spec"]["containers"][0]["resources"]
            resources["limits"] = {name: ask[name] for name in names}
            said.add(run("mutate", "-f", "-", stdin=item).err)
        (words,) = said
        assert "nvidia.com/mig-2g.20gb, nvidia.com/mig-3g.40gb" in words

    def test_with_the_object_as_it_stands_an_update_is_judged(self, run: Run, tmp_path: Path) -> None:
        live = run("mutate", "-f", "-", stdin=job(**INFERENCE)).out
        (tmp_path / "live.yaml").write_text(live)
        again = run("mutate", "-f", "-", "--old", "live.yaml", stdin=job(**INFERENCE))
        assert (again.status, again.out, again.err) == (0, live, "")

    def test_what_the_objects_as_they_stand_lack_is_said(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "live.yaml").write_text(run("mutate", "-f", "-", stdin=job(**INFERENCE)).out)
        other = run("mutate", "-f", "-", "--old", "live.yaml", stdin=job("serv", **INFERENCE))
        assert (other.status, other.err) == (
            0,
            "warning: --old holds no Job team-a/serv, so its creation is judged\n",
        )

    @pytest.mark.parametrize("client", ["", "=kubectl", "=server-side", "=helm"])
    def test_what_a_client_sends_when_it_applies_again_is_judged(
        self, run: Run, tmp_path: Path, client: str
    ) -> None:
        (tmp_path / "before.yaml").write_text(json.dumps(job(**INFERENCE)))
        now = json.loads(json.dumps(job(**INFERENCE)).replace("nvidia.com/gpu", "nvidia.com/mig-2g.20gb"))
        ran = run("mutate", "-f", "-", "--old", "before.yaml", f"--as-apply{client}", stdin=now)
        left = yaml.safe_load(ran.out)
        resources = left["spec"]["template"]["spec"]["containers"][0]["resources"]
        assert resources == {"limits": {"nvidia.com/mig-2g.20gb": 1}}
        assert "managedFields" not in left["metadata"]

    def test_of_a_chart_that_did_not_change_helm_sends_nothing_of_a_kind_of_its_own(
        self, run: Run, tmp_path: Path
    ) -> None:
        model = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
        item = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": job(**INFERENCE)["metadata"],
            "spec": {"predictor": {"model": model}},
        }
        (tmp_path / "before.yaml").write_text(json.dumps(item))
        ran = run("mutate", "-f", "-", "--old", "before.yaml", "--as-apply=helm", "-o", "patch", stdin=item)
        assert (ran.status, ran.out, ran.err) == (0, "[]\n", "")
        asks = run("mutate", "-f", "-", "--old", "before.yaml", "--as-apply=helm", stdin=item)
        assert "nvidia.com/mig-1g.10gb" in asks.out

    def test_what_stands_says_itself_what_kubectl_applied(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "before.yaml").write_text(json.dumps(job(**INFERENCE)))
        stands = run("mutate", "-f", "-", "--old", "before.yaml", "--as-apply", stdin=job(**INFERENCE))
        (tmp_path / "live.yaml").write_text(stands.out)
        again = run("mutate", "-f", "-", "--old", "live.yaml", "--as-apply", stdin=job(**INFERENCE))
        assert (again.status, again.out, again.err) == (0, stands.out, "")

    def test_what_stands_and_does_not_say_what_was_applied_is_bad_input(
        self, run: Run, tmp_path: Path
    ) -> None:
        (tmp_path / "live.yaml").write_text(run("mutate", "-f", "-", stdin=job(**INFERENCE)).out)
        ran = run("mutate", "-f", "-", "--old", "live.yaml", "--as-apply", stdin=job(**INFERENCE))
        assert (ran.status, ran.out) == (2, "")
        assert "give the manifest as it was applied before" in ran.err

    def test_applying_again_needs_what_was_applied_before(self, run: Run) -> None:
        ran = run("mutate", "-f", "-", "--as-apply", stdin=job(**INFERENCE))
        assert (ran.status, ran.out) == (2, "")
        assert "--as-apply: needs --old FILE" in ran.err

    @pytest.mark.parametrize("command", ["mutate", "plan"])
    def test_standard_input_is_read_once(self, run: Run, command: str) -> None:
        ran = run(command, "-f", "-", "--snapshot", "-", stdin=job(**INFERENCE))
        assert (ran.status, ran.out) == (2, "")
        assert ran.err == (
            f"slicewise {command}: standard input: it is named both by -f and by --snapshot, and can be read once; "
            "put one into a file\n"
        )

    def test_the_decision_is_one_json_document_with_the_documented_fields(self, run: Run) -> None:
        decision = json.loads(run("mutate", "-f", "-", "-o", "decision", stdin=job(**INFERENCE)).out)
        assert decision == {
            "policy": "default",
            "class": "inference",
            "classFrom": "label",
            "strategy": "mig",
            "pools": ["h100-80gb-mig-mixed"],
            "containers": {
                "main": {"from": "nvidia.com/gpu", "to": "nvidia.com/mig-1g.10gb", "count": 1, "asked": 1}
            },
            "reason": decision["reason"],
            "steered": False,
        }

    def test_the_patch_is_a_json_patch(self, run: Run) -> None:
        operations = json.loads(run("mutate", "-f", "-", "-o", "patch", stdin=job(**INFERENCE)).out)
        assert {"op", "path"} <= operations[0].keys()
        assert operations[0]["path"].endswith("/limits/nvidia.com~1gpu")

    def test_a_list_stays_a_list_without_what_was_refused(self, run: Run) -> None:
        items = [job("one", **INFERENCE), job("two"), job("three", "plain")]
        ran = run(
            "mutate", "-f", "-", "-o", "json", stdin={"apiVersion": "v1", "kind": "List", "items": items}
        )
        assert [item["metadata"]["name"] for item in json.loads(ran.out)["items"]] == ["one", "three"]
        assert ran.status == 1
        assert ran.err.startswith("refused: Job team-a/two: no pool can serve class training")

    def test_a_namespace_that_no_snapshot_holds_has_not_opted_in(self, run: Run) -> None:
        manifest = job(namespace="elsewhere", **INFERENCE)
        assert yaml.safe_load(run("mutate", "-f", "-", stdin=manifest).out) == manifest

    @pytest.mark.parametrize("command", ["mutate", "explain"])
    @pytest.mark.parametrize(
        ("named", "said"),
        [
            ("taem-a", "warning: there is no namespace taem-a; did you mean team-a?\n"),
            ("zzz", "warning: there is no namespace zzz; name one that kubectl get namespaces lists\n"),
            ("team-a", ""),
            ("default", ""),
        ],
    )
    def test_a_namespace_that_is_not_there_is_named(
        self, run: Run, command: str, named: str, said: str
    ) -> None:
        own = job(namespace=named, **INFERENCE)
        assert run(command, "-f", "-", "-o", "name", stdin=own).err == said
        del own["metadata"]["namespace"]
        assert run(command, "-f", "-", "-n", named, "-o", "name", stdin=own).err == said

    @pytest.mark.parametrize("command", ["mutate -f -", "explain -f -", "drift"])
    def test_a_snapshot_without_a_namespace_is_named(self, run: Run, tmp_path: Path, command: str) -> None:
        documents = [each for each in load(CLUSTER) if each]
        items = [item for each in documents for item in each.get("items", [each])]
        bare = [item for item in items if item["kind"] != "Namespace"]
        (tmp_path / "bare.yaml").write_text(dump(bare))
        ran = run(*command.split(), "-o", "name", "--snapshot", "bare.yaml", stdin=job(), cluster=False)
        assert ran.err == (
            "warning: no Namespace was read, so none is known to have opted in; give the namespaces too "
            "(kubectl get namespaces -o yaml)\n"
        )

    @pytest.mark.parametrize("command", ["mutate", "explain"])
    @pytest.mark.parametrize(
        ("right", "wrong", "said"),
        [
            ('"Job"', '"Jobb"', "Jobb serve: batch/v1 has no kind Jobb; did you mean Job?"),
            (
                "batch/v1",
                "batch/v2",
                "Job serve: there is no apiVersion batch/v2 of this kind; did you mean batch/v1?",
            ),
            (
                '"containers"',
                '"contaners"',
                "Job serve: /spec/template/spec has no field contaners; did you mean containers?",
            ),
            ('"Job"', '"Lease"', ""),
        ],
    )
    def test_a_slip_in_a_manifest_is_named(
        self, run: Run, command: str, right: str, wrong: str, said: str
    ) -> None:
        manifest = json.loads(json.dumps(job(**INFERENCE)).replace(right, wrong))
        ran = run(command, "-f", "-", "-o", "name", stdin=manifest)
        assert ran.err == (f"warning: {said}\n" if said else "")

    def test_a_namespace_among_the_manifests_is_there(self, run: Run) -> None:
        new = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new"}}
        both = {"apiVersion": "v1", "kind": "List", "items": [new, job(namespace="new")]}
        assert run("mutate", "-f", "-", "-o", "name", stdin=both).err == ""

    @pytest.mark.parametrize("command", ["mutate", "explain"])
    def test_an_object_of_another_namespace_than_is_said_is_refused(self, run: Run, command: str) -> None:
        ran = run(command, "-f", "-", "-n", "plain", stdin=job())
        assert ran.status == 2
        assert ran.err == (
            f"slicewise {command}: standard input: document 1: Job serve is of namespace team-a, and -n says plain; "
            "leave out -n, or name that namespace\n"
        )

    def test_the_namespace_flag_is_for_objects_that_name_none(self, run: Run) -> None:
        manifest = job(**INFERENCE)
        del manifest["metadata"]["namespace"]
        assert (
            run("mutate", "-f", "-", "-n", "team-a", "-o", "decision", stdin=manifest).out.strip() != "null"
        )
        assert run("mutate", "-f", "-", "-o", "decision", stdin=manifest).out.strip() == "null"

    def test_timestamps_and_unknown_fields_come_out_as_they_went_in(self, run: Run) -> None:
        manifest = job(**INFERENCE)
        manifest["metadata"]["creationTimestamp"] = "2026-11-23T00:00:00Z"
        manifest["spec"]["template"]["spec"]["somethingNew"] = {"a": [1, None, "x"]}
        text = yaml.safe_dump(manifest).replace("'2026-11-23T00:00:00Z'", "2026-11-23T00:00:00Z")
        left = yaml.load(run("mutate", "-f", "-", stdin=text).out, Loader=yaml.BaseLoader)  # noqa: S506  makes strings only
        assert left["metadata"]["creationTimestamp"] == "2026-11-23T00:00:00Z"
        assert left["spec"]["template"]["spec"]["somethingNew"]["a"] == ["1", "null", "x"]

    def test_a_directory_is_read_whole(self, run: Run, tmp_path: Path) -> None:
        folder = tmp_path / "manifests"
        folder.mkdir()
        (folder / "a.yaml").write_text(yaml.safe_dump(job("a", **INFERENCE)))
        (folder / "b.json").write_text(json.dumps(job("b", **INFERENCE)))
        (folder / "notes.txt").write_text("not a manifest")
        assert len(run("mutate", "-f", str(folder), "-o", "decision").out.splitlines()) == 2

    def test_kinds_of_an_admins_own_come_from_a_file(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "kinds.yaml").write_text(FARMS)
        assert run("mutate", "-f", "-", "-o", "decision", stdin=farm()).out.strip() == "null"
        known = run("mutate", "-f", "-", "-o", "decision", "--kinds-file", "kinds.yaml", stdin=farm())
        assert json.loads(known.out)["strategy"] == "mig"
        (tmp_path / "kinds.yaml").write_text("kinds: [{kind: Farm}]")
        broken = run("mutate", "-f", "-", "--kinds-file", "kinds.yaml", stdin=farm())
        assert broken.status == 2
        assert broken.err.startswith("slicewise mutate: kinds.yaml: ")


BAD = {
    "not yaml": ("a: [", "standard input: is not YAML at line 2"),
    "no object": ("- 1", "standard input: document 1: is no object"),
    "no kind": ("apiVersion: v1", "standard input: document 1: kind: is missing"),
    "no kind in a list": (
        "{apiVersion: v1, kind: List, items: [{metadata: {}}]}",
        "standard input: document 1: items[0]: apiVersion: is missing",
    ),
    "metadata": (
        "{apiVersion: v1, kind: Pod, metadata: 1}",
        "standard input: document 1: metadata: is no map",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_that_names_file_document_and_field(run: Run, text: str, sentence: str) -> None:
    ran = run("mutate", "-f", "-", stdin=text)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"slicewise mutate: {sentence}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["pools", "-o", "xml"],
            "slicewise pools: argument -o/--output: 'xml' is none of table, wide, name, json, yaml; see ",
        ),
        (["mutate"], "slicewise mutate: the following arguments are required: -f/--filename; see "),
        (
            ["webhook", "--namespace", "Not_One"],
            "slicewise webhook: argument --namespace: 'Not_One' is no name; ",
        ),
        (
            ["controller", "--settle", "soon"],
            "slicewise controller: argument --settle: 'soon' is no duration; ",
        ),
        (["nonsense"], "slicewise: there is no command nonsense; see "),
    ],
    ids=" ".join,
)
def test_a_bad_command_line_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.setattr("sys.argv", ["slicewise"])
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(sentence)


def test_nothing_typed_is_told_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert (out, "commands:" in err) == ("", True)


def test_a_missing_file_is_bad_input(run: Run) -> None:
    ran = run("mutate", "-f", "nowhere.yaml")
    assert (ran.status, ran.err) == (
        2,
        "slicewise mutate: nowhere.yaml: cannot be read: No such file or directory; name a file that is there\n",
    )


EMPTY: Final = "the name is empty; name a file, a directory, or - for standard input"
NOTHING: Final = "holds no objects; give what `kubectl get -o yaml` prints"
NO_ITEMS: Final = "none.yaml: document 1: holds a List of no items; give the manifests"
UNUSABLE: Final = {
    "a snapshot without a name": (("pools", "--snapshot", ""), EMPTY),
    "a manifest without a name": (("mutate", "-f", ""), EMPTY),
    "a change without a name": (("plan", "-f", ""), EMPTY),
    "tests without a name": (("test", ""), EMPTY),
    "a policy without a name": (
        ("explain", "-f", "cluster.yaml", "--policy", ""),
        "--policy '': there is no ",
    ),
    "an empty snapshot": (("pools", "--snapshot", "empty.yaml"), f"empty.yaml: {NOTHING}"),
    "an empty folder": (("drift", "--snapshot", "folder"), f"folder: {NOTHING}"),
    "an empty manifest": (("explain", "-f", "empty.yaml"), f"empty.yaml: {NOTHING}"),
    "a manifest that is an empty List": (("mutate", "-f", "none.yaml"), NO_ITEMS),
    **{
        f"a manifest that is a {kind} without items": (
            ("mutate", "-f", f"{kind}.yaml"),
            f"{kind}.yaml: document 1: holds a {kind} of no items; give the manifests",
        )
        for kind in ("List", "PodList")
    },
    "a manifest that is a List of null": (("explain", "-f", "null.yaml"), NO_ITEMS.replace("none", "null")),
    "an empty pipe": (("doctor", "--snapshot", "-"), f"standard input: {NOTHING}"),
}


@pytest.mark.parametrize(("words", "sentence"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_name_or_a_file_with_nothing_in_it_is_bad_input(
    run: Run, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "empty.yaml").write_text("")
    (tmp_path / "none.yaml").write_text("{apiVersion: v1, kind: List, items: []}")
    (tmp_path / "null.yaml").write_text("{apiVersion: v1, kind: List, items: null}")
    for kind in ("List", "PodList"):
        (tmp_path / f"{kind}.yaml").write_text(f"{{apiVersion: v1, kind: {kind}}}")
    ran = run(*words, stdin="", cluster=words[0] != "test")
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"slicewise {words[0]}: {sentence}")


def test_a_folder_is_read_as_a_snapshot_whatever_of_it_is_empty(run: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "cluster.yaml").write_text(CLUSTER)
    (tmp_path / "folder" / "empty.yaml").write_text("")
    assert run("pools", "--snapshot", "folder", cluster=False).out == run("pools").out


@pytest.mark.parametrize(
    ("stdin", "sentence"),
    [
        (None, "is closed; name a file"),
        (io.TextIOWrapper(io.BytesIO(b"\xff"), "utf-8"), "is not UTF-8 text; "),
    ],
    ids=["closed", "no text"],
)
def test_standard_input_that_cannot_be_read_is_bad_input(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stdin: io.TextIOWrapper | None,
    sentence: str,
) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["pools", "--snapshot", "-"]) == 2
    assert capsys.readouterr().err.startswith(f"slicewise pools: standard input: {sentence}")


def test_a_plan_that_is_not_there_is_told_from_one_that_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("{apiVersion: v1, kind: Namespace, metadata: {name: team-a}}")
    ran = run("plan", "--snapshot", "space.yaml", cluster=False)
    assert ran.out == "No plan wants anything: no QuotaPlan was read.\n"
    (tmp_path / "plan.yaml").write_text(
        "{apiVersion: slicewise.io/v1alpha1, kind: QuotaPlan, metadata: {name: p},"
        " spec: {engine: kueue, queues: [{name: a}]}}"
    )
    ran = run("plan", "--snapshot", "plan.yaml", cluster=False)
    assert ran.out == "No plan wants anything: none of the QuotaPlans can be followed.\n"


OF_NO_NODE = {"pools": "", "drift": "Nothing slipped through.\n"}


@pytest.mark.parametrize("command", OF_NO_NODE)
def test_a_snapshot_without_a_node_is_no_cluster_without_one(run: Run, tmp_path: Path, command: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "team-a"},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": 1}}}]},
    }
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(pod))
    assert run(command, "--snapshot", "space.yaml", cluster=False).out == OF_NO_NODE[command]
    ran = run(command, "--snapshot", "space.yaml", "-o", "json", cluster=False)
    assert (ran.status, ran.out) == (0, "[]\n")
    assert ran.err.startswith("warning: no Node was read, so what is offered is not known; ")
    assert run(command, "-o", "json").err == ""


def slicewise(tmp_path: Path, *words: str, to: Any, encoding: str = "utf-8") -> tuple[int, str]:
    """Runs the command in a process of its own; returns its status and what it says."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    ran = subprocess.run(
        [sys.executable, "-m", "slicewise", *words, "--snapshot", "cluster.yaml"],
        stdin=subprocess.DEVNULL,
        stdout=to,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )
    return ran.returncode, ran.stderr


@pytest.mark.parametrize("words", [("plan",), ("explain", "-f", "cluster.yaml")], ids=" ".join)
def test_output_that_finds_no_room_is_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        said = slicewise(tmp_path, *words, to=full)
    assert said == (
        2,
        f"slicewise {words[0]}: cannot write: No space left on device; make room, or write elsewhere\n",
    )


@pytest.mark.parametrize(
    "words",
    [["test", "{}"], ["pools", "--kubeconfig", "{}"]],
    ids=str,
)
def test_a_name_that_no_file_can_have_is_one_sentence(run: Run, words: list[str]) -> None:
    ran = run(*(word.format("x" * 300) for word in words), cluster=False)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "xxx: File name too long; " in ran.err


def test_where_standard_output_is_closed_nothing_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    monkeypatch.setattr("sys.stdout", None)
    assert main(["pools", "--snapshot", str(tmp_path / "cluster.yaml")]) == 0


def test_output_in_an_encoding_without_a_character_is_one_sentence(tmp_path: Path) -> None:
    said = slicewise(tmp_path, "why", "team-a", to=subprocess.PIPE, encoding="ascii")
    assert said == (
        2,
        "slicewise why: standard output: ascii has no '\\u2514'; set PYTHONIOENCODING=utf-8\n",
    )


def test_a_bad_policy_in_a_snapshot_names_its_field(run: Run, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(
        "{apiVersion: slicewise.io/v1alpha1, kind: SlicingPolicy, metadata: {name: p},"
        " spec: {defaultClass: a, classes: {a: {strategy: halves}}}}"
    )
    ran = run("pools", "--snapshot", "policy.yaml")
    assert ran.status == 2
    assert "policy.yaml: document 1: spec.classes.a.strategy: " in ran.err


@pytest.mark.parametrize("words", [("pools",), ("doctor",), ("why", "job/train", "-n", "lab")], ids=" ".join)
def test_without_a_cluster_the_command_says_what_to_give(
    words: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    ran = run(*words, cluster=False)
    assert ran.status == 2
    assert "give --snapshot FILE" in ran.err


class TestPools:
    def test_the_json_has_the_documented_fields(self, run: Run) -> None:
        assert json.loads(run("pools", "-o", "json").out) == [
            {
                "name": "h100-80gb-exclusive",
                "strategy": "exclusive",
                "model": "NVIDIA-H100-80GB-HBM3",
                "sources": [],
                "nodes": [],
                "resources": {},
                "unsettled": [
                    {"node": "h2", "reason": "nvidia.com/mig.config.state is pending, not success"}
                ],
            },
            {
                "name": "h100-80gb-mig-mixed",
                "strategy": "mig",
                "model": "NVIDIA-H100-80GB-HBM3",
                "sources": ["gpu-feature-discovery"],
                "nodes": ["h1"],
                "resources": {"nvidia.com/mig-1g.10gb": 7},
                "unsettled": [],
            },
        ]

    def test_the_table_says_what_is_not_believed_and_why(self, run: Run) -> None:
        out = run("pools").out
        assert "h2 (h100-80gb-exclusive): nvidia.com/mig.config.state is pending, not success" in out


class TestPlans:
    def test_plan_prints_every_object_in_the_order_to_write_them(self, run: Run) -> None:
        kinds = [document["kind"] for document in load(run("plan", "-o", "yaml").out)]
        assert list(dict.fromkeys(kinds)) == ["ResourceFlavor", "ClusterQueue", "LocalQueue"]

    def test_diff_is_silent_over_what_plan_printed(self, run: Run, tmp_path: Path) -> None:
        assert run("diff").status == 1
        (tmp_path / "standing.yaml").write_text(run("plan", "-o", "yaml").out)
        ran = run("diff", "--snapshot", "standing.yaml")
        assert (ran.status, ran.out) == (0, "")

    def test_diff_shows_a_number_that_somebody_changed(self, run: Run, tmp_path: Path) -> None:
        standing = run("plan", "-o", "yaml").out.replace("nominalQuota: '7'", "nominalQuota: '70'")
        (tmp_path / "standing.yaml").write_text(standing)
        ran = run("diff", "--snapshot", "standing.yaml")
        assert ran.status == 1
        assert "-        nominalQuota: '70'\n+        nominalQuota: '7'\n" in ran.out

    def test_two_plans_over_one_pool_are_bad_input(self, run: Run, tmp_path: Path) -> None:
        second = CLUSTER.rpartition("---")[2].replace("research", "rival").replace("team-a", "team-z")
        (tmp_path / "second.yaml").write_text(second)
        ran = run("plan", "--snapshot", "second.yaml")
        assert ran.status == 2
        assert ran.err.startswith("refused: QuotaPlan rival takes the pool ")
        assert ran.err.count("\n") == 1

    @pytest.mark.parametrize("command", ["plan", "diff", "drift"])
    def test_an_object_of_another_shape_is_bad_input(self, run: Run, tmp_path: Path, command: str) -> None:
        queue = {
            "apiVersion": "kueue.x-k8s.io/v1beta2",
            "kind": "ClusterQueue",
            "metadata": {"name": "team-a"},
        }
        (tmp_path / "queue.yaml").write_text(yaml.safe_dump({**queue, "spec": {"resourceGroups": 3}}))
        ran = run(command, "--snapshot", "queue.yaml")
        assert (ran.status, ran.out) == (2, "")
        assert ran.err.startswith(f"slicewise {command}: ClusterQueue team-a: ")

    def test_drift_finds_a_pod_that_asks_for_what_nobody_offers(self, run: Run, tmp_path: Path) -> None:
        assert run("drift").status == 0
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "p", "namespace": "team-a"},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/mig-9g.99gb": "1"}}}]},
            "status": {"phase": "Pending"},
        }
        (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
        ran = run("drift", "--snapshot", "pod.yaml", "-o", "json")
        assert ran.status == 1
        assert [finding["name"] for finding in json.loads(ran.out)] == ["p"]
        assert run("drift", "--snapshot", "pod.yaml", "-o", "name").out == "pod/p -n team-a\n"
        assert run("drift", "--snapshot", "pod.yaml", "-o", "name", "-n", "team-a").out == "pod/p\n"

    def test_drift_finds_what_makes_pods_until_it_has_finished(self, run: Run, tmp_path: Path) -> None:
        def names(**changes: Any) -> list[str]:
            work = job()
            work["metadata"] |= changes.pop("metadata", {})
            (tmp_path / "job.yaml").write_text(yaml.safe_dump({**work, **changes}))
            found = json.loads(run("drift", "--snapshot", "job.yaml", "-o", "json").out)
            assert not json.loads(run("drift", "--snapshot", "job.yaml", "-n", "plain", "-o", "json").out)
            assert (
                json.loads(run("drift", "--snapshot", "job.yaml", "-n", "team-a", "-o", "json").out) == found
            )
            return [f"{each['code']} {each['kind']} {each['name']}" for each in found]

        assert names() == ["NameNotOffered Job serve"]
        assert names(status={"conditions": [{"type": "Complete", "status": "True"}]}) == []
        assert names(status=3, metadata={"name": None, "generateName": "try-"}) == ["NameNotOffered Job try-"]
        owner = {"apiVersion": "x/v1", "kind": "Owner", "name": "o", "uid": "u", "controller": True}
        assert names(metadata={"ownerReferences": [owner]}) == []

    def test_drift_finds_kinds_of_an_admins_own(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "kinds.yaml").write_text(FARMS)
        (tmp_path / "farm.yaml").write_text(yaml.safe_dump(farm()))
        assert run("drift", "--snapshot", "farm.yaml").status == 0
        ran = run("drift", "--snapshot", "farm.yaml", "--kinds-file", "kinds.yaml")
        assert (ran.status, ran.out.startswith("Farm team-a/serve asks for nvidia.com/gpu")) == (1, True)

    @pytest.mark.parametrize("command", ["plan", "diff"])
    def test_a_snapshot_without_nodes_is_no_zero(self, run: Run, tmp_path: Path, command: str) -> None:
        (tmp_path / "standing.yaml").write_text(run("plan", "-o", "yaml").out)
        (tmp_path / "plan.yaml").write_text(CLUSTER.rpartition("---")[2])
        snapshots = ("--snapshot", "plan.yaml", "--snapshot", "standing.yaml")
        ran = run(command, *snapshots, cluster=False)
        assert ran.status == 0
        assert ran.err.startswith("warning: there is no node at all, which is never taken for a zero")
        assert "nominalQuota" not in ran.out


class TestPolicyTests:
    SUITE = """
        snapshot: [cluster.yaml]
        namespace: team-a
        cases:
        - name: inference gets a slice
          manifest: job.yaml
          expect: {strategy: mig, containers: {main: {to: nvidia.com/mig-1g.10gb}}}
        - name: training is refused here
          manifest: {apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers:
            [{name: main, resources: {limits: {nvidia.com/gpu: 1}}}]}}
          expect: {outcome: refused, message: no pool can serve}
        """

    def test_a_suite_that_holds_passes(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job(**INFERENCE)))
        (tmp_path / "suite.yaml").write_text(self.SUITE)
        ran = run("test", "suite.yaml", cluster=False)
        assert (ran.status, ran.err) == (0, "2 passed, 0 failed\n")

    @pytest.mark.parametrize(
        ("container", "status"), [("main", 0), ("/spec/template:main", 0), ("/spec/worker:main", 1)]
    )
    def test_a_name_alone_means_the_containers_of_all_templates(
        self, run: Run, tmp_path: Path, container: str, status: int
    ) -> None:
        asks = {"containers": [{"name": "main", "resources": {"limits": {"nvidia.com/gpu": 1}}}]}
        manifest = {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "LLMInferenceService",
            "metadata": {"name": "chat", "labels": {"slicewise.io/workload-class": "inference"}},
            "spec": {"template": asks, "prefill": {"template": asks}},
        }
        expect = {"containers": {container: {"to": "nvidia.com/mig-1g.10gb"}}}
        case = {"name": "a", "manifest": manifest, "expect": expect}
        suite = {"snapshot": ["cluster.yaml"], "namespace": "team-a", "cases": [case]}
        (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
        assert run("test", "suite.yaml", cluster=False).status == status

    def test_a_namespace_that_the_snapshot_lacks_is_named(self, run: Run, tmp_path: Path) -> None:
        case = {"name": "a", "namespace": "taem-a", "expect": {"outcome": "ignored"}}
        manifest = job()
        del manifest["metadata"]["namespace"]
        suite = {"snapshot": ["cluster.yaml"], "cases": [{**case, "manifest": manifest}]}
        (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
        ran = run("test", "suite.yaml", cluster=False)
        assert (ran.status, ran.err) == (
            0,
            "warning: suite.yaml: there is no namespace taem-a; did you mean team-a?\n1 passed, 0 failed\n",
        )

    def test_a_broken_expectation_fails_and_says_what_came_instead(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job(**INFERENCE)))
        (tmp_path / "suite.yaml").write_text(self.SUITE.replace("strategy: mig", "strategy: mps"))
        ran = run("test", "suite.yaml", cluster=False)
        assert ran.status == 1
        assert "          the strategy mps was expected, and it is mig\n" in ran.out

    def test_a_manifest_is_no_file_of_tests(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job(**INFERENCE)))
        ran = run("test", "job.yaml", cluster=False)
        said = "job.yaml: holds a Job and no cases; name a file of cases (docs/policy-tests.md)\n"
        assert (ran.status, ran.err) == (2, f"slicewise test: {said}")

    @pytest.mark.parametrize(
        ("expect", "sentence"),
        [
            ("{outcome: rewritten}", "the outcome was to be rewritten and is refused (Pod team-a/p: no pool"),
            ("{pools: [a, b]}", "the pools a, b was expected, and it is none (Pod team-a/p: no pool"),
            (
                "{containers: {main: {to: x, count: 2}}}",
                "container main was to get 2 x and gets nothing (Pod",
            ),
            (
                "{message: hello}",
                "'hello' was to be said, and what is said is: Pod team-a/p: no pool can serve",
            ),
        ],
    )
    def test_what_fails_is_a_sentence(self, run: Run, tmp_path: Path, expect: str, sentence: str) -> None:
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job(**INFERENCE)))
        text = self.SUITE.replace("{outcome: refused, message: no pool can serve}", expect)
        (tmp_path / "suite.yaml").write_text(text)
        ran = run("test", "suite.yaml", cluster=False)
        assert (ran.status, f"          {sentence}" in ran.out) == (1, True)

    @pytest.mark.parametrize(
        ("written", "misspelt", "sentence"),
        [
            (
                "strategy: mig",
                "strategi: mig",
                "cases[0].expect.strategi: there is no such field; did you mean strategy?",
            ),
            ("{to: nvidia", "{too: nvidia", "cases[0].expect.containers.main.to: is missing; add it"),
            ("cases:", "case:", "cases: is missing; add it"),
            ("[cluster.yaml]", "cluster.yaml", "snapshot: must be a list; found 'cluster.yaml'"),
            (
                "job.yaml",
                "5",
                "cases[0].manifest: is neither an object nor the path of a file; write one of them",
            ),
            ("strategy: mig", "strategy: migg", "found 'migg'; did you mean mig?"),
            ("name: inference gets a slice", "name: 5", "cases[0].name: must be text; found 5"),
            ("outcome: refused", "outcome: refusd", "found 'refusd'; did you mean refused?"),
            (
                "{outcome: refused, message: no pool can serve}",
                "x",
                "cases[1].expect: must be a map; found 'x'",
            ),
            (
                "{outcome: refused, message: no pool can serve}",
                "{}",
                "cases[1].expect: says nothing; write for example outcome: rewritten or strategy: mig",
            ),
            (
                "{outcome: refused, message: no pool can serve}",
                "{outcome: null}",
                "cases[1].expect: says nothing; write for example outcome: rewritten or strategy: mig",
            ),
            (
                "message: no pool can serve",
                'message: ""',
                "cases[1].expect.message: must have at least 1 character; found ''",
            ),
            (
                "containers: {main: {to: nvidia.com/mig-1g.10gb}}",
                "containers: {}",
                "cases[0].expect.containers: must have at least 1 item; found {}",
            ),
        ],
    )
    def test_a_suite_that_cannot_be_used_is_a_sentence_about_its_field(
        self, run: Run, tmp_path: Path, written: str, misspelt: str, sentence: str
    ) -> None:
        (tmp_path / "suite.yaml").write_text(self.SUITE.replace(written, misspelt))
        ran = run("test", "suite.yaml", cluster=False)
        assert (ran.status, ran.out) == (2, "")
        assert ran.err.startswith("slicewise test: suite.yaml: document 1: ")
        assert ran.err.endswith(f"{sentence}\n")

    def test_a_manifest_that_is_no_object_is_named_with_its_case(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "suite.yaml").write_text(self.SUITE.replace("manifest: job.yaml", "manifest: {}"))
        ran = run("test", "suite.yaml", cluster=False)
        where = "suite.yaml: case 'inference gets a slice': manifest: document 1: apiVersion: is missing; "
        assert (ran.status, ran.err.count("\n")) == (2, 1)
        assert ran.err.startswith(f"slicewise test: {where}")

    def test_a_directory_gives_every_file_that_has_cases(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job(**INFERENCE)))
        for name in ("a.yaml", "b.yml"):
            (tmp_path / name).write_text(self.SUITE)
        ran = run("test", ".", cluster=False)
        assert (ran.status, ran.err) == (0, "4 passed, 0 failed\n")
        assert [line for line in ran.out.splitlines() if not line.startswith(" ")] == ["a.yaml", "b.yml"]
        (tmp_path / "empty").mkdir()
        empty = run("test", "empty", cluster=False)
        assert (empty.status, empty.err.startswith("slicewise test: empty: holds no .yaml file")) == (2, True)

    def test_results_are_written_for_ci(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job(**INFERENCE)))
        (tmp_path / "suite.yaml").write_text(self.SUITE.replace("strategy: mig", "strategy: mps"))
        assert run("test", "suite.yaml", "--junit", "results.xml", cluster=False).status == 1
        (suite,) = ElementTree.parse(tmp_path / "results.xml").getroot()  # noqa: S314  our own file
        assert {name: suite.get(name) for name in ("name", "tests", "failures")} == {
            "name": "suite.yaml",
            "tests": "2",
            "failures": "1",
        }
        assert [(case.get("name"), [each.get("message") for each in case]) for case in suite] == [
            ("inference gets a slice", ["the strategy mps was expected, and it is mig"]),
            ("training is refused here", []),
        ]
        hostile = "a\x00\x1b[31m\ufffe<\n&"
        item = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
        case = {"name": hostile, "manifest": item, "expect": {"class": hostile}}
        (tmp_path / "hostile.yaml").write_text(json.dumps({"snapshot": ["cluster.yaml"], "cases": [case]}))
        assert run("test", "hostile.yaml", "--junit", "results.xml", cluster=False).status == 1
        (each,) = ElementTree.parse(tmp_path / "results.xml").getroot().iter("testcase")  # noqa: S314  as above
        assert each.get("name") == "a\\u0000\\u001b[31m\\ufffe<\n&"
        nowhere = run("test", "suite.yaml", "--junit", "no/where.xml", cluster=False)
        assert (nowhere.status, nowhere.err.startswith("slicewise test: --junit no/where.xml: ")) == (2, True)

    def test_watching_runs_again_when_a_file_changes(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(job(**INFERENCE)))
        (tmp_path / "suite.yaml").write_text(self.SUITE)
        texts = iter([self.SUITE.replace("strategy: mig", "strategy: mps"), "cases: ["])

        def sleep(_: float) -> None:
            text = next(texts, None)
            if text is None:
                raise KeyboardInterrupt
            (tmp_path / "suite.yaml").write_text(text)
            written = (tmp_path / "suite.yaml").stat().st_mtime_ns
            os.utime(tmp_path / "suite.yaml", ns=(written, written + 10**9))

        monkeypatch.setattr("time.sleep", sleep)
        ran = run("test", "suite.yaml", "-w", cluster=False)
        assert ran.status == 130
        lines = [line for line in ran.err.splitlines() if not line.startswith("waiting")]
        assert lines[:2] == ["2 passed, 0 failed", "1 passed, 1 failed"]
        assert lines[2].startswith("suite.yaml: is not YAML")

    def test_kinds_of_an_admins_own_are_known(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "kinds.yaml").write_text(FARMS)
        (tmp_path / "job.yaml").write_text(yaml.safe_dump(farm()))
        (tmp_path / "suite.yaml").write_text(self.SUITE)
        assert run("test", "suite.yaml", cluster=False).status == 1
        ran = run("test", "suite.yaml", "--kinds-file", "kinds.yaml", cluster=False)
        assert (ran.status, ran.err) == (0, "2 passed, 0 failed\n")

    def test_a_misspelt_field_is_bad_input(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "suite.yaml").write_text(self.SUITE.replace("expect:", "expects:"))
        ran = run("test", "suite.yaml", cluster=False)
        assert ran.status == 2
        assert "suite.yaml: document 1: cases[0]." in ran.err


def test_explain_names_class_pools_and_choice(run: Run) -> None:
    out = run("explain", "-f", "-", stdin=job(**INFERENCE)).out
    assert "class       inference, from its label" in out
    assert "h100-80gb-mig-mixed: mig: nvidia.com/mig-1g.10gb (7) fits" in out
    assert "container main: nvidia.com/gpu 1 -> nvidia.com/mig-1g.10gb 1" in out


QUEUES = {
    "files without queues": ("", ""),
    "it stands": ("LocalQueue team-a/research", ""),
    "another stands": ("LocalQueue team-a/other", " (there are: other)"),
    "it stands elsewhere": ("LocalQueue team-z/research", ""),
}


@pytest.mark.parametrize(("there", "known"), QUEUES.values(), ids=QUEUES)
def test_explain_names_the_queue_and_warns_where_it_is_not_there(
    run: Run, there: str, known: str, tmp_path: Path
) -> None:
    labels = {"policy": "default", "engine": "kueue", "queue": "research"}
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "team-a", "labels": {f"slicewise.io/{k}": v for k, v in labels.items()}},
    }
    space, _, name = there.rpartition(" ")[2].partition("/")
    queue = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "LocalQueue",
        "metadata": {"namespace": space, "name": name},
        "spec": {"clusterQueue": "research"},
    }
    (tmp_path / "queues.yaml").write_text(dump([exclusive("n"), namespace, *([queue] if there else ())]))
    found = run("explain", "-f", "-", "--snapshot", str(tmp_path / "queues.yaml"), stdin=job(), cluster=False)
    assert "  queue       research\n" in found.out
    missing = there not in {"", "LocalQueue team-a/research"}
    sentence = (
        "warning: Job team-a/serve: goes to the LocalQueue research, which neither stands nor is wanted by a plan, and "
        f"waits for ever; create it, or correct slicewise.io/queue{known}\n"
    )
    assert found.err == (sentence if missing else "")


@pytest.mark.parametrize("command", ["explain", "doctor"])
def test_a_queue_that_only_the_other_engine_has_is_said_to_be_missing(
    run: Run, command: str, tmp_path: Path
) -> None:
    labels = {"policy": "default", "engine": "volcano", "queue": "research"}
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "team-a", "labels": {f"slicewise.io/{k}": v for k, v in labels.items()}},
    }
    plan = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": "research"},
        "spec": {"engine": "kueue", "queues": [{"name": "research", "namespaces": {}}]},
    }
    (tmp_path / "cluster.yaml").write_text(dump([exclusive("n"), namespace, plan]))
    manifest = ("-f", "-") if command == "explain" else ()
    found = run(command, *manifest, "--snapshot", str(tmp_path / "cluster.yaml"), stdin=job(), cluster=False)
    said = found.err if command == "explain" else found.out
    assert "the Queue research, which " in said
    assert "slicewise.io/engine" in said
    assert "kueue, which has a LocalQueue of that name" in said


SCOPES = {
    "its own": (job(), "team-a"),
    "none named": (job(namespace=""), "team-b"),
    "cluster-scoped": ({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "serve"}}, ""),
    "cluster-scoped, with pod templates": (
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ClusterServingRuntime",
            "metadata": {"name": "serve"},
        },
        "",
    ),
}


@pytest.mark.parametrize(("item", "space"), SCOPES.values(), ids=SCOPES)
def test_an_object_is_named_with_its_own_namespace(run: Run, item: dict[str, Any], space: str) -> None:
    ask = ("-f", "-", *(() if space == "team-a" else ("-n", "team-b")))
    row = run("mutate", *ask, "-o", "table", stdin=item).out.splitlines()[1]
    assert row.split()[:3] == [item["kind"], space or "-", "serve"]
    title = run("explain", *ask, stdin=item).out.splitlines()[0]
    assert title == f"{item['kind']} {space}/serve".replace(" /", " ")
    assert json.loads(run("explain", *ask, "-o", "json", stdin=item).out)[0]["namespace"] == space


class TestWhatIf:
    GOLD = (
        "{apiVersion: slicewise.io/v1alpha1, kind: SlicingPolicy, metadata: {name: gold}, "
        "spec: {defaultClass: any, classes: {any: {strategy: mig}}}}"
    )

    def test_a_plan_in_a_file_stands_in_place_of_the_clusters_own(self, run: Run, tmp_path: Path) -> None:
        plan = CLUSTER.rpartition("---")[2]
        (tmp_path / "plan.yaml").write_text(plan.replace("team-a, share", "team-z, share"))
        out = run("plan", "-f", "plan.yaml").out
        assert ("ClusterQueue     team-z" in out, "ClusterQueue     team-a" in out) == (True, False)
        (tmp_path / "plan.yaml").write_text(
            plan.replace("research", "second").replace("team-a, share", "team-z, share")
        )
        ran = run("plan", "-f", "plan.yaml")
        assert (ran.status, ran.err.startswith("refused: ")) == (2, True), "two plans over one pool"

    def test_nodes_in_a_file_are_counted_too(self, run: Run, tmp_path: Path) -> None:
        (node,) = (
            each
            for each in yaml.safe_load(CLUSTER.partition("---")[0])["items"]
            if each["metadata"]["name"] == "h1"
        )
        node["metadata"]["name"] = "more"
        (tmp_path / "node.yaml").write_text(yaml.safe_dump(node))
        assert "nvidia.com/mig-1g.10gb=14" in run("pools", "-f", "node.yaml").out

    @pytest.mark.parametrize("named", ["gold.yaml", "gold"])
    def test_work_is_explained_under_another_policy(self, run: Run, tmp_path: Path, named: str) -> None:
        (tmp_path / "gold.yaml").write_text(self.GOLD)
        more = () if named == "gold.yaml" else ("--snapshot", "gold.yaml")
        for where in ("team-a", "plain"):  # whether it has opted in or not
            out = run("explain", "-f", "-", "--policy", named, *more, stdin=job(namespace=where)).out
            assert "  chosen      class any gets mig" in out
            assert f"  namespace   {where}: policy gold, mode enforce" in out

    @pytest.mark.parametrize(
        ("named", "sentence"),
        [
            (
                "silver",
                "--policy 'silver': there is no SlicingPolicy of this name; name a file, or one of: default",
            ),
            ("cluster.yaml", "--policy cluster.yaml: holds 0 SlicingPolicies; give a file with one"),
            ("nowhere.yaml", "nowhere.yaml: cannot be read"),
        ],
    )
    def test_a_policy_that_is_none_is_one_sentence(self, run: Run, named: str, sentence: str) -> None:
        ran = run("explain", "-f", "-", "--policy", named, stdin=job())
        assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert ran.err.startswith(f"slicewise explain: {sentence}")


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What the demo prints, and the picture that it draws."""
    picture = tmp_path / "demo.svg"
    assert main(("demo", "--picture", str(picture))) == 0
    return capsys.readouterr().out, picture.read_text()


def test_the_demo_tells_its_story(told: tuple[str, str]) -> None:
    out, _ = told
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    quoted = readme.partition("The first prints, among others:\n\n```\n")[2].partition("```")[0]
    assert [line for line in quoted.splitlines() if line not in out] == []
    assert len(quoted.splitlines()) > 5
    assert "refused: Pod team-a/greedy: container 'trial' asks for 2 GPUs" in out
    assert "  40 = team-a 30 + team-b 10   [0]" in out  # held through the plugin's restart


def test_what_the_demo_says_to_type_next_works(run: Run) -> None:
    recorded = [line for line in next_commands() if "recorded" in line and " page " not in line]
    assert len(recorded) == 2
    for line in recorded:
        assert run(*line.partition("slicewise ")[2].split(), cluster=False).status < 2


def test_what_to_type_next_is_the_command_beside_python_where_no_path_leads_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make demo` puts it there, and nobody has put that folder on the path yet."""
    python, script = tmp_path / "bin/python", tmp_path / "bin/slicewise"
    script.parent.mkdir()
    monkeypatch.setattr("sys.executable", str(python))
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    assert next(iter(next_commands())).startswith("bin/python -m slicewise explain ")
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert next(iter(next_commands())).startswith("bin/slicewise explain ")


def test_the_picture_of_the_readme_is_what_the_demo_draws(told: tuple[str, str]) -> None:
    _, picture = told
    # Above, while a node is divided anew and while a plugin restarts; the quota below never falls to zero.
    assert picture.count(">jobs stuck</text>") == 2
    assert picture.count(">56 MIG slices</text>") == picture.count(">40 T4 shares</text>") == 2
    assert "queue team-a has 42 of them" in picture
    assert (Path(__file__).parents[2] / "docs/demo.svg").read_text() == picture
