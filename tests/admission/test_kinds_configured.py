"""Kinds of an admin's own, and the rules that send every kind to the webhook."""

import json
from base64 import b64decode

import jsonpatch
import msgspec
import pytest

from admission.mutating import answer
from admission.workloads.builtin_kinds import TABLE
from admission.workloads.custom_kinds import KindsError, read_kinds
from admission.workloads.decoder import Templates
from admission.workloads.kind import Kind, Rule, SideField, Steering, rules
from slicewise.api import keys
from slicewise.api.policy import Engine
from tests.admission.building import GPU, SLICE, Object, deployment, labelled, pod, request, world
from tests.admission.kinds import at, mig

FILE = """
kinds:
- group: ml.example.com
  kind: Experiment
  versions: [v1, v2]
  resource: experimenta
  paths:
  - T spec.driver
  - "spec.workers[]: P pod + R extra.resources=main"
  - "@RayCluster spec.ray"
  owners: [Campaign.ml.example.com]
  sideFields:
    totals: [spec.minimum]
    counts: [spec.launch.processes]
  queueing: {kueue: spec.meta, volcano: [spec.queue]}
- kind: ConfigMap
  paths: [X data]
- group: batch
  kind: Job
  paths: [T spec.template]
"""


def test_a_file_of_kinds_extends_the_table() -> None:
    experiment, config, job = read_kinds(FILE)
    assert experiment.resource == "experimenta"
    assert experiment.paths[-2:] == (
        "T spec.ray.headGroupSpec.template",
        "T spec.ray.workerGroupSpecs[].template",
    )
    assert experiment.side_fields == (
        SideField("total", "spec", "minimum"),
        SideField("follow", "spec", "launch.processes"),
    )
    templates = Templates(more=read_kinds(FILE))
    assert templates.reader(experiment.group, experiment.kind) is not None
    found = templates.reader("batch", "Job")
    assert found is not None
    assert found.kind == job
    assert config.paths == ("X data",)


DAEMONS = """
kinds:
- {group: apps.kruise.io, kind: DaemonSet, versions: [v1alpha1], paths: [T spec.template], everyNode: %s}
"""


@pytest.mark.parametrize(("every_node", "pools"), [("true", ["h100-80gb-mig-mixed"]), ("false", [])])
def test_a_kind_that_makes_a_pod_on_every_node_is_kept_to_those_that_offer(
    every_node: str, pools: list[str]
) -> None:
    item = {
        **deployment(metadata=labelled("inference")),
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "DaemonSet",
    }
    state, templates = world("mixed"), Templates(more=read_kinds(DAEMONS % every_node))
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request(item)}
    response = json.loads(answer(json.dumps(body).encode(), state, templates).body)["response"]
    assert "patch" in response, response
    after = jsonpatch.apply_patch(item, json.loads(b64decode(response["patch"])))
    terms = at(after, "spec.template.spec").get("affinity", {}).get("nodeAffinity", {})
    found = terms.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    assert [value for term in found for each in term["matchExpressions"] for value in each["values"]] == pools


def test_another_kind_that_is_called_pod_is_no_pod() -> None:
    templates = Templates(more=read_kinds("kinds: [{group: example.org, kind: Pod, paths: [P spec]}]"))
    mirror = {
        "name": "of-whales",
        "namespace": "team",
        "annotations": {keys.MIRROR_POD: "x"},
        **labelled("inference"),
    }
    item = {**pod(metadata=mirror), "apiVersion": "example.org/v1"}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request(item)}
    answered = json.loads(answer(json.dumps(body).encode(), world("mixed"), templates).body)["response"]
    assert SLICE in b64decode(answered["patch"]).decode()


def test_json_is_read_too() -> None:
    assert read_kinds('{"kinds": [{"kind": "Odd", "paths": ["P spec"]}]}') == (Kind("", "Odd", ("P spec",)),)


def experiment() -> Object:
    gpus = {"limits": {GPU: 2}}
    main = {"name": "main", "image": "busybox", "resources": gpus}
    item = {
        "apiVersion": "ml.example.com/v1",
        "kind": "Experiment",
        "metadata": {"name": "sweep", "namespace": "team"},
        "spec": {
            "driver": {"spec": {"containers": [main]}},
            "workers": [
                {"pod": {"containers": []}, "extra": {"resources": gpus}},
                {"extra": {"resources": gpus}},
            ],
            "ray": {"headGroupSpec": {"template": {"spec": {"containers": [main]}}}},
            "minimum": {GPU: "8"},
            "launch": {"processes": 2},
        },
    }
    found: Object = msgspec.json.decode(msgspec.json.encode(item))
    return found


def test_an_own_kind_is_rewritten_with_its_side_fields() -> None:
    review = {"apiVersion": "admission.k8s.io/v1", "request": request(experiment())}
    found = answer(msgspec.json.encode(review), mig(multiGPU="one"), Templates(more=read_kinds(FILE)))
    response = msgspec.json.decode(found.body)["response"]
    item = jsonpatch.apply_patch(experiment(), msgspec.json.decode(b64decode(response["patch"])))
    assert at(item, "spec.driver.spec.containers.0.resources.limits") == {SLICE: "1"}
    assert at(item, "spec.workers.0.extra.resources.limits") == {SLICE: "1"}
    assert at(item, "spec.workers.1.pod.tolerations") is not None
    assert at(item, "spec.ray.headGroupSpec.template.spec.containers.0.resources.limits") == {SLICE: "1"}
    assert at(item, "spec.minimum") == {SLICE: "4"}
    assert at(item, "spec.launch.processes") == 1


BAD = [
    ("kinds: [", "the file is no YAML in line 2: did not find"),
    ("- kind: Odd", "the one field kinds"),
    ("kinds: []\nmore: 1", "the one field kinds"),
    ("kinds: [{kind: Odd}]", "kinds[0] (Odd): Object missing required field `paths`"),
    (
        "kinds: [{kind: Odd, paths: [P spec], path: x}]",
        "kinds[0] (Odd): Object contains unknown field `path`",
    ),
    ("kinds: [{kind: Odd, paths: P spec}]", "kinds[0] (Odd).paths: Expected `array`, got `str`"),
    ("kinds: [{kind: odd, paths: [P spec]}]", "kinds[0] (odd).kind: 'odd' is no kind"),
    (
        "kinds: [{kind: Odd, group: a/v1, paths: [P spec]}]",
        "kinds[0] (Odd).group: 'a/v1' has a version in it",
    ),
    ("kinds: [{kind: Odd, paths: []}]", "kinds[0] (Odd).paths: it is empty"),
    ("kinds: [{kind: Odd, versions: [], paths: [P spec]}]", "kinds[0] (Odd).versions: it is empty"),
    ("kinds: [{kind: Odd, paths: [spec.template]}]", "kinds[0] (Odd).paths: 'spec.template' is no path"),
    ("kinds: [{kind: Odd, paths: [T .]}]", "kinds[0] (Odd).paths: 'T .' is no path"),
    ("kinds: [{kind: Odd, paths: ['spec: T a']}]", "the parts of one pod are P, I, C, R, N and M"),
    ("kinds: [{kind: Odd, paths: ['spec: P a + P b']}]", "one pod has one P or I"),
    ("kinds: [{kind: Odd, paths: ['a b: P c']}]", "'a b' is no place"),
    ("kinds: [{kind: Odd, paths: ['N spec.gpu(name)']}]", "N takes two fields"),
    ("kinds: [{kind: Odd, paths: ['@Nothing spec']}]", "'@Nothing spec' names no kind of the table"),
    ("kinds: [{kind: Odd, paths: [P spec], scope: World}]", "'World' is neither Namespaced nor Cluster"),
    ("kinds: [{kind: Odd, paths: [P spec], means: mender}]", "'mender' is none of"),
    ("kinds: [{kind: Odd, paths: [P spec], owners: [a b]}]", "'a b' is no Kind.group"),
    (
        "kinds: [{kind: Odd, paths: [P spec], sideFields: {totals: [spec]}}]",
        "sideFields.totals: 'spec' is no place",
    ),
    (
        "kinds: [{kind: Odd, paths: [P spec], sideFields: {counts: ['.a']}}]",
        "sideFields.counts: '.a' is no place",
    ),
    (
        "kinds: [{kind: Odd, paths: [P spec], queueing: {kueu: x}}]",
        "kinds[0] (Odd).queueing: Object contains unknown",
    ),
    (
        "kinds: [{kind: Odd, paths: [P spec], queueing: {keeper: yunikorn}}]",
        f"queueing.keeper: 'yunikorn' is no engine; write one of {', '.join(Engine)}",
    ),
    (
        "kinds: [{kind: Odd, paths: [P spec], queueing: {keeper: kueue, suspend: 'spec.parts[].suspend'}}]",
        "queueing.suspend: 'spec.parts[].suspend' is no place",
    ),
    (
        "kinds: [{kind: Odd, paths: [P spec]}, {kind: Odd, paths: [P spec]}]",
        "kinds[1] (Odd): the same group and kind",
    ),
]


@pytest.mark.parametrize(("text", "words"), BAD, ids=[words[:40] for _, words in BAD])
def test_a_bad_file_names_the_entry_and_the_field(text: str, words: str) -> None:
    with pytest.raises(KindsError) as caught:
        read_kinds(text)
    assert words in str(caught.value)


def test_the_rules_send_what_may_be_rewritten() -> None:
    wanted = rules(TABLE)
    assert Rule(("",), ("v1",), ("pods", "podtemplates", "replicationcontrollers"), "Namespaced") in wanted
    named = {(rule.api_groups[0], resource): rule for rule in wanted for resource in rule.resources}
    assert named["agents.x-k8s.io", "sandboxes"].api_versions == ("v1alpha1",)
    assert named["kubeflow.org", "mpijobs"].api_versions == ("v1", "v2beta1")
    cluster_scoped = {resource for (_, resource), rule in named.items() if rule.scope == "Cluster"}
    assert cluster_scoped == {
        "clustertrainingruntimes",
        "clusterworkflowtemplates",
        "clusterservingruntimes",
        "workspacekinds",
    }
    for left in ("nimservices", "virtualmachines", "revisions", "nimcaches", "elasticquotas"):
        assert left not in {resource for _, resource in named}


def test_rules_are_written_as_kubernetes_spells_them() -> None:
    rule = msgspec.to_builtins(rules([Kind("example.com", "Odd", ("P spec",))])[-1])
    assert rule == {
        "apiGroups": ("example.com",),
        "apiVersions": ("v1",),
        "resources": ("odds",),
        "scope": "Namespaced",
    }


def test_every_row_is_of_use() -> None:
    for kind in TABLE:
        assert kind.means in Steering
        assert kind.versions
