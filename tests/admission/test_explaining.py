"""Why, in words: the class and where it came from, the pools looked at, what was chosen or refused."""

import msgspec
import pytest

from admission.decision.cluster_state import ClusterState
from admission.decision.trace import Stop
from admission.explain import document, explain
from admission.mutation.mutate import mutate
from admission.mutation.outcome import Outcome, Verdict
from admission.workloads.decoder import Templates
from slicewise.api import keys
from tests.admission.building import (
    SLICE,
    Object,
    annotated,
    asking,
    container,
    created,
    deployment,
    labelled,
    notebook,
    owned,
    pod,
    pod_of,
    policy,
    world,
)
from tests.admission.kinds import NAMES, manifest

TEMPLATES = Templates()


def told(known: ClusterState, item: Object) -> list[str]:
    """The lines for one object, as the command prints them."""
    return explain(item, item["metadata"]["namespace"], known, answered(known, item))


def answered(known: ClusterState, item: Object) -> Outcome:
    """What the webhook makes of an object that is created."""
    reader = TEMPLATES.reader(item["apiVersion"].rpartition("/")[0], item["kind"])
    if reader is None:
        return Outcome(Verdict.IGNORED, trace=(Stop.KIND,))
    return mutate(reader, msgspec.json.encode(item), None, item["metadata"]["namespace"], known)


def test_everything_that_was_looked_at_is_told() -> None:
    item = deployment(metadata={**labelled("inference"), **annotated(gpu_memory="10Gi")})
    assert told(world("mixed", "whole"), item) == [
        "Deployment team/serve",
        "  chosen      class inference gets mig; the smallest that holds what is asked is a slice 2g.20gb",
        "    container main: nvidia.com/gpu 1 -> nvidia.com/mig-2g.20gb 1",
        "    free to run in h100-80gb-mig-mixed",
        "  namespace   team: policy default, mode enforce",
        "  class       inference, from its label",
        "  strategies  mig, then exclusive",
        "  size        at least 10240 MiB",
        "  pools       for the pods of /spec/template/spec",
        "    h100-80gb-mig-mixed: mig: nvidia.com/mig-2g.20gb (8), nvidia.com/mig-3g.40gb (8) fits",
        "    cannot serve: h100-80gb-exclusive (mig: it does not offer it)",
    ]


def test_pools_that_cannot_serve_are_one_line_with_each_reason_once() -> None:
    item = pod(metadata={**labelled("batch-inference"), **annotated(gpu_memory="200Gi")})
    lines = told(world("mixed", "whole"), item)
    (line,) = (each for each in lines if "cannot serve: " in each)
    assert line.count("nothing offered holds 204800 MiB") == line.count(" (")
    assert lines[1].startswith("  refused     Pod team/work: no pool can serve class batch-inference")


@pytest.mark.parametrize(
    ("metadata", "code"),
    [
        (labelled("inference"), ""),
        (labelled("infrence"), "class"),
        ({**labelled("batch-inference"), **annotated(gpu_memory="200Gi")}, "nothing-fits"),
        (annotated(rewrite="false"), "opted-out"),
    ],
)
def test_programs_are_given_the_code_of_a_refusal_or_a_warning(metadata: Object, code: str) -> None:
    item, known = pod(metadata=metadata), world("mixed", "whole")
    assert document(item, "team", known, answered(known, item))["code"] == code


def classes(item: Object) -> list[str]:
    return [line for line in told(world("mixed", "whole"), item) if line.startswith("  class ")]


def test_each_template_is_told_of_by_its_own_class() -> None:
    item = manifest("kubeflow.org_PyTorchJob")
    del item["spec"]["runPolicy"]
    item["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["metadata"] = labelled("inference")
    assert classes(item) == [
        "  class       training, from the policy's default",
        "  class       inference, from its label",
    ]


def test_an_object_within_another_is_told_of_by_its_own_class() -> None:
    item = manifest("workload.codeflare.dev_AppWrapper")
    for component in item["spec"]["components"]:
        component["template"]["metadata"] |= labelled("inference")
    assert classes(item) == ["  class       inference, from its label"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (deployment(), []),
        (
            {**deployment(), "kind": "Weird", "apiVersion": "example.com/v1"},
            [
                (
                    "  warning     AppWrapper team/wrapped: /spec/components/0/template/spec/template/spec/containers/"
                    "0/resources/limits asks for GPUs and is left alone, for the kind Weird of example.com/v1 is not "
                    "known here; its pods are decided on when they are made, and a row of --kinds-file makes the kind "
                    "known"
                )
            ],
        ),
        ({**deployment(container(gpus=None)), "kind": "Weird", "apiVersion": "example.com/v1"}, []),
        ({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}}, []),
    ],
    ids=["known", "unknown", "unknown without GPUs", "no workload"],
)
@pytest.mark.parametrize("beside", [[], [deployment()]], ids=["alone", "beside work"])
def test_an_object_of_an_unknown_kind_within_another_is_warned_of(
    template: Object, said: list[str], beside: list[Object]
) -> None:
    item = {
        "apiVersion": "workload.codeflare.dev/v1beta2",
        "kind": "AppWrapper",
        "metadata": {"name": "wrapped", "namespace": "team"},
        "spec": {"components": [{"template": each} for each in (template, *beside)]},
    }
    assert [line for line in told(world("whole"), item) if "warning" in line] == said


def test_work_that_was_decided_before_is_told_why() -> None:
    known = world("mixed", "whole")
    live = created(known, deployment(metadata=labelled("inference")))
    for item, name in ((live, "Deployment team/serve"), (pod_of(live), "Pod team/serve-")):
        assert told(known, item) == [
            name,
            (
                "  left alone: it is as was decided before: class inference gets mig; the smallest offered is a slice "
                "1g.10gb"
            ),
            "  namespace   team: policy default, mode enforce",
        ]


def test_work_that_a_rollout_has_not_reached_is_told_so() -> None:
    rule = policy({"training": {"strategy": "exclusive"}}, rollout={"percent": 0})
    assert told(world("whole", policies=(rule,)), deployment())[1:] == [
        "  left alone: the rollout of its policy has not reached it",
        (
            "  warning     Deployment team/serve: policy default is rolled out to 0 percent, and has not reached it; "
            "left as it was asked; raise spec.rollout.percent to have it decided"
        ),
    ]


@pytest.mark.parametrize(
    ("item", "labels", "words"),
    [
        (pod(container(), asking({SLICE: 1}, "beside")), {}, f"it has not {SLICE} too"),
        (pod(metadata=annotated(rewrite="false")), {}, 'left alone: slicewise.io/rewrite="false" says so'),
        (pod(), {}, "class       training, from the policy's default"),
        (notebook(), {}, "class       notebook, from the policy's rule for its kind"),
        (pod(), {keys.WORKLOAD_CLASS: "tuning"}, "class       tuning, from the namespace's label"),
        (pod(metadata=annotated(profile="1g.10gb")), {}, "size        1g.10gb"),
        (pod(), {}, "kept to h100-80gb-exclusive"),
        (pod(container(gpus=None)), {}, "left alone: no container asks for a GPU"),
        (
            owned(deployment(), "Rollout", "argoproj.io/v1alpha1"),
            {},
            "left alone: another controller owns it",
        ),
        (
            pod(),
            {keys.MODE: "off"},
            "team: has slicewise.io/mode=off, so nothing is done; label it slicewise.io/mode=enforce to opt in",
        ),
        (pod(nodeSelector={"zone": "x"}), {}, "leaves none of its nodes"),
        (
            pod(metadata=labelled("nonsense")),
            {},
            "refused     Pod team/work: its label gives it the class 'nonsense'",
        ),
        *(
            (
                {**pod(), "kind": kind, "apiVersion": version},
                {},
                f"left alone: {kind} is not a kind that holds pod templates for GPUs",
            )
            for kind, version in (
                ("Service", "v1"),
                ("QuotaPlan", "slicewise.io/v1alpha1"),
                ("LocalQueue", "kueue.x-k8s.io/v1beta2"),
            )
        ),
        (
            {**pod(), "kind": "ScaledJob", "apiVersion": "keda.sh/v1alpha1"},
            {},
            "left alone: the kind ScaledJob of keda.sh is not known here; pods that are made of it are decided on when",
        ),
        *(
            (
                {**pod(), "kind": kind, "apiVersion": version},
                {},
                f"kinds-file makes it known; did you mean {meant}?",
            )
            for kind, version, meant in (
                ("Deployment", "extensions/v1beta1", "Deployment.apps"),
                ("pytorchjob", "kubeflow.org/v1", "PyTorchJob.kubeflow.org"),
            )
        ),
        (
            {**deployment({**container(), "name": 1}), "kind": "Deployment"},
            {},
            "what asks for GPUs at /spec/template/spec/containers/0/resources/limits stands where no container",
        ),
        (pod({**container(), "name": ""}), {}, "container (unnamed): nvidia.com/gpu 1 -> nvidia.com/gpu 1"),
        (
            pod(metadata={"namespace": "free"}),
            {},
            "has no label slicewise.io/policy, so nothing is done; label it slicewise.io/policy=default to opt in",
        ),
        (
            pod(metadata={"namespace": "nobody"}),
            {},
            "nobody: not known here, so it has not opted in; give its Namespace, labelled slicewise.io/policy",
        ),
        (pod(metadata={"namespace": "kube-system"}), {}, "kube-system: a system namespace, never touched"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_decides_is_said(item: Object, labels: dict[str, str], words: str) -> None:
    known = world(labels=labels, more={"free": {"team": "a"}, "kube-system": {keys.POLICY: "default"}})
    assert any(words in line for line in told(known, item))


CLAIM: Object = {"resourceClaims": [{"name": "gpus", "resourceClaimTemplateName": "one-gpu"}]}
IMPLICIT = "deviceclass.resource.kubernetes.io/h100-80gb-mig-1g-10gb"
CLAIMS_STAY = (
    "  left alone: resourceClaims gpus stay as they are written, and quota by name counts none of their devices; "
    "ask for nvidia.com/gpu instead, and the scheduler makes the claim"
)
IMPLICIT_STAYS = (
    f"  left alone: what asks for {IMPLICIT} stays as it is written, and no plan has quota of that; ask for "
    "nvidia.com/gpu, or for the name that the class serves"
)
NO_GPU = container(gpus=None)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (pod(NO_GPU, **CLAIM), CLAIMS_STAY),
        (pod(asking({IMPLICIT: 1})), IMPLICIT_STAYS),
        (pod(NO_GPU, initContainers=[asking({IMPLICIT: 1})]), IMPLICIT_STAYS),
        (pod(container(), **CLAIM), CLAIMS_STAY),
    ],
    ids=["claims", "implicit name", "implicit name of an init container", "claims beside a GPU by name"],
)
def test_what_asks_a_driver_for_devices_by_other_means_is_said_to_stay(item: Object, expected: str) -> None:
    assert expected in told(world("mixed", "whole"), item)


@pytest.mark.parametrize("claims", [{"name": "gpus"}, ["gpus"], "gpus", 7])
def test_claims_that_kubernetes_will_refuse_are_no_error(claims: object) -> None:
    item = pod(NO_GPU, resourceClaims=claims)
    assert told(world("whole"), item) == ["Pod team/work", "  left alone: no container asks for a GPU"]


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_not_rewritten_is_said_why(name: str) -> None:
    for known in (world("mixed", "whole"), world("time"), world("whole", labels={keys.MODE: "audit"})):
        outcome = answered(known, manifest(name))
        words = document(manifest(name), "team", known, outcome)
        assert outcome.decisions or words["refusal"] or words["leftAlone"] or words["warnings"]


def test_an_object_whose_pods_are_decided_on_says_so() -> None:
    words = "  left alone: its pods are decided on when they are made, and engines charge nothing else"
    assert words in told(world("whole"), manifest("tekton.dev_PipelineRun"))
    assert told(world("whole"), manifest("tekton.dev_Task"))[1:] == [words]
