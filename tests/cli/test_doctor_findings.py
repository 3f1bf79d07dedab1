"""One broken cluster for each thing that doctor finds."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from slicewise.api import keys
from slicewise.cli.doctor import CODES
from tests.cli.test_doctor_patients import (
    KUEUE,
    SHARING,
    WHOLE,
    Object,
    Patient,
    authority,
    config_map,
    definition,
    deployment,
    healthy,
    hooks,
    namespace,
    policy,
    thing,
    volcano_queue,
)
from tests.inventory.resource_slices import NVIDIA_CLASS, board, claim, device_class, resource_slice
from tests.queue_sync.scenes import GPU, H100, exclusive, mixed, node


def unbroken(_: Patient) -> None:
    """Nothing yet."""


MUTATING = "MutatingWebhookConfiguration admission.slicewise.io"
VALIDATING = "ValidatingWebhookConfiguration admission.slicewise.io"
Change = Callable[[Patient], object]


def entries(p: Patient, **fields: Any) -> None:
    for entry in p[MUTATING]["webhooks"]:
        entry.update(fields)


def labelled(**labels: str) -> Change:
    return lambda p: p["Node sliced"]["metadata"]["labels"].update(
        {f"nvidia.com/{k.replace('_', '.')}": v for k, v in labels.items()}
    )


def kept(value: Object, held: str = "", model: str = H100, **resources: int) -> Object:
    note = {
        "resources": {GPU: 8, **resources},
        "since": "2026-11-01T00:00:00Z",
        "heldSince": held,
        "pool": WHOLE,
        "model": model,
    }
    value["metadata"]["annotations"] = {keys.OFFER: json.dumps(note)}
    return value


def pod(name: str, resource: str = "nvidia.com/mig-9g.99gb") -> Object:
    container = {"name": "c", "resources": {"limits": {resource: "1"}}}
    return thing("v1", "Pod", name, "team-a", spec={"containers": [container]}, status={"phase": "Pending"})


def uses(cls: Object, **more: Any) -> Change:
    """A policy whose class `b` is as given, beside one that is served."""
    return lambda p: p.add(policy(classes={"a": {"strategy": "exclusive"}, "b": cls}, **more))


def scarce(p: Patient) -> None:
    """Seven small slices that a class always gets, beside seventy larger ones."""
    uses({"strategy": "mig"})(p)
    p.add(mixed("many", {"3g.40gb": 70}))
    p.label("Node many", pool="h100-80gb-mig-mixed")


def autoscaled(p: Patient, labels: Object) -> None:
    """A pool that is to come, and a NodePool of Karpenter with such labels."""
    p["QuotaPlan research"]["spec"] |= {"maximum": {"l4-exclusive": {GPU: 8}}, "perNode": {"l4-*": {GPU: 4}}}
    p.add(thing("karpenter.sh/v1", "NodePool", "gpus", spec={"template": {"metadata": {"labels": labels}}}))


def old_plugin(p: Patient) -> None:
    """Six plain slices and one with media engines, all under the plain name, as plugins before 0.20 have them."""
    labels = p["Node sliced"]["metadata"]["labels"]
    labels |= {"nvidia.com/mig-1g.10gb.count": "6", "nvidia.com/mig-1g.10gb.me.count": "1"}


def volcano_plan(p: Patient) -> None:
    """The research plan on Volcano, and a team that queues there."""
    p["QuotaPlan research"]["spec"] = {
        "engine": "volcano",
        "pools": {"matchNames": [WHOLE]},
        "queues": [{"name": "team-a"}],
    }
    p.label("Namespace team-a", engine="volcano")


def scheduled_by(plugin: str) -> Change:
    """The scheduler's configuration as Volcano installs it, with one plugin for quota."""
    conf = f"actions: allocate\ntiers:\n- plugins:\n  - name: gang\n- plugins:\n  - name: {plugin}\n"
    return lambda p: p.add(config_map("volcano-scheduler-configmap", conf, "volcano-scheduler.conf"))


def claims_directly(p: Patient) -> None:
    """A node of DRA's, of which somebody's own claim holds a board."""
    p.add(
        node("n9", {keys.POOL: "h100-80gb-exclusive"}, {}),
        NVIDIA_CLASS,
        resource_slice(board(), name="n9-a", pool="n9"),
    )
    p.add(claim("own", "gpu-0", pool="n9", explicit=True))


def maps_classes(name: str, rest: str) -> Change:
    mapping = f"resources: {{deviceClassMappings: [{{name: {name}, deviceClassNames: {rest}}}]}}"
    served = device_class("mig-2g.20gb", "nvidia.com/mig-2g.20gb")  # which no plan has quota of
    return lambda p: p.add(served, config_map("kueue-manager-config", KUEUE + mapping))


def excludes(prefix: str) -> Change:
    """Kueue's configuration leaves out what begins so."""
    return lambda p: p.add(
        config_map("kueue-manager-config", KUEUE + f"resources: {{excludeResourcePrefixes: [{prefix}]}}")
    )


def refused(p: Patient) -> None:
    """The plan takes a queue that is Volcano's own."""
    volcano_plan(p)
    p["QuotaPlan research"]["spec"]["queues"] = [{"name": "root"}]
    p.label("Namespace team-a", queue=None, engine=None)


def selected_alone(p: Patient) -> None:
    """A namespace in which a plan makes a LocalQueue, and that names none."""
    p["QuotaPlan research"]["spec"]["queues"][0].update(namespaces={})
    p.add(namespace("team-b", policy="default"))


def crowded(p: Patient) -> None:
    """A queue whose share rounds to nothing."""
    queues = p["QuotaPlan research"]["spec"]["queues"]
    queues[0].update(share=1_000_000)
    queues.append({"name": "small"})


def flavored(p: Patient, count: int) -> None:
    """A queue of an admin's own with many flavors, used by an opted-in team."""
    p.label("Namespace team-a", queue="own")
    p.add(
        namespace("team-b", policy="default", engine="kueue", queue="team-a")
    )  # the plan's queue stays somebody's
    flavors = [{"name": f"f{n}", "resources": [{"name": "cpu", "nominalQuota": 1}]} for n in range(count)]
    group = {"coveredResources": ["cpu"], "flavors": flavors}
    p.add(
        thing(
            "kueue.x-k8s.io/v1beta2",
            "ClusterQueue",
            "own",
            spec={"namespaceSelector": {}, "resourceGroups": [group]},
        )
    )
    p.add(thing("kueue.x-k8s.io/v1beta2", "LocalQueue", "own", "team-a", spec={"clusterQueue": "own"}))


def selects_nobody(p: Patient) -> None:
    flavored(p, 1)
    del p["ClusterQueue own"]["spec"]["namespaceSelector"]


def inactive(p: Patient) -> None:
    condition = {
        "type": "Active",
        "status": "False",
        "reason": "FlavorNotFound",
        "message": "there is no flavor x",
    }
    p["ClusterQueue team-a"]["status"] = {"conditions": [condition]}


def workload(p: Patient) -> None:
    """Nine GPUs are used of eight."""
    part = {"flavors": {GPU: WHOLE}, "resourceUsage": {GPU: 9}}
    status = {
        "conditions": [{"type": t, "status": "True"} for t in ("QuotaReserved", "Admitted")],
        "admission": {"clusterQueue": "team-a", "podSetAssignments": [part]},
    }
    p.add(
        thing(
            "kueue.x-k8s.io/v1beta2", "Workload", "w", "team-a", spec={"queueName": "team-a"}, status=status
        )
    )


def overlapping(p: Patient) -> None:
    """A flavor from before Slicewise, over the same nodes."""
    labels = {"nvidia.com/gpu.product": H100, "nvidia.com/gpu.replicas": "1"}
    p.add(thing("kueue.x-k8s.io/v1beta2", "ResourceFlavor", "h100", spec={"nodeLabels": labels}))
    flavor = {"name": "h100", "resources": [{"name": GPU, "nominalQuota": 4}]}
    group = {"coveredResources": [GPU], "flavors": [flavor]}
    spec = {"namespaceSelector": {}, "resourceGroups": [group]}
    p.add(thing("kueue.x-k8s.io/v1beta2", "ClusterQueue", "old", spec=spec))


def own_queue(p: Patient) -> None:
    """An admin's own flavor and queue that promise what no node has."""
    p.add(thing("kueue.x-k8s.io/v1beta2", "ResourceFlavor", "old", spec={"nodeLabels": {"gone": "yes"}}))
    flavor = {"name": "old", "resources": [{"name": GPU, "nominalQuota": 4}]}
    group = {"coveredResources": [GPU], "flavors": [flavor]}
    p.add(
        thing(
            "kueue.x-k8s.io/v1beta2",
            "ClusterQueue",
            "old",
            spec={"namespaceSelector": {}, "resourceGroups": [group]},
        )
    )


def with_profile(profile: str, **more: Any) -> Change:
    return uses({"strategy": "mig", "size": {"profile": profile}, "otherwise": ["exclusive"], **more})


def astray(p: Patient) -> None:
    """Volcano's scheduler placed a pod on a node of Kueue's plan."""
    stray = pod("stray", GPU)
    node = next(item["metadata"]["name"] for item in p.objects.values() if item["kind"] == "Node")
    stray["spec"] |= {"schedulerName": "volcano", "nodeName": node}
    stray["metadata"] |= {
        "labels": {"kueue.x-k8s.io/queue-name": "team-a"},
        "annotations": {keys.DECISION: "{}"},
    }
    p.add({**stray, "status": {"phase": "Running"}})


def work_in_parent(p: Patient) -> None:
    """A gang in a queue that has children."""
    p.add(volcano_queue("top"), volcano_queue("low", parent="top"))
    p.add(thing("scheduling.volcano.sh/v1beta1", "PodGroup", "pg", "team-a", spec={"queue": "top"}))


def only_mutating(p: Patient) -> None:
    """Other validating configurations, and not ours."""
    p.drop("ValidatingWebhookConfiguration")
    p.add({**hooks("kueue-validating"), "kind": "ValidatingWebhookConfiguration"})


def uninstalled(p: Patient) -> None:
    """Nothing of Slicewise is in the cluster."""
    p.drop(MUTATING, VALIDATING, "QuotaPlan research", "Namespace team-a")
    p.drop(*(f"CustomResourceDefinition {name}.slicewise.io" for name in ("slicingpolicies", "quotaplans")))
    p.drop(*(f"Deployment slicewise-system/slicewise-{part}" for part in ("webhook", "controller")))


def without_gpus(p: Patient) -> None:
    """No node has a GPU, and nobody counts on one."""
    p.drop("Node whole", "Node sliced", "QuotaPlan research", "Namespace team-a")
    p.add(thing("v1", "Node", "plain", status={"conditions": [{"type": "Ready", "status": "True"}]}))


# code -> what breaks the healthy cluster; a pair when queues are to be broken after plans got theirs.
CASES: dict[str, Change | tuple[Change, Change]] = {
    "NotInstalled": uninstalled,
    "DefinitionMissing": lambda p: p.drop("CustomResourceDefinition slicingpolicies"),
    "DeploymentMissing": lambda p: p.drop("Deployment slicewise-system/slicewise-webhook"),
    "DeploymentUnavailable": lambda p: p.add(deployment("controller", available=0)),
    "DeploymentSingle": lambda p: p.add(deployment("webhook", available=1)),
    "WebhookMissing": lambda p: p.drop(MUTATING),
    "ValidatingWebhookMissing": only_mutating,
    "WebhookOrder": lambda p: p.add(hooks("a-kueue-mutating", "/mutate-kueue-x-k8s-io-v1beta2-workload")),
    "WebhookNotReinvoked": lambda p: entries(p, reinvocationPolicy="Never"),
    "WebhookSkipsNamespace": lambda p: entries(p, namespaceSelector={"matchLabels": {"gpu": "yes"}}),
    "WebhookBlocksSystem": lambda p: entries(p, failurePolicy="Fail", namespaceSelector={}),
    "WebhookPolicyMixed": lambda p: p[MUTATING]["webhooks"][0].update(failurePolicy="Fail"),
    "WebhookSlow": lambda p: entries(p, failurePolicy="Fail", timeoutSeconds=30),
    "CABundleMissing": lambda p: p[MUTATING]["webhooks"][0]["clientConfig"].pop("caBundle"),
    "CABundleUnreadable": lambda p: p[MUTATING]["webhooks"][0]["clientConfig"].update(caBundle="eHl6"),
    "CABundleExpired": lambda p: p[MUTATING]["webhooks"][0]["clientConfig"].update(caBundle=authority(-1)),
    "CABundleEndsSoon": lambda p: p[MUTATING]["webhooks"][0]["clientConfig"].update(caBundle=authority(3)),
    "EngineMissing": (
        lambda p: p.add(namespace("v", policy="default", engine="volcano", queue="q")),
        lambda p: p.drop("CustomResourceDefinition queues"),
    ),
    "KueueTooOld": lambda p: p.add(definition("clusterqueues.kueue.x-k8s.io", "v1beta1")),
    "KueueStoresOldVersion": lambda p: p.add(
        definition("clusterqueues.kueue.x-k8s.io", "v1beta1", "v1beta2", stored=["v1beta1", "v1beta2"])
    ),
    "KueueRetriesLate": lambda p: p.add(
        deployment("kueue-controller-manager", "example.org/kueue/kueue:v0.18.6")
    ),
    "KueueExcludesNames": excludes("nvidia.com/mig-"),
    "KueueTransformsNames": lambda p: p.add(
        config_map(
            "kueue-manager-config", KUEUE + "resources: {transformations: [{input: nvidia.com/mig-1g.10gb}]}"
        )
    ),
    "KueueMapsClasses": (
        maps_classes("slices", "[mig-2g.20gb]"),
        maps_classes("memory", "[mig-2g.20gb], sources: [{counter: {name: memory}}]"),
    ),
    "TooManyFlavors": lambda p: flavored(p, 65),
    "QueueInactive": (unbroken, inactive),
    "QueueSelectsNobody": selects_nobody,
    "LocalQueueDangling": lambda p: p.add(
        thing("kueue.x-k8s.io/v1beta2", "LocalQueue", "lost", "team-a", spec={"clusterQueue": "gone"})
    ),
    "VolcanoIgnoresDeserved": (volcano_plan, scheduled_by("proportion")),
    "VolcanoHierarchyFragile": lambda p: p.add(
        thing("scheduling.volcano.sh/v1beta1", "Queue", "top", spec={}),
        thing("scheduling.volcano.sh/v1beta1", "Queue", "low", spec={"parent": "top"}),
    ),
    "VolcanoParentMissing": lambda p: p.add(volcano_queue("low", parent="top")),
    "VolcanoWorkInParent": work_in_parent,
    "PolicyMissing": lambda p: p.add(namespace("typo", policy="defualt")),
    "ModeUnknown": lambda p: p.add(namespace("typo", policy="default", mode="observe")),
    "ClassUnknown": lambda p: p.add(namespace("typo", policy="default", workload_class="trainning")),
    "EngineUnknown": lambda p: p.add(namespace("typo", policy="default", engine="slurm")),
    "EngineWithoutQueue": lambda p: p.add(namespace("typo", policy="default", engine="kueue")),
    "QueueMissing": lambda p: p.add(namespace("typo", policy="default", engine="kueue", queue="team-z")),
    "NamespaceNotQueued": selected_alone,
    "LabelUnknown": lambda p: p.add(namespace("typo", policy="default", workload="training")),
    "LabelsWithoutPolicy": lambda p: p.add(namespace("typo", mode="audit")),
    "SystemNamespaceLabelled": lambda p: p.add(namespace("kube-system", policy="default")),
    "ResourceQuotaMissesWork": lambda p: p.add(
        thing("v1", "ResourceQuota", "gpus", "team-a", spec={"hard": {f"requests.{GPU}": "8"}})
    ),
    "LimitRangeRestoresName": lambda p: p.add(
        thing(
            "v1",
            "LimitRange",
            "gpus",
            "team-a",
            spec={"limits": [{"type": "Container", "default": {GPU: "1"}}]},
        )
    ),
    "PolicyUnusable": lambda p: p.add(policy(defaultClass="nobody")),
    "PolicyUnused": lambda p: p.add(policy("spare")),
    "ClassUnserved": uses({"strategy": "mps"}),
    "ClassFallsBack": uses({"strategy": "mps", "otherwise": ["exclusive"]}),
    "ClassPrefersScarce": scarce,
    "NeedUnserved": uses({"strategy": "exclusive"}, needs={"burst": "time-slicing"}),
    "FallbackNeverFits": uses(
        {"strategy": "exclusive", "size": {"memory": "9Gi"}, "otherwise": ["time-slicing"]}
    ),
    "ProfileImpossible": with_profile("5g.55gb"),
    "ProfileIgnored": uses({"strategy": "exclusive", "size": {"profile": "1g.10gb"}}),
    "PolicyKindUnknown": lambda p: p.add(policy(kinds={"Notebok.kubeflow.org": "a"})),
    "NodeUnusable": lambda p: p.add(thing("v1", "Node", "odd", spec={}, status={"capacity": [1]})),
    "NoGPUNode": without_gpus,
    "NodeUnlabelled": lambda p: p.add(node("n", {}, {GPU: 8})),
    "NodeInvalidGeometry": lambda p: p.add(
        node("n", {keys.PRODUCT: f"{H100}-MIG-INVALID", keys.COUNT: "0", keys.MIG_STRATEGY: "single"}, {})
    ),
    "NodeStrategyNone": lambda p: p.add(
        node("n", {keys.PRODUCT: H100, keys.COUNT: "8", keys.REPLICAS: "0"}, {GPU: 8})
    ),
    "NodeGeometryFailed": labelled(**{"mig.config.state": "failed"}),
    "NodeHeldTooLong": lambda p: p.add(kept(exclusive("n", ready=False), "2026-11-23T10:00:00Z")),
    "NodeNotBelieved": lambda p: p.add(exclusive("n", ready=False)),
    "NodeHeld": lambda p: p.add(kept(exclusive("n", ready=False), "2026-11-23T11:58:00Z")),
    "NodeDevicesLost": lambda p: p["Node whole"]["status"]["allocatable"].update({GPU: "7"}),
    "NodeOfferedTwice": lambda p: p["Node whole"]["status"]["allocatable"].update(
        {"volcano.sh/vgpu-number": "10"}
    ),
    "NodeTwoModels": lambda p: kept(p["Node whole"], model="NVIDIA-L4"),
    "NodePartlyCounted": lambda p: p["Node whole"]["status"]["allocatable"].update({GPU: "9"}),
    "PluginHidesProfiles": old_plugin,
    "NodePoolLabelStale": lambda p: p.label("Node whole", pool="t4-time-slicing-x10"),
    "GeometryImpossible": labelled(**{"mig.config": "too-much"}),
    "GeometryDiffers": labelled(**{"mig.config": "two"}),
    "GeometryUnknown": labelled(**{"mig.config": "tree"}),
    "PluginConfigMissing": labelled(**{"device-plugin.config": "twelve"}),
    "SharingDiffers": lambda p: p["Node whole"]["metadata"]["labels"].update(
        {"nvidia.com/device-plugin.config": "ten"}
    ),
    "SharesAddUp": lambda p: p.add(
        config_map(
            "sharing", SHARING.replace("failRequestsGreaterThanOne: true", "renameByDefault: true"), "ten"
        )
    ),
    "ConfigUnreadable": lambda p: p.add(config_map("sharing", SHARING.replace("10", "1"), "ten")),
    "PlanUnusable": lambda p: p.add(
        thing("slicewise.io/v1alpha1", "QuotaPlan", "odd", spec={"engine": "kueue"})
    ),
    "PlanRefused": refused,
    "PlanProblem": lambda p: p.add(
        thing("kueue.x-k8s.io/v1beta2", "LocalQueue", "team-a", "team-a", spec={"clusterQueue": "team-a2"}),
        thing("kueue.x-k8s.io/v1beta2", "ClusterQueue", "team-a2", spec={"namespaceSelector": {}}),
    ),
    "PoolNeverMade": lambda p: autoscaled(p, {"slicewise.io/pool": "l4-mps-x4"}),
    "PoolNamedAlike": lambda p: p["QuotaPlan research"]["spec"].update(
        maximum={"h100-exclusive": {GPU: 8}}, perNode={"h100-exclusive": {GPU: 8}}
    ),
    "MaximumWithoutPerNode": lambda p: p["QuotaPlan research"]["spec"].update(
        maximum={"l4-exclusive": {GPU: 8}}
    ),
    "PlanWithoutPools": lambda p: p.add(
        thing(
            "slicewise.io/v1alpha1",
            "QuotaPlan",
            "nowhere",
            spec={"engine": "kueue", "pools": {"matchNames": ["b200-*"]}, "queues": [{"name": "team-b"}]},
        )
    ),
    "PlanPartIdle": lambda p: p["QuotaPlan research"]["spec"]["queues"][0].update(shares={"h10-*": 2}),
    "QueueGetsNothing": crowded,
    "PlanNotWritten": lambda p: p["QuotaPlan research"]["spec"].update(suspend=True),
    "QuotaNotWritten": (unbroken, lambda p: p.drop("ClusterQueue team-a")),
    "FlavorsOverlap": overlapping,
    "QuotaWithoutNodes": own_queue,
    "UseAboveQuota": (unbroken, workload),
    "NameNotOffered": lambda p: p.add(pod("one"), pod("two")),
    "ClaimBesideQuota": claims_directly,
    "OnOtherEnginesNodes": astray,
}
LIVE_ONLY = {"CallerMayNotRead"}


@pytest.mark.parametrize("code", CASES)
def test_one_broken_thing_is_found_and_nothing_else(code: str) -> None:
    case = CASES[code]
    before, after = case if isinstance(case, tuple) else (case, lambda _: None)
    patient = healthy()
    before(patient)
    patient.settle()
    after(patient)
    found = patient.found()
    assert [each.code for each in found] == [code], [
        (each.code, each.object, each.sentence) for each in found
    ]
    assert found[0].sentence
    assert found[0].fix.endswith((".", ")"))


def stopped(p: Patient) -> None:
    flavored(p, 1)
    p["LocalQueue team-a/own"]["spec"]["stopPolicy"] = "Hold"


def leaves_out(p: Patient) -> None:
    flavored(p, 1)
    p["ClusterQueue own"]["spec"]["namespaceSelector"] = {"matchLabels": {"team": "z"}}


ALSO: dict[str, tuple[Change, Change, str]] = {
    "a LocalQueue that was stopped": (
        stopped,
        lambda _: None,
        "QueueInactive: it has stopPolicy Hold, so Kueue admits nothing from it",
    ),
    "a selector that leaves out who queues there": (
        leaves_out,
        lambda _: None,
        "QueueSelectsNobody: its namespaceSelector leaves out team-a, which queues there",
    ),
    "an annotation that means nothing": (
        lambda _: None,
        lambda p: (
            p["ClusterQueue team-a"]["metadata"]
            .setdefault("annotations", {})
            .update({"slicewise.io/manage": "flase"})
        ),
        "LabelUnknown: its annotation slicewise.io/manage=flase means nothing, so the plan decides its quota",
    ),
    "a queue for a system namespace": (
        lambda p: p.add(namespace("kube-system", queue="team-a")),
        lambda _: None,
        "SystemNamespaceLabelled: it has slicewise.io/queue, but system namespaces are never touched",
    ),
}


@pytest.mark.parametrize(("before", "after", "said"), ALSO.values(), ids=ALSO)
def test_what_else_is_found_of_the_same_kind(before: Change, after: Change, said: str) -> None:
    patient = healthy()
    before(patient)
    patient.settle()
    after(patient)
    assert [f"{each.code}: {each.sentence}" for each in patient.found()] == [said]


def test_a_label_under_a_prefix_that_is_nearly_ours_is_found_on_namespaces_too() -> None:
    patient = healthy()
    patient.add(namespace("typo"))
    patient["Namespace typo"]["metadata"]["labels"] = {"slicewise/policy": "default", "slicewise-team": "a"}
    (found,) = patient.found()
    assert (found.code, found.sentence) == (
        "LabelUnknown",
        "the label slicewise/policy means nothing on a namespace",
    )
    assert found.fix == "Did you mean slicewise.io/policy? Remove it otherwise."


def own_file(p: Patient) -> None:
    """The MIG manager's file for one node, under a name that no other file has."""
    text = "mig-configs: {mine: [{devices: all, mig-enabled: true, mig-devices: {1g.10gb: 7}}]}"
    p.add(config_map("sliced-mig-config", text))
    p["ConfigMap gpu-operator/sliced-mig-config"]["metadata"]["labels"] = {"nvidia.com/node-name": "sliced"}
    labelled(**{"mig.config": "mine"})(p)


def generated(p: Patient) -> None:
    """A geometry of whole boards that no file has."""
    p.drop("Node sliced")
    p.add(mixed("sliced", {"2g.20gb": 3}))
    p.label("Node sliced", pool="h100-80gb-mig-mixed")
    labelled(**{"mig.config": "all-2g.20gb"})(p)


NOTHING: dict[str, Change] = {
    "a prefix of another vendor": excludes("amd.com/"),
    "a pool whose label a NodePool gives": lambda p: autoscaled(p, {"slicewise.io/pool": "l4-exclusive"}),
    "a file for one node is that node's": own_file,
    "a geometry of whole boards may be generated": generated,
    # Of the entries, one is always Fail: for Pods longer than anybody writes.
    "a webhook that may take its time": lambda p: entries(p, timeoutSeconds=30),
    "a webhook that is asked of system namespaces": lambda p: entries(p, namespaceSelector={}),
}


@pytest.mark.parametrize("change", NOTHING.values(), ids=NOTHING)
def test_what_is_as_it_should_be_is_not_found(change: Change) -> None:
    patient = healthy()
    change(patient)
    patient.settle()
    assert [(each.code, each.sentence) for each in patient.found()] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda plan: plan.update(
                maximum={"h100-80gb-mps": {GPU: 1}}, perNode={"h100-80gb-mps": {GPU: 1}}
            ),
            "maximum names h100-80gb-mps, and pools of shares are called by how many each board has",
        ),
        (
            lambda plan: plan["queues"].extend(
                {"name": f"q{number}", "namespaces": {"matchLabels": {"team": "nobody"}}}
                for number in range(5)
            ),
            "no namespace has the labels that namespaces of q0, q1, q2 and 2 more select, so nothing gets there",
        ),
    ],
    ids=["shares-without-a-number", "namespaces-that-none-is"],
)
def test_what_of_a_plan_nothing_comes_of_is_found(change: Any, said: str) -> None:
    patient = healthy()
    change(patient["QuotaPlan research"]["spec"])
    patient.settle()
    (found,) = patient.found()
    assert found.sentence == said


@pytest.mark.parametrize("prefix", ["nvidia.com/", "nvidia", "nvidia.com/mig-1g", "nvidia.com/gpu.shared"])
def test_every_prefix_of_a_gpus_name_is_found(prefix: str) -> None:
    patient = healthy()
    excludes(prefix)(patient)
    (found,) = patient.found()
    assert (found.code, found.name) == ("KueueExcludesNames", "kueue-manager-config")
    assert f"excludeResourcePrefixes {prefix} has Kueue count nothing" in found.sentence


def test_volcanos_plugin_that_counts_cards_by_annotation_is_found() -> None:
    patient = healthy()
    volcano_plan(patient)
    scheduled_by("capacity-card")(patient)
    patient.settle()
    (found,) = patient.found()
    assert found.code == "VolcanoIgnoresDeserved"
    assert "volcano.sh/card.quota" in found.sentence
    assert found.fix == "Replace capacity-card by capacity, which QuotaPlans are written for."


def test_a_queue_with_concurrent_admission_that_kueue_would_refuse_is_found() -> None:
    patient = healthy()
    patient.settle()
    spec = patient["ClusterQueue team-a"]["spec"]
    spec["concurrentAdmissionPolicy"] = {"mode": "TryAll"}
    group = {
        "coveredResources": ["own/thing"],
        "flavors": [{"name": "own", "resources": [{"name": "own/thing", "nominalQuota": "1"}]}],
    }
    spec["resourceGroups"].append(group)
    (found,) = patient.found()
    assert found.code == "PlanProblem"
    assert "ClusterQueue team-a would have" in found.sentence
    assert found.fix == "Narrow the plan's pools, or take concurrentAdmissionPolicy out of the queue."


@pytest.mark.parametrize(
    ("pool", "resource", "words"),
    [
        ("l4", GPU, "maximum promises l4, and no pool is ever called so"),
        ("l4-mps-x0", GPU, "maximum promises l4-mps-x0, and no pool is ever called so"),
        (
            "l4-exclusive",
            "nvidia.com/mig-1g.5gb",
            "maximum promises nvidia.com/mig-1g.5gb in l4-exclusive, and no node of a pool that is called so offers",
        ),
        (
            "t4-exclusive",
            "nvidia.com/gpu.shared",
            "maximum promises nvidia.com/gpu.shared in t4-exclusive, and no node of a pool that is called so offers",
        ),
    ],
)
def test_a_maximum_that_no_node_will_ever_have_is_a_finding(pool: str, resource: str, words: str) -> None:
    patient = healthy()
    patient["QuotaPlan research"]["spec"] |= {"maximum": {pool: {resource: 8}}}
    (found,) = patient.found()
    assert found.code == "PoolNeverMade"
    assert found.sentence.startswith(words)


DAMAGED = {
    "a list where a map belongs": (
        "resources: []",
        "Expected `object | null`, got `array` - at `$.resources`",
    ),
    "text where a list belongs": ("resources: {transformations: all}", "Expected `array | null`, got `str`"),
    "a key twice": ("kind: Configuration", "the key kind stands twice"),
    "no YAML": ("resources: {", "did not find"),
    "nested deeply": ("resources: " + "[" * 300, "nested more than 200 deep"),
}


@pytest.mark.parametrize(("text", "words"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_configuration_of_kueue_is_a_finding(text: str, words: str) -> None:
    patient = healthy()
    patient.add(config_map("kueue-manager-config", KUEUE + text))
    (found,) = patient.found()
    assert (found.code, found.name) == ("ConfigUnreadable", "kueue-manager-config")
    assert words in found.sentence


ON_ITS_WAY: dict[str, tuple[Change, str]] = {
    "to another geometry": (labelled(**{"mig.config": "halves"}), "NodeNotBelieved"),
    "to one that cannot be": (labelled(**{"mig.config": "never"}), "GeometryImpossible"),
}


@pytest.mark.parametrize(("change", "code"), ON_ITS_WAY.values(), ids=ON_ITS_WAY)
def test_a_node_that_does_not_show_what_is_planned_is_found_once(change: Change, code: str) -> None:
    patient = healthy()
    more = """
    mig-configs:
      halves: [{devices: all, mig-enabled: true, mig-devices: {3g.40gb: 2}}]
      never: [{devices: all, mig-enabled: true, mig-devices: {3g.40gb: 9}}]
    """
    patient.add(config_map("mig-more", more))
    change(patient)
    patient.settle()
    assert [each.code for each in patient.found() if each.kind == "Node"] == [code]


def test_a_class_that_only_taints_keep_out_is_told_to_tolerate_them() -> None:
    patient = healthy()
    patient["Node whole"]["spec"] = {"taints": [{"key": "team", "effect": "NoSchedule"}]}
    (found,) = [each for each in patient.found() if each.code == "ClassUnserved"]
    assert "taints that the pod does not tolerate: team:NoSchedule" in found.sentence
    assert found.fix == "Add tolerations for them to the pods of the class."


@pytest.mark.parametrize(
    ("profile", "first"), [("1g.10gb+mee", "1g.10gb+me, 1g.10gb, "), ("3g.10gb", "1g.10gb, ")]
)
def test_a_profile_that_no_board_has_is_answered_with_those_that_are_near_or_offered(
    profile: str, first: str
) -> None:
    patient = healthy()
    with_profile(profile)(patient)
    patient.add(mixed("slices", {"1g.10gb": 7}))
    (found,) = (each for each in patient.found() if each.code == "ProfileImpossible")
    assert found.fix.startswith(f"Write for example one of {first}")


def test_every_code_has_a_case() -> None:
    assert set(CODES) == set(CASES) | LIVE_ONLY


FIXES: dict[str, tuple[Change, str, str]] = {
    "boards in MIG mode under the renamed name": (
        lambda p: p.add(
            node(
                "odd",
                {"nvidia.com/gpu.product": H100, "nvidia.com/gpu.count": "2", "nvidia.com/gpu.replicas": "0"},
                {"nvidia.com/gpu.shared": 2},
            )
        ),
        "NodeStrategyNone",
        "Set the MIG strategy to mixed or single",
    ),
    "slices that the MIG manager made and the plugin does not give out": (
        lambda p: p.add(
            node(
                "odd",
                {
                    "nvidia.com/gpu.product": H100,
                    "nvidia.com/gpu.count": "2",
                    "nvidia.com/gpu.replicas": "1",
                    "nvidia.com/mig.config": "all-1g.10gb",
                    "nvidia.com/mig.config.state": "success",
                },
                {GPU: 2},
            )
        ),
        "NodeStrategyNone",
        "Set the MIG strategy to mixed or single",
    ),
    "a driver that does not run": (
        lambda p: p.add(node("odd", {"nvidia.com/gpu.present": "true"}, {})),
        "NodeNotBelieved",
        "kubectl get pods -A --field-selector spec.nodeName=odd",
    ),
    "a label that says what it cannot": (
        lambda p: p.add(
            node(
                "odd",
                {
                    "nvidia.com/gpu.product": H100,
                    "nvidia.com/gpu.count": "2",
                    "nvidia.com/gpu.replicas": "-1",
                },
                {GPU: 2},
            )
        ),
        "NodeNotBelieved",
        "Correct the label",
    ),
    "a kubelet that is not there": (
        lambda p: p.add(exclusive("odd", ready=False)),
        "NodeNotBelieved",
        "kubectl describe node odd",
    ),
}


@pytest.mark.parametrize(("change", "code", "words"), FIXES.values(), ids=FIXES)
def test_a_node_that_is_not_believed_is_told_what_to_do(change: Change, code: str, words: str) -> None:
    patient = healthy()
    change(patient)
    (found,) = (each for each in patient.found() if each.name == "odd")
    assert (found.code, words in found.fix) == (code, True)
