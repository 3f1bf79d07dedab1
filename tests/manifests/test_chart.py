"""The chart: the same objects as the kustomize base by default, and what its values turn."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from admission.webhook_configuration import ALWAYS_FAIL
from admission.workloads.custom_kinds import read_kinds
from slicewise import __version__
from slicewise.api import keys
from slicewise.api.policy import PLAN_KIND, POLICY_KIND, PlanSpec, PolicySpec
from slicewise.cli.inputs import READ_ALWAYS, READ_QUEUES
from slicewise.kube.yaml import load
from tests.manifests import chart_readme
from tests.manifests.changes import CHANGES
from tests.manifests.tools import tool

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/slicewise"
Object = dict[str, Any]


COMPONENTS = ("webhook", "controller")
MONITORED = (
    "monitoring.serviceMonitor.enabled=true",
    "monitoring.podMonitor.enabled=true",
    "monitoring.prometheusRule.enabled=true",
    "monitoring.dashboard.enabled=true",
)


def _documents(text: str) -> dict[tuple[str, str], Object]:
    found = [
        one for one in load(text) if one
    ]  # refuses a key that stands twice, as Helm does when it installs
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def _run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool(name), *arguments], capture_output=True, text=True, check=False)


def rendered(
    *settings: str, namespace: str = keys.OWN_NAMESPACE, hooks: bool = False, chart: Path = CHART
) -> dict[tuple[str, str], Object]:
    """What the chart gives with some values."""
    given = [word for setting in settings for word in ("--set-json", setting)]
    given += [] if hooks else ["--no-hooks"]
    answer = _run("helm", "template", "slicewise", str(chart), "--namespace", namespace, *given)
    assert answer.returncode == 0, answer.stderr
    return _documents(answer.stdout)


def _pods(objects: dict[tuple[str, str], Object], name: str = "slicewise-webhook") -> Object:
    spec: Object = objects["Deployment", name]["spec"]["template"]["spec"]
    return spec


OF_HELM = {"helm.sh/chart", "app.kubernetes.io/managed-by"}


def test_the_chart_gives_the_objects_of_the_base() -> None:
    base: dict[tuple[str, str], Object] = {}
    for folder in ("manifests/crds", "manifests"):
        answer = _run("kubectl", "kustomize", str(ROOT / folder))
        assert answer.returncode == 0, answer.stderr
        base |= _documents(answer.stdout)
    chart = rendered("namespace.create=true")
    assert chart.keys() == base.keys()
    for key, one in chart.items():
        labels = one["metadata"]["labels"]
        one["metadata"]["labels"] = {name: labels[name] for name in labels.keys() - OF_HELM}
        assert one == base[key], key


def test_every_object_carries_the_customary_labels() -> None:
    objects = rendered('commonLabels={"cost-centre": "a"}', "namespace.create=true", *MONITORED, hooks=True)
    for (kind, name), one in objects.items():
        if kind == "CustomResourceDefinition":
            continue  # kept when the release goes
        labels = one["metadata"]["labels"]
        found = {key: value for key, value in labels.items() if key != "app.kubernetes.io/component"}
        assert (
            found.items()
            >= {
                "app.kubernetes.io/name": "slicewise",
                "app.kubernetes.io/instance": "slicewise",
                "app.kubernetes.io/version": __version__,
                "app.kubernetes.io/part-of": "slicewise",
                "app.kubernetes.io/managed-by": "Helm",
                "helm.sh/chart": f"slicewise-{__version__}",
                "cost-centre": "a",
            }.items()
        ), (kind, name)
    for name in COMPONENTS:
        spec = objects["Deployment", f"slicewise-{name}"]["spec"]
        selector = {"app.kubernetes.io/name": "slicewise", "app.kubernetes.io/component": name}
        assert spec["selector"]["matchLabels"] == selector, "it cannot change within the life of a release"
        assert spec["template"]["metadata"]["labels"].items() >= {**selector, "cost-centre": "a"}.items()


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


SCHEMA: Object = json.loads((CHART / "values.schema.json").read_text())
# What is passed on as it stands says so.
PASSED_ON = "As in Kubernetes; the API server checks it."


def schemas(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Every schema of an object within the schema of the values, by its path."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if schema.get("type") == "object":
        yield path, schema
    for key, inner in schema.get("properties", {}).items():
        yield from schemas(inner, f"{path}.{key}" if path else key)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from schemas(schema[key], f"{path}[]")


def test_every_value_is_described() -> None:
    text = (CHART / "values.yaml").read_text()
    described = [each.path for each in chart_readme.values(text)]
    for leaf in leaves(yaml.safe_load(text)):
        assert any(leaf == path or leaf.startswith(f"{path}.") for path in described), leaf


def test_every_value_has_a_change_that_is_tried_on_a_running_release() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(leaves(values)) == set(CHANGES), "say in changes.py what a new value may be changed to"


def test_the_schema_knows_every_value_and_nothing_else() -> None:
    found = dict(schemas(SCHEMA))
    for path, each in found.items():
        closed = each.get("additionalProperties") is False
        typed = isinstance(each.get("additionalProperties"), dict) and "properties" not in each
        passed_on = path == "global" or each.get("description") == PASSED_ON
        assert closed or typed or passed_on, path
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(SCHEMA["properties"]) - {"global"} == set(values)
    for path, each in found.items():
        value = values
        for key in path.split(".") if path else []:
            value = value.get(key, {}) if isinstance(value, dict) else {}
        if each.get("additionalProperties") is False and value and not path.endswith(".resources"):
            assert set(each["properties"]) - {"global"} == set(value), path


def test_the_readme_is_current() -> None:
    assert chart_readme.README.read_text() == chart_readme.rendered(), (
        "run `python -m tests.manifests.chart_readme`"
    )


def test_the_chart_says_which_version_it_installs() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (about["version"], about["appVersion"]) == (__version__, __version__)


def test_the_examples_of_the_chart_are_taken() -> None:
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    kinds = {one["kind"] for one in yaml.safe_load(annotations["artifacthub.io/crds"])}
    examples = {one["kind"]: one for one in yaml.safe_load(annotations["artifacthub.io/crdsExamples"])}
    assert kinds == examples.keys() == {POLICY_KIND, PLAN_KIND}
    PolicySpec.model_validate(examples[POLICY_KIND]["spec"])
    PlanSpec.model_validate(examples[PLAN_KIND]["spec"])


HOOKS: dict[str, tuple[str, str, Object]] = {
    "test": (
        "Pod",
        "before-hook-creation,hook-succeeded,hook-failed",
        {"apiGroups": ["slicewise.io"], "resources": ["slicingpolicies"], "verbs": ["create"]},
    ),
    # One that failed stays, so that somebody can see why.
    "cleanup": (
        "Job",
        "before-hook-creation,hook-succeeded",
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
            "resourceNames": ["admission.slicewise.io"],
            "verbs": ["delete"],
        },
    ),
}


@pytest.mark.parametrize("name", HOOKS)
def test_hooks_may_do_one_thing_and_run_as_strictly_as_the_rest(name: str) -> None:
    runner, policy, wanted = HOOKS[name]
    usual, every = rendered(), rendered(hooks=True)
    hooks = {key: one for key, one in every.items() if key not in usual and key[1] == f"slicewise-{name}"}
    assert {kind for kind, _ in hooks} == {runner, "ServiceAccount", "ClusterRole", "ClusterRoleBinding"}
    for one in hooks.values():
        annotations = one["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == {"test": "test", "cleanup": "pre-delete"}[name]
        assert annotations["helm.sh/hook-delete-policy"] == policy
    assert hooks["ClusterRole", f"slicewise-{name}"]["rules"] == [wanted]
    spec, like = hooks[runner, f"slicewise-{name}"]["spec"], _pods(usual)
    spec = spec.get("template", {}).get("spec", spec)
    (container,), (model,) = spec["containers"], like["containers"]
    assert spec["securityContext"] == like["securityContext"]
    assert container["securityContext"] == model["securityContext"]
    assert container["image"] == model["image"]
    assert container["args"] == [(CHART / f"files/{name}.py").read_text()]
    compile(container["args"][0], f"files/{name}.py", "exec")


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ('webhook.failurePolicy="Maybe"', "failurePolicy"),
        ("webhook.wrong=1", "wrong"),
        ("webhook.timeoutSeconds=31", "timeoutSeconds"),
        ('certificates.source="secret"', "caBundle"),
        ('controller.settle="soon"', "settle"),
        ('webhook.kinds=[{"kind": "Farm"}]', "paths"),
        ('webhook.extraArgs=["--log-level", "debug"]', "extraArgs"),
        ("webhook.port=443", "port"),
        ("controller.hostNetwork=true", "hostNetwork"),
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


def test_very_long_pods_are_never_let_through_unseen() -> None:
    registration = rendered()["MutatingWebhookConfiguration", "admission.slicewise.io"]
    failing = [entry for entry in registration["webhooks"] if entry["failurePolicy"] != "Ignore"]
    assert [(entry["name"], entry["rules"][0]["operations"]) for entry in failing] == [
        (ALWAYS_FAIL, ["CREATE"])
    ]


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


def test_what_one_server_says_of_its_pods_wins_over_what_is_said_of_both() -> None:
    objects = rendered(
        'nodeSelector={"pool": "shared"}',
        'podLabels={"team": "platform", "tier": "any"}',
        'controller.nodeSelector={"pool": "infra"}',
        'controller.podLabels={"tier": "one"}',
        'controller.priorityClassName="high"',
        'controller.tolerations=[{"operator": "Exists"}]',
        'controller.topologySpreadConstraints=[{"topologyKey": "rack"}]',
        'controller.strategy={"type": "Recreate"}',
        "controller.revisionHistoryLimit=0",
        "controller.minReadySeconds=9",
    )
    webhook, controller = (objects["Deployment", f"slicewise-{name}"]["spec"] for name in COMPONENTS)
    labels = [each["template"]["metadata"]["labels"] for each in (webhook, controller)]
    assert [(each["team"], each["tier"]) for each in labels] == [("platform", "any"), ("platform", "one")]
    pods = [each["template"]["spec"] for each in (webhook, controller)]
    assert [each["nodeSelector"]["pool"] for each in pods] == ["shared", "infra"]
    assert [each["priorityClassName"] for each in pods] == ["system-cluster-critical", "high"]
    assert "tolerations" not in pods[0]
    assert pods[1]["tolerations"] == [{"operator": "Exists"}]
    assert [len(each["topologySpreadConstraints"]) for each in pods] == [2, 1]
    assert controller["strategy"] == {"type": "Recreate"}
    assert (controller["revisionHistoryLimit"], controller["minReadySeconds"]) == (0, 9)
    assert "minReadySeconds" not in webhook


@pytest.mark.parametrize("name", COMPONENTS)
def test_what_is_added_to_a_server_comes_after_what_is_ours(name: str) -> None:
    pods = _pods(
        rendered(
            f'{name}.extraArgs=["--log-level=debug"]',
            f'{name}.extraEnv=[{{"name": "A", "value": "b"}}]',
            f'{name}.extraVolumes=[{{"name": "more", "emptyDir": {{}}}}]',
            f'{name}.extraVolumeMounts=[{{"name": "more", "mountPath": "/more"}}]',
        ),
        f"slicewise-{name}",
    )
    (container,) = pods["containers"]
    assert container["args"][-1] == "--log-level=debug"
    assert [each["name"] for each in container["env"]] == ["SLICEWISE_NAMESPACE", "A"]
    assert container["volumeMounts"] == [{"name": "more", "mountPath": "/more"}]
    assert pods["volumes"] == [{"name": "more", "emptyDir": {}}]


def test_in_the_nodes_network_ports_and_rollout_are_those_of_a_node() -> None:
    objects = rendered(
        "webhook.hostNetwork=true",
        "webhook.port=10260",
        "webhook.operationsPort=10261",
        "namespace.create=true",
    )
    deployment = objects["Deployment", "slicewise-webhook"]["spec"]
    pods = deployment["template"]["spec"]
    assert (pods["hostNetwork"], pods["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    assert [each["containerPort"] for each in pods["containers"][0]["ports"]] == [10260, 10261]
    assert {"--listen=0.0.0.0:10260", "--operations-listen=0.0.0.0:10261"} <= set(
        pods["containers"][0]["args"]
    )
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    (port,) = objects["Service", "slicewise-webhook"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (443, "webhook")
    enforced = objects["Namespace", keys.OWN_NAMESPACE]["metadata"]["labels"]
    assert enforced["pod-security.kubernetes.io/enforce"] == "privileged"
    assert "hostNetwork" not in _pods(objects, "slicewise-controller")


@pytest.mark.parametrize("name", COMPONENTS)
def test_rights_are_bound_to_the_account_that_pods_run_as(name: str) -> None:
    account = f"slicewise-{name}"
    objects = rendered(
        f'{name}.serviceAccount={{"name": "mine", "annotations": {{"cloud": "a"}}}}',
        f"{name}.serviceAccount.automountServiceAccountToken=false",
    )
    assert _pods(objects, account)["serviceAccountName"] == "mine"
    made = objects["ServiceAccount", "mine"]
    assert (made["metadata"]["annotations"], made["automountServiceAccountToken"]) == ({"cloud": "a"}, False)
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        assert [each["name"] for each in objects[kind, account]["subjects"]] == ["mine"]
    without = rendered(f'{name}.serviceAccount={{"create": false, "name": "mine"}}')
    assert ("ServiceAccount", "mine") not in without
    assert _pods(without, account)["serviceAccountName"] == "mine"


def test_people_get_rights_on_policies_and_plans_by_the_roles_that_they_have() -> None:
    def aggregated(objects: dict[tuple[str, str], Object], name: str) -> set[str]:
        prefix = "rbac.authorization.k8s.io/aggregate-to-"
        labels = objects["ClusterRole", f"slicewise-{name}"]["metadata"]["labels"]
        return {key.removeprefix(prefix) for key in labels if key.startswith(prefix)}

    objects = rendered()
    assert aggregated(objects, "viewer") == {"view", "edit", "admin"}
    assert aggregated(objects, "editor") == {"admin"}
    assert aggregated(objects, "reader") == {"view", "edit", "admin"}
    apart = rendered("userRoles.aggregate=false")
    assert not aggregated(apart, "viewer") | aggregated(apart, "editor") | aggregated(apart, "reader")
    writes = {"create", "update", "patch", "delete", "deletecollection"}
    for name in ("viewer", "reader"):
        for rule in objects["ClusterRole", f"slicewise-{name}"]["rules"]:
            assert not writes & set(rule["verbs"])
    readable = {
        (group, resource)
        for rule in objects["ClusterRole", "slicewise-reader"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    for path, _, _ in (*READ_ALWAYS, *READ_QUEUES):
        *_, group, _, resource = path.replace("/api/v1", "/apis//v1").split("/")
        assert (group, resource) in readable


def test_objects_of_ones_own_are_filled_in() -> None:
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}}
    assert rendered(f"extraObjects={json.dumps([item])}")["ConfigMap", "slicewise-more"]


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
