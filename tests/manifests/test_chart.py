"""The chart: the same objects as the kustomize base by default, and what its values turn."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from admission.kinds.configured import read_kinds
from slicewise import __version__
from slicewise.api import keys
from tests.manifests import chart_readme
from tests.manifests.changes import CHANGES
from tests.manifests.tools import tool

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/slicewise"
Object = dict[str, Any]


def _documents(text: str) -> dict[tuple[str, str], Object]:
    found = [one for one in yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def _run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool(name), *arguments], capture_output=True, text=True, check=False)


def rendered(
    *settings: str, namespace: str = keys.OWN_NAMESPACE, hooks: bool = False
) -> dict[tuple[str, str], Object]:
    """What the chart gives with some values."""
    given = [word for setting in settings for word in ("--set-json", setting)]
    given += [] if hooks else ["--no-hooks"]
    answer = _run("helm", "template", "slicewise", str(CHART), "--namespace", namespace, *given)
    assert answer.returncode == 0, answer.stderr
    return _documents(answer.stdout)


def _pods(objects: dict[tuple[str, str], Object], name: str = "slicewise-webhook") -> Object:
    spec: Object = objects["Deployment", name]["spec"]["template"]["spec"]
    return spec


def test_the_chart_gives_the_objects_of_the_base() -> None:
    answer = _run("kubectl", "kustomize", str(ROOT / "manifests"))
    assert answer.returncode == 0, answer.stderr
    base, chart = _documents(answer.stdout), rendered("namespace.create=true")
    assert chart.keys() == base.keys()
    for key in base:
        assert chart[key] == base[key], key


def test_the_chart_passes_its_lint() -> None:
    answer = _run("helm", "lint", "--strict", str(CHART))
    assert answer.returncode == 0, answer.stdout


def leaves(tree: Object, path: str = "") -> Iterator[str]:
    """The paths of all values that are no maps, and of maps without anything in them."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def schemas(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Every schema of an object within the schema of the values, by its path."""
    if schema.get("type") == "object":
        yield path, schema
    for key, inner in schema.get("properties", {}).items():
        yield from schemas(inner, f"{path}.{key}" if path else key)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from schemas(schema[key], f"{path}[]")


# Helm's own, and what the API server knows better: these are passed on as they stand.
OPEN = {"global", "affinity.nodeAffinity", "affinity.podAffinity", "affinity.podAntiAffinity"}


def test_every_value_is_described() -> None:
    text = (CHART / "values.yaml").read_text()
    described = [each.path for each in chart_readme.values(text)]
    for leaf in leaves(yaml.safe_load(text)):
        assert any(leaf == path or leaf.startswith(f"{path}.") for path in described), leaf


def test_every_value_has_a_change_that_is_tried_on_a_running_release() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(leaves(values)) == set(CHANGES), "say in changes.py what a new value may be changed to"


def test_the_schema_knows_every_value_and_nothing_else() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    found = dict(schemas(schema))
    for path, each in found.items():
        closed = each.get("additionalProperties") is False
        typed = isinstance(each.get("additionalProperties"), dict) and "properties" not in each
        assert closed or typed or path in OPEN, path
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)
    for path, each in found.items():
        if path in values and each.get("additionalProperties") is False and values[path]:
            assert set(each["properties"]) == set(values[path]), path


def test_the_readme_is_current() -> None:
    assert chart_readme.README.read_text() == chart_readme.rendered(), (
        "run `python -m tests.manifests.chart_readme`"
    )


def test_the_chart_says_which_version_it_installs() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (about["version"], about["appVersion"]) == (__version__, __version__)


def test_the_test_of_a_release_leaves_nothing_and_runs_as_strictly_as_the_rest() -> None:
    usual = rendered()
    hooks = {key: one for key, one in rendered(hooks=True).items() if key not in usual}
    assert {kind for kind, _ in hooks} == {"Pod", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"}
    for one in hooks.values():
        annotations = one["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "test"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded,hook-failed"
    (rule,) = hooks["ClusterRole", "slicewise-test"]["rules"]
    assert rule == {"apiGroups": ["slicewise.io"], "resources": ["slicingpolicies"], "verbs": ["create"]}
    spec, like = hooks["Pod", "slicewise-test"]["spec"], _pods(usual)
    (container,), (model,) = spec["containers"], like["containers"]
    assert spec["securityContext"] == like["securityContext"]
    assert container["securityContext"] == model["securityContext"]
    assert container["image"] == model["image"]
    assert container["args"] == [(CHART / "files/test.py").read_text()]
    compile(container["args"][0], "files/test.py", "exec")


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ('webhook.failurePolicy="Maybe"', "failurePolicy"),
        ("webhook.wrong=1", "wrong"),
        ("webhook.timeoutSeconds=31", "timeoutSeconds"),
        ('certificates.source="secret"', "caBundle"),
        ('controller.settle="soon"', "settle"),
        ('webhook.kinds=[{"kind": "Farm"}]', "paths"),
        ('webhook.kinds=[{"kind": "Farm", "paths": ["T spec.template"], "path": 1}]', "path"),
    ],
)
def test_values_that_make_no_sense_are_refused(setting: str, complaint: str) -> None:
    answer = _run("helm", "template", "slicewise", str(CHART), "--set-json", setting)
    assert answer.returncode != 0
    assert complaint in answer.stderr


def test_another_namespace_is_where_everything_goes_and_never_opts_in() -> None:
    objects = rendered('webhook.excludedNamespaces=["argocd"]', namespace="gpu-platform")
    for (kind, name), one in objects.items():
        assert one["metadata"].get("namespace", "gpu-platform") == "gpu-platform", (kind, name)
        for subject in one.get("subjects", []):
            assert subject["namespace"] == "gpu-platform"
    for entry in objects["MutatingWebhookConfiguration", "admission.slicewise.io"]["webhooks"]:
        assert entry["clientConfig"]["service"]["namespace"] == "gpu-platform"
        (names,) = [
            each["values"]
            for each in entry["namespaceSelector"]["matchExpressions"]
            if each["key"] == keys.NAMESPACE_NAME
        ]
        assert set(names) == keys.SYSTEM_NAMESPACES | {"gpu-platform", "argocd"}


def test_the_failure_policy_turns_the_mutating_entries_alone() -> None:
    objects = rendered('webhook={"failurePolicy": "Fail", "timeoutSeconds": 7, "drainSeconds": 40}')
    for entry in objects["MutatingWebhookConfiguration", "admission.slicewise.io"]["webhooks"]:
        assert (entry["failurePolicy"], entry["timeoutSeconds"]) == ("Fail", 7)
    policies, namespaces = objects["ValidatingWebhookConfiguration", "admission.slicewise.io"]["webhooks"]
    assert (policies["failurePolicy"], policies["timeoutSeconds"]) == ("Fail", 5)
    assert (namespaces["failurePolicy"], namespaces["timeoutSeconds"]) == ("Ignore", 3)
    assert _pods(objects)["terminationGracePeriodSeconds"] >= 40 + 2 * 7


FARM = {"kind": "Farm", "group": "ml.example.com", "versions": ["v1", "v2"], "paths": ["T spec.template"]}
FLEET = {"kind": "Fleet", "resource": "fleet", "scope": "Cluster", "paths": ["X spec"]}


def test_kinds_of_ones_own_are_mounted_and_another_file_is_another_rollout() -> None:
    objects = rendered(f"webhook.kinds={json.dumps([FARM])}")
    pods = _pods(objects)
    (container,) = pods["containers"]
    assert "--kinds-file=/kinds/kinds.yaml" in container["args"]
    assert pods["volumes"] == [{"name": "kinds", "configMap": {"name": "slicewise-kinds"}}]
    assert container["volumeMounts"] == [{"name": "kinds", "mountPath": "/kinds", "readOnly": True}]
    marks = {
        json.dumps(
            rendered(f"webhook.kinds={json.dumps(kinds)}", 'podAnnotations.note="1"')[
                "Deployment", "slicewise-webhook"
            ]["spec"]["template"]["metadata"]["annotations"]
        )
        for kinds in ([], [FARM], [FARM, FLEET])
    }
    assert len(marks) == 3


def test_kinds_of_ones_own_are_sent_to_the_webhook_unless_they_are_never_rewritten() -> None:
    objects = rendered(f"webhook.kinds={json.dumps([FARM, FLEET])}")
    registration = objects["MutatingWebhookConfiguration", "admission.slicewise.io"]
    sent = {
        entry["name"].partition(".")[0]: rule
        for entry in registration["webhooks"]
        for rule in entry["rules"]
        if rule["apiGroups"] == ["ml.example.com"]
    }
    rule = {"apiGroups": ["ml.example.com"], "apiVersions": ["v1", "v2"], "resources": ["farms"]}
    updates = {"operations": ["UPDATE"], **rule, "scope": "Namespaced"}
    both = {**updates, "operations": ["CREATE", "UPDATE"]}
    assert sent == {"workloads": both, "repeats-left": updates, "repeats-off": updates}
    assert "fleet" not in json.dumps(registration)


def test_the_pages_own_example_of_a_kind_is_a_value() -> None:
    _, _, block = (ROOT / "docs/kinds.md").read_text().partition("```yaml\nkinds:\n")
    kinds = yaml.safe_load("kinds:\n" + block.partition("```")[0])
    objects = rendered(f"webhook.kinds={json.dumps(kinds['kinds'])}")
    text = objects["ConfigMap", "slicewise-kinds"]["data"]["kinds.yaml"]
    assert yaml.safe_load(text) == kinds
    assert [(kind.group, kind.kind) for kind in read_kinds(text)] == [("ml.example.com", "Experiment")]


def test_a_certificate_from_elsewhere_needs_no_secret_of_ours() -> None:
    manager = rendered('certificates.source="cert-manager"')
    given = rendered('certificates={"source": "secret", "secretName": "mine", "caBundle": "PEM"}')
    for objects, secret in ((manager, "slicewise-webhook-tls"), (given, "mine")):
        assert ("Role", "slicewise-webhook") not in objects
        assert ("RoleBinding", "slicewise-webhook") not in objects
        groups = [rule["apiGroups"][0] for rule in objects["ClusterRole", "slicewise-webhook"]["rules"]]
        assert "admissionregistration.k8s.io" not in groups
        pods = _pods(objects)
        assert pods["volumes"] == [{"name": "certificates", "secret": {"secretName": secret}}]
        assert "--tls-cert-file=/certificates/tls.crt" in pods["containers"][0]["args"]
        assert pods["containers"][0]["volumeMounts"][0]["mountPath"] == "/certificates"
    assert manager["Certificate", "slicewise-webhook"]["spec"]["secretName"] == "slicewise-webhook-tls"
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        annotations = manager[kind, "admission.slicewise.io"]["metadata"]["annotations"]
        assert annotations == {"cert-manager.io/inject-ca-from": "slicewise-system/slicewise-webhook"}
        for entry in given[kind, "admission.slicewise.io"]["webhooks"]:
            assert base64.b64decode(entry["clientConfig"]["caBundle"]) == b"PEM"


def test_what_is_switched_off_is_not_there() -> None:
    objects = rendered(
        "crds.install=false",
        "networkPolicy.enabled=false",
        "webhook.replicas=1",
        "podDisruptionBudget.enabled=true",
    )
    kinds = {kind for kind, _ in objects}
    assert not kinds & {"CustomResourceDefinition", "NetworkPolicy", "Namespace"}
    assert ("PodDisruptionBudget", "slicewise-webhook") not in objects, "it would block every drain"
    assert ("PodDisruptionBudget", "slicewise-controller") in objects


def test_pods_are_placed_and_pulled_as_told() -> None:
    objects = rendered(
        'image={"repository": "registry.example.com/slicewise", "tag": "1.2", "pullSecrets": ["pull"]}',
        'nodeSelector={"kubernetes.io/os": "linux"}',
        'tolerations=[{"key": "infra", "operator": "Exists"}]',
        'podAnnotations={"a": "b"}',
        'podLabels={"c": "d"}',
        'priorityClassName=""',
    )
    for name in ("slicewise-webhook", "slicewise-controller"):
        pods = _pods(objects, name)
        assert pods["containers"][0]["image"] == "registry.example.com/slicewise:1.2"
        assert pods["imagePullSecrets"] == [{"name": "pull"}]
        assert pods["nodeSelector"] == {"kubernetes.io/os": "linux"}
        assert pods["tolerations"] == [{"key": "infra", "operator": "Exists"}]
        assert "priorityClassName" not in pods
        metadata = objects["Deployment", name]["spec"]["template"]["metadata"]
        assert metadata["annotations"] == {"a": "b"}
        assert metadata["labels"]["c"] == "d"
    digest = "sha256:" + "0" * 64
    assert _pods(rendered(f'image.digest="{digest}"'))["containers"][0]["image"] == f"slicewise@{digest}"


def test_the_notes_say_what_to_type_next() -> None:
    answer = _run(
        "helm", "install", "slicewise", str(CHART), "--dry-run=client", "--set", "webhook.replicas=1"
    )
    assert answer.returncode == 0, answer.stderr
    notes = answer.stdout.partition("NOTES:")[2]
    assert "helm test slicewise --namespace default" in notes
    assert "slicewise.io/policy=default" in notes
    assert "admitted as it was asked for" in notes
    assert "WARNING: with one replica" in notes
