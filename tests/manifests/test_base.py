"""The kustomize base: complete, least privileged, restricted, and the same as the code that it serves."""

import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from admission.webhook_configuration import ALWAYS_FAIL, FOLDER, mutating, rendered, validating
from admission.workloads.builtin_kinds import TABLE
from admission.workloads.kind import rules
from release import manifests
from slicewise import __version__
from slicewise.api import keys
from slicewise.kube.yaml import load
from tests.manifests.tools import tool

ROOT = Path(__file__).parents[2]
Object = dict[str, Any]


@cache
def base() -> list[Object]:
    """Every object of the base, in order."""
    folder = ROOT / "manifests"
    names = load((folder / "kustomization.yaml").read_text())[0]["resources"]
    return [one for name in names for one in load((folder / name).read_text()) if one]


def _of(kind: str) -> list[Object]:
    return [one for one in base() if one["kind"] == kind]


def _rules() -> Iterator[tuple[str, Object]]:
    for one in (*_of("ClusterRole"), *_of("Role")):
        for rule in one["rules"]:
            yield f"{one['kind']} {one['metadata']['name']}", rule


def test_the_registrations_are_current() -> None:
    found = {name: (ROOT / FOLDER / name).read_text() for name in rendered()}
    assert found == rendered(), "run `make generate`"


def test_the_base_is_what_the_chart_renders() -> None:
    wanted = manifests.rendered()
    found = {path: (manifests.BASE / path).read_text() for path in wanted}
    assert found == wanted, "run `make generate`"


@pytest.mark.parametrize("folder", ["", "crds", "backstop", "gpu-operator"])
def test_every_file_belongs_to_the_kustomization_beside_it(folder: str) -> None:
    names = yaml.safe_load((manifests.BASE / folder / "kustomization.yaml").read_text())["resources"]
    found = {path.name for path in (manifests.BASE / folder).glob("*.yaml")}
    assert set(names) == found - {"kustomization.yaml"}


def test_what_deletes_the_base_deletes_no_policy_and_no_plan() -> None:
    definitions = {"CustomResourceDefinition"}
    assert not definitions & {one["kind"] for one in built("manifests")}
    assert {one["kind"] for one in built("manifests/crds")} == definitions


def test_an_overlay_takes_what_it_needs_beside_the_base(tmp_path: Path) -> None:
    base = os.path.relpath(manifests.BASE, tmp_path.resolve())
    overlay = {
        "resources": [base, f"{base}/backstop"],
        "components": [f"{base}/gpu-operator"],
        "images": [{"name": "slicewise", "newName": "registry.example.com/slicewise"}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    found = built(str(tmp_path))
    containers = [
        one["spec"]["template"]["spec"]["containers"][0] for one in found if one["kind"] == "Deployment"
    ]
    assert {one["image"] for one in containers} == {f"registry.example.com/slicewise:{__version__}"}
    assert {one["args"][-1] for one in containers} == {"--gpu-operator-namespace=gpu-operator"}
    assert {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"} <= {one["kind"] for one in found}


def built(folder: str) -> list[Object]:
    """What `kubectl apply -k` sends."""
    command = [tool("kubectl"), "kustomize", "--load-restrictor=LoadRestrictionsNone", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return load(done.stdout)


def test_every_kind_of_the_table_that_can_be_rewritten_is_sent_here_once() -> None:
    sent = [
        (group, version, resource)
        for entry in mutating()["webhooks"]
        # For namespaces that left, only what was decided before; and very long Pods, which are sent twice.
        if not entry["name"].startswith(("repeats-", ALWAYS_FAIL))
        for rule in entry["rules"]
        for group in rule["apiGroups"]
        for version in rule["apiVersions"]
        for resource in rule["resources"]
    ]
    wanted = {
        (group, version, resource)
        for rule in rules(kind for kind in TABLE if kind.namespaced)
        for group in rule.api_groups
        for version in rule.api_versions
        for resource in rule.resources
    }
    assert set(sent) == wanted
    assert len(sent) == len(set(sent))


def test_own_and_system_namespaces_are_never_sent_here() -> None:
    for entry in mutating()["webhooks"]:
        (excluded,) = [
            each["values"]
            for each in entry["namespaceSelector"]["matchExpressions"]
            if each["key"] == keys.NAMESPACE_NAME
        ]
        assert set(excluded) == keys.SYSTEM_NAMESPACES
        assert {rule["scope"] for rule in entry["rules"]} == {"Namespaced"}


def test_no_registration_carries_a_bundle_or_side_effects() -> None:
    for entry in (*mutating()["webhooks"], *validating()["webhooks"]):
        assert set(entry["clientConfig"]) == {"service"}
        assert entry["sideEffects"] == "None"
        assert entry["timeoutSeconds"] <= 5


@pytest.mark.parametrize(("owner", "rule"), list(_rules()))
def test_no_rule_has_a_wildcard(owner: str, rule: Object) -> None:
    for field in ("apiGroups", "resources", "verbs"):
        assert rule[field], owner
        assert "*" not in rule[field], owner


def test_secrets_are_one_by_name_in_the_own_namespace() -> None:
    found = [(owner, rule) for owner, rule in _rules() if "secrets" in rule["resources"]]
    assert {owner for owner, _ in found} == {"Role slicewise-webhook"}
    named = {
        verb
        for _, rule in found
        if rule.get("resourceNames") == ["slicewise-webhook-ca"]
        for verb in rule["verbs"]
    }
    unnamed = {verb for _, rule in found if "resourceNames" not in rule for verb in rule["verbs"]}
    assert (named, unnamed) == ({"get", "update"}, {"create"})


@pytest.mark.parametrize("deployment", _of("Deployment"), ids=lambda one: str(one["metadata"]["name"]))
def test_pods_are_restricted_spread_and_hard_to_lose(deployment: Object) -> None:
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert deployment["spec"]["replicas"] >= 2
    assert spec["priorityClassName"] == "system-cluster-critical"
    assert {each["whenUnsatisfiable"] for each in spec["topologySpreadConstraints"]} == {"ScheduleAnyway"}
    assert "cpu" not in container["resources"]["limits"]
    assert "tolerations" not in spec
    labels = deployment["spec"]["selector"]["matchLabels"]
    budgets = [one["spec"]["selector"]["matchLabels"] for one in _of("PodDisruptionBudget")]
    assert labels in budgets


def test_the_pod_outlives_its_drain() -> None:
    (webhook,) = [one for one in _of("Deployment") if one["metadata"]["name"] == "slicewise-webhook"]
    spec = webhook["spec"]["template"]["spec"]
    (drain,) = [arg for arg in spec["containers"][0]["args"] if arg.startswith("--drain=")]
    seconds = int(drain.removeprefix("--drain=").removesuffix("s"))
    timeout = max(entry["timeoutSeconds"] for entry in mutating()["webhooks"])
    assert spec["terminationGracePeriodSeconds"] >= seconds + 2 * timeout
