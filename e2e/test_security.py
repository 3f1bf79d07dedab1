"""docs/security.md, line by line, on a real API server and its real authorizer: who can do what, and who cannot."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.harness import nodes
from e2e.harness.client import (
    MERGE_PATCH,
    STRATEGIC_PATCH,
    ApiError,
    KubeClient,
    Object,
    Response,
    eventually,
)
from e2e.harness.installation import CONFIGURATION, NAMESPACE, Installation, decision, namespace

GPU, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
TEAM, FREE = "sec-team", "sec-free"
WHOLE, MIXED, SHARE = "h100-80gb-exclusive", "h100-80gb-mig-mixed", "t4-time-slicing-x10"
REGISTRATIONS = "admissionregistration.k8s.io/v1"
OURS = "slicewise.io/v1alpha1"
MEMBERS = (
    nodes.mig_mixed("sec-mig", {"1g.10gb": 7}, gpus=1),
    nodes.time_slicing("sec-share", 10),
    nodes.exclusive("sec-whole"),
)
# Shares for notebooks, slices for inference, whole GPUs for nobody, and nothing that people may say for themselves.
STRICT: Object = {
    "apiVersion": OURS,
    "kind": "SlicingPolicy",
    "metadata": {"name": "sec-strict"},
    "spec": {
        "defaultClass": "notebook",
        "classes": {
            "notebook": {"strategy": "time-slicing", "multiGPU": "refuse"},
            "inference": {"strategy": "mig", "multiGPU": "refuse"},
        },
        "allow": [],
    },
}
DOCUMENT = (Path(__file__).parents[1] / "docs/security.md").read_text()


@pytest.fixture(scope="module")
def slicewise(installation: Installation) -> Iterator[Installation]:
    """As :func:`populated`."""
    yield from populated(installation)


def populated(installation: Installation) -> Iterator[Installation]:
    """Slicewise, whole GPUs, slices and shares, and Ada, who may edit two namespaces and label none."""
    cluster = installation.cluster
    nodes.add(cluster, *MEMBERS)
    cluster.apply(STRICT)
    namespace(cluster, TEAM, policy="sec-strict")
    namespace(cluster, FREE, policy="default")
    for space in (TEAM, FREE):
        cluster.apply(_binding("sec-ada", "edit", "ada", space))

    def known() -> None:
        for space, expected in ((TEAM, SHARE), (FREE, WHOLE)):
            answer = cluster.try_create(pod(space=space), dry_run=True)
            assert answer.status == 201, answer.message
            assert kept_to(answer.body) == {expected}

    installation.whoever_is_asked(known, "the webhook knows the nodes, the policy and the namespaces")
    yield installation
    cluster.delete(OURS, "SlicingPolicy", "sec-strict")
    nodes.remove(cluster, *(node.name for node in MEMBERS))


@pytest.fixture
def ada(slicewise: Installation) -> KubeClient:
    """Somebody who may write workloads."""
    return slicewise.cluster.client_for("ada", ["engineers"])


def _binding(name: str, role: str, user: str, space: str) -> Object:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": space},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
    }


def pod(gpus: Any = 1, *, space: str = TEAM, labels: Object | None = None, **spec: Any) -> Object:
    container = {"name": "main", "image": "none", "resources": {"limits": {GPU: gpus}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "sec-", "namespace": space, "labels": labels or {}},
        "spec": {"containers": [container], **spec},
    }


def deployment(name: str, resources: Object, **metadata: Any) -> Object:
    container = {"name": "main", "image": "none", "resources": resources}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": TEAM, **metadata},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def asks(amount: Any = 1, name: str = GPU) -> Object:
    return {"limits": {name: str(amount)}, "requests": {name: str(amount)}}


def template_of(item: Object) -> Object:
    found: Object = item["spec"] if item["kind"] == "Pod" else item["spec"]["template"]["spec"]
    return found


def gets(item: Object) -> list[dict[str, str]]:
    """What each container asks for of NVIDIA's."""
    spec = template_of(item)
    return [
        {key: value for key, value in each.get("resources", {}).get("limits", {}).items() if "nvidia" in key}
        for each in [*spec["containers"], *spec.get("initContainers", [])]
    ]


def kept_to(item: Object) -> set[str]:
    """The pools on which the pod may run, by its required affinity."""
    required = template_of(item)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = required["nodeSelectorTerms"]
    return set.intersection(
        *(set(each["values"]) for each in term["matchExpressions"] if each["key"] == "slicewise.io/pool")
    )


def is_a_share(answer: Response, containers: int = 1) -> None:
    assert answer.status in {200, 201}, answer.message
    assert [each for each in gets(answer.body) if each] == [{GPU: "1"}] * containers
    assert kept_to(answer.body) == {SHARE}


def samples(kind: str) -> list[Object]:
    """The objects of a kind that the document gives to apply."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    found = [each for block in blocks for each in yaml.safe_load_all(block)]
    return [each for each in found if each["kind"] == kind]


# --- Who may write workloads, and not label namespaces -----------------------------------------------------


FORBIDDEN: dict[str, tuple[str, str, str, str | None, Object]] = {
    "a namespace's labels": (
        "v1",
        "Namespace",
        TEAM,
        None,
        {"metadata": {"labels": {"slicewise.io/policy": None}}},
    ),
    "a policy": (OURS, "SlicingPolicy", "sec-strict", None, {"spec": {"defaultClass": "inference"}}),
    "a plan": (OURS, "QuotaPlan", "sec", None, {"spec": {"engine": "kueue", "queues": [{"name": "sec"}]}}),
    "a node's pool": (
        "v1",
        "Node",
        "sec-whole",
        None,
        {"metadata": {"labels": {"slicewise.io/pool": SHARE}}},
    ),
    "a node's offer": (
        "v1",
        "Node",
        "sec-whole",
        None,
        {"metadata": {"annotations": {"slicewise.io/offer": ""}}},
    ),
    "the registration": (
        REGISTRATIONS,
        "MutatingWebhookConfiguration",
        CONFIGURATION,
        None,
        {"webhooks": []},
    ),
    "the authority": ("v1", "Secret", "slicewise-webhook-ca", NAMESPACE, {"data": {}}),
    "the servers": ("apps/v1", "Deployment", "slicewise-webhook", NAMESPACE, {"spec": {"replicas": 0}}),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_whoever_may_write_workloads_may_not_write_what_decides(ada: KubeClient, what: str) -> None:
    version, kind, name, space, patch = FORBIDDEN[what]
    for change in (
        lambda: ada.patch(version, kind, name, patch, space),
        lambda: ada.delete(version, kind, name, space),
    ):
        with pytest.raises(ApiError) as refused:
            change()
        assert refused.value.status == 403


def test_a_class_may_be_chosen_among_those_of_the_policy(ada: KubeClient) -> None:
    chosen = ada.try_create(pod(labels={"slicewise.io/workload-class": "inference"}), dry_run=True)
    assert gets(chosen.body) == [{SLICE: "1"}]
    for invented in ("training", "default", "sec-strict"):
        answer = ada.try_create(pod(labels={"slicewise.io/workload-class": invented}), dry_run=True)
        assert answer.status == 403
        assert "which policy sec-strict does not have" in answer.message


@pytest.mark.parametrize(
    "note",
    ["gpu-memory=40Gi", "profile=7g.80gb", "needs=hardware-isolation", "rewrite=false", "rewrite=0"],
)
@pytest.mark.parametrize("where", ["object", "template"])
def test_what_a_policy_does_not_allow_to_be_said_is_refused(ada: KubeClient, note: str, where: str) -> None:
    key, value = note.split("=")
    item = deployment("sec-says", asks())
    carrier = item if where == "object" else item["spec"]["template"]
    carrier["metadata"]["annotations"] = {f"slicewise.io/{key}": value}
    answer = ada.try_create(item, dry_run=True)
    assert answer.status == 403
    assert "does not allow the annotation" in answer.message


WAYS: dict[str, tuple[Object, int]] = {
    "another scheduler": (pod(schedulerName="mine"), 1),
    "a node named directly": (pod(nodeName="sec-share"), 1),
    "tolerations for everything": (pod(tolerations=[{"operator": "Exists"}]), 1),
    "the labels of others": (
        pod(
            labels={"slicewise.io/pool": WHOLE, "slicewise.io/mode": "off", "slicewise.io/policy": "default"}
        ),
        1,
    ),
    "an init container": (pod(initContainers=[{"name": "init", "image": "none", "resources": asks()}]), 2),
    "a sidecar": (
        pod(
            initContainers=[{"name": "side", "image": "none", "restartPolicy": "Always", "resources": asks()}]
        ),
        2,
    ),
    "requests and limits": (pod("1000m"), 1),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_pod_is_decided_however_it_is_written(ada: KubeClient, way: str) -> None:
    item, containers = WAYS[way]
    is_a_share(ada.try_create(item, dry_run=True), containers)


def test_the_names_of_pools_only_narrow(ada: KubeClient) -> None:
    """Neither a node selector nor affinity takes a pod to a pool that its class does not get."""
    term = {"matchExpressions": [{"key": "slicewise.io/pool", "operator": "In", "values": [WHOLE]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    for spec in (
        {"nodeSelector": {"slicewise.io/pool": WHOLE}},
        {"affinity": {"nodeAffinity": required}},
        {"nodeName": "sec-whole"},
    ):
        answer = ada.try_create(pod(**spec), dry_run=True)
        assert answer.status == 403
        assert "no pool can serve class notebook" in answer.message
    is_a_share(ada.try_create(pod(nodeSelector={"slicewise.io/pool": SHARE}), dry_run=True))


MARKS = {
    "a virtual machine's pod": {"kubevirt.io": "virt-launcher"},
    "a copy of MultiKueue": {"kueue.x-k8s.io/multikueue-origin": "hub"},
}


@pytest.mark.parametrize("mark", MARKS)
def test_labels_that_keep_work_as_it_is_are_not_believed_of_people(
    slicewise: Installation, ada: KubeClient, mark: str
) -> None:
    is_a_share(ada.try_create(pod(labels=MARKS[mark]), dry_run=True))
    left = slicewise.cluster.try_create(pod(labels=MARKS[mark]), dry_run=True)
    assert "affinity" not in left.body["spec"], "an administrator's word is enough"


@pytest.mark.parametrize("owner", [None, "Anything"], ids=["by a person", "as if by a controller"])
@pytest.mark.parametrize(
    ("strategy", "pool", "steered"),
    [("exclusive", WHOLE, True), ("time-slicing", WHOLE, True), ("time-slicing", SHARE, False)],
)
def test_a_forged_decision_is_worth_no_more_than_a_label(
    ada: KubeClient, owner: str | None, strategy: str, pool: str, *, steered: bool
) -> None:
    item = pod()
    item["metadata"]["annotations"] = _forged(GPU, 1, strategy, pool, steered=steered)
    if owner:
        item["metadata"]["ownerReferences"] = [
            {"apiVersion": "example.com/v1", "kind": owner, "name": "x", "uid": "u", "controller": True}
        ]
    is_a_share(ada.try_create(item, dry_run=True))


def _forged(to: str, count: int, strategy: str, pool: str, *, steered: bool = True) -> dict[str, str]:
    given = {"from": GPU, "to": to, "count": count, "asked": 1}
    record = {
        "policy": "sec-strict",
        "class": "notebook",
        "classFrom": "label",
        "strategy": strategy,
        "pools": [pool],
        "containers": {"main": given},
        "reason": "mine",
        "steered": steered,
    }
    return {"slicewise.io/decision": json.dumps(record)}


def test_a_decision_written_beside_other_work_is_not_repeated(ada: KubeClient) -> None:
    forged = _forged(GPU, 8, "exclusive", WHOLE)
    ada.create(deployment("sec-later", asks(1, SLICE), annotations=forged))
    path = ada.path("apps/v1", "Deployment", "sec-later", TEAM)
    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/resources", "value": asks()}]
    is_a_share(ada.request("PATCH", path, patch, "application/json-patch+json"))


def test_updates_keep_what_was_decided_and_decide_what_was_changed(ada: KubeClient) -> None:
    first = ada.create(deployment("sec-updates", asks()))
    path = ada.path("apps/v1", "Deployment", "sec-updates", TEAM)

    def patched(patch: Object, how: str = MERGE_PATCH) -> Response:
        return ada.request("PATCH", path, patch, how)

    wiped = patched(
        {"metadata": {"annotations": None}, "spec": {"template": {"metadata": {"annotations": None}}}}
    )
    assert decision(wiped.body) == decision(first)
    is_a_share(patched({"spec": {"template": {"spec": {"affinity": None}}}}))
    is_a_share(patched({"metadata": {"annotations": {"slicewise.io/rewrite": "false"}}}))
    is_a_share(patched({"metadata": {"labels": {"slicewise.io/workload-class": "training"}}}))
    patched(
        {
            "metadata": {
                "labels": {"slicewise.io/workload-class": None},
                "annotations": {"slicewise.io/rewrite": None},
            }
        }
    )
    more = {"spec": {"template": {"spec": {"containers": [{"name": "main", "resources": asks(2)}]}}}}
    refused = patched(more, STRATEGIC_PATCH)
    assert refused.status == 403
    assert "asks for 2 GPUs" in refused.message


def test_a_pod_cannot_be_changed_after_it_was_decided(slicewise: Installation, ada: KubeClient) -> None:
    """Devices, steering and sizes: even while a gate still holds the pod back from the scheduler."""
    made = ada.create(pod(schedulingGates=[{"name": "e2e.slicewise.io/held"}]))
    name, cluster = made["metadata"]["name"], slicewise.cluster
    try:
        for change in ("affinity", "devices"):
            item = copy.deepcopy(ada.get("v1", "Pod", name, TEAM))
            if change == "affinity":
                item["spec"].pop("affinity")
            else:
                item["spec"]["containers"][0]["resources"] = asks(8)
            # What was decided is put back, or the API server refuses what cannot be changed.
            answer = ada.request("PUT", ada.path("v1", "Pod", name, TEAM), item)
            assert answer.status in (200, 422), (change, answer.message)
            stands = ada.get("v1", "Pod", name, TEAM)["spec"]
            assert stands["affinity"] == made["spec"]["affinity"], change
            assert stands["containers"] == made["spec"]["containers"], change
        for subresource, spec in (
            ("resize", {"containers": [{"name": "main", "resources": asks(8)}]}),
            (
                "ephemeralcontainers",
                {"ephemeralContainers": [{"name": "debug", "image": "none", "resources": asks()}]},
            ),
        ):
            path = cluster.path("v1", "Pod", name, TEAM, subresource)
            answer = cluster.request("PATCH", path, {"spec": spec}, STRATEGIC_PATCH)
            assert answer.status == 422, (subresource, answer.message)
    finally:
        cluster.delete("v1", "Pod", name, TEAM)


def test_a_binding_changes_nothing_that_a_kubelet_looks_at(slicewise: Installation) -> None:
    """Whoever may write pods/binding plays the scheduler; a kubelet still compares affinity and names with its node."""
    cluster = slicewise.cluster
    made = cluster.create(pod(schedulerName="nobody"))
    name = made["metadata"]["name"]
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name, "namespace": TEAM, "annotations": _forged(GPU, 8, "exclusive", WHOLE)},
        "target": {"kind": "Node", "name": "sec-whole"},
    }
    try:
        answer = cluster.request("POST", cluster.path("v1", "Pod", name, TEAM, "binding"), binding)
        assert answer.status == 201, answer.message
        bound = cluster.get("v1", "Pod", name, TEAM)
        assert (gets(bound), kept_to(bound)) == ([{GPU: "1"}], {SHARE})
    finally:
        cluster.delete("v1", "Pod", name, TEAM)


# --- Slices asked for by name -------------------------------------------------------------------------------


def test_a_slice_may_be_asked_for_by_name_with_a_warning_where_nobody_offers_it(ada: KubeClient) -> None:
    offered = ada.try_create(pod_of_slices(), dry_run=True)
    assert (offered.status, gets(offered.body), offered.warnings) == (201, [{SLICE: "1"}], [])
    unknown = ada.try_create(pod_of_slices("nvidia.com/mig-7g.80gb"), dry_run=True)
    assert unknown.status == 201
    assert any("which no pool offers" in warning for warning in unknown.warnings)


def pod_of_slices(name: str = SLICE) -> Object:
    item = pod()
    item["spec"]["containers"][0]["resources"] = asks(1, name)
    return item


def test_the_sample_quota_forbids_names_whatever_an_annotation_says(
    slicewise: Installation, ada: KubeClient
) -> None:
    (quota,) = samples("ResourceQuota")
    quota["metadata"]["namespace"] = TEAM
    slicewise.cluster.apply(quota)
    forged = pod_of_slices()
    forged["metadata"]["annotations"] = _forged(SLICE, 1, "time-slicing", MIXED)

    def refused() -> None:
        for item in (pod_of_slices(), forged):
            answer = ada.try_create(item, dry_run=True)
            assert answer.status == 403
            assert "exceeded quota" in answer.message

    try:
        eventually(refused, "the quota holds")
        is_a_share(ada.try_create(pod(), dry_run=True))
    finally:
        slicewise.cluster.delete("v1", "ResourceQuota", quota["metadata"]["name"], TEAM)


def test_the_sample_policy_forbids_slices_that_nobody_decided(
    slicewise: Installation, ada: KubeClient
) -> None:
    cluster = slicewise.cluster
    objects = samples("ValidatingAdmissionPolicy") + samples("ValidatingAdmissionPolicyBinding")
    cluster.apply(objects)

    def refused() -> None:
        answer = ada.try_create(pod_of_slices(), dry_run=True)
        assert answer.status == 403, answer.message
        assert "ask for nvidia.com/gpu" in answer.message
        visible = pod()
        visible["spec"]["containers"][0]["env"] = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
        assert ada.try_create(visible, dry_run=True).status == 403

    try:
        eventually(refused, "the policy holds")
        is_a_share(ada.try_create(pod(), dry_run=True))
        chosen = ada.try_create(pod(labels={"slicewise.io/workload-class": "inference"}), dry_run=True)
        assert gets(chosen.body) == [{SLICE: "1"}], chosen.message
    finally:
        for item in objects:
            cluster.delete(item["apiVersion"], item["kind"], item["metadata"]["name"])
