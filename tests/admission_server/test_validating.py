"""What is said at the door: our own objects are refused, namespaces are warned of."""

from functools import partial
from typing import Any

import msgspec
import pytest

from admission.decision.cluster_state import ClusterState
from admission.validating import validate
from admission.wire import BadReview, answer
from slicewise.api.policy import ENGINE_LABELS, read_plan
from slicewise.inventory.pools import Inventory
from tests.queue_sync.scenes import inventory, mixed

WORLD = ClusterState({}, {}, Inventory())
DOOR = partial(validate, world=WORLD)


def review(item: dict[str, Any], operation: str = "CREATE") -> dict[str, Any]:
    request = {"uid": "u", "kind": {"kind": item["kind"]}, "operation": operation, "object": item}
    sent = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    found: dict[str, Any] = msgspec.json.decode(answer(msgspec.json.encode(sent), DOOR).body)["response"]
    return found


def namespace(**labels: str) -> dict[str, Any]:
    ours = {f"slicewise.io/{key.replace('_', '-')}": value for key, value in labels.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a", "labels": ours}}


SOUND = {
    "nothing": {},
    "opted in": {"policy": "default"},
    "everything": {
        "policy": "default",
        "mode": "audit",
        "workload_class": "tuning",
        "engine": "volcano",
        "queue": "q",
    },
}


@pytest.mark.parametrize("labels", SOUND.values(), ids=SOUND)
def test_labels_that_mean_something_are_not_remarked_upon(labels: dict[str, str]) -> None:
    assert review(namespace(**labels)) == {"uid": "u", "allowed": True}


REMARKS = {
    "a policy that does not exist": (
        {"policy": "defualt"},
        (
            "namespace team-a: there is no SlicingPolicy 'defualt', so its GPU work will be refused; "
            "did you mean slicewise.io/policy=default?"
        ),
    ),
    "a key": (
        {"polciy": "gold"},
        "namespace team-a: the label slicewise.io/polciy means nothing; did you mean slicewise.io/policy=gold?",
    ),
    "a key like another": (
        {"policy": "default", "queue_name": "a"},
        "namespace team-a: the label slicewise.io/queue-name means nothing; did you mean slicewise.io/queue=a?",
    ),
    "a mode": (
        {"policy": "default", "mode": "on"},
        "namespace team-a: slicewise.io/mode=on means nothing; write one of enforce, audit, off",
    ),
    "an engine": (
        {"policy": "default", "engine": "slurm"},
        f"namespace team-a: slicewise.io/engine=slurm means nothing; write one of {', '.join(ENGINE_LABELS)}",
    ),
    "a class": (
        {"policy": "default", "workload_class": "inferense"},
        (
            "namespace team-a: policy default has no class 'inferense'; "
            "did you mean slicewise.io/workload-class=inference?"
        ),
    ),
    "labels without a policy": (
        {"queue": "q"},
        "namespace team-a: has no label slicewise.io/policy, so its other labels of ours mean nothing",
    ),
}


@pytest.mark.parametrize(("labels", "sentence"), REMARKS.values(), ids=REMARKS)
def test_a_label_that_means_nothing_is_warned_of_and_let_through(
    labels: dict[str, str], sentence: str
) -> None:
    assert review(namespace(**labels)) == {"uid": "u", "allowed": True, "warnings": [sentence]}


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("slicewise/policy", "slicewise.io/policy"),
        ("slicewise.com/workload_class", "slicewise.io/workload-class"),
        ("slicewise-policy", "slicewise.io/policy"),
        ("slicewise.example.org/team", ""),
        ("slicewise-team", ""),
        ("team", ""),
    ],
)
def test_a_label_under_a_prefix_that_is_nearly_ours_is_warned_of(key: str, meant: str) -> None:
    item = namespace()
    item["metadata"]["labels"][key] = "gold"
    sentence = f"namespace team-a: the label {key} means nothing; did you mean {meant}=gold?"
    assert review(item).get("warnings", []) == ([sentence] if meant else [])


@pytest.mark.parametrize(("profile", "known"), [("9g.1gb", False), ("1g.10gb", True)])
def test_a_policys_profile_that_no_known_board_has_is_warned_of(profile: str, *, known: bool) -> None:
    classes = {"small": {"strategy": "mig", "size": {"profile": profile}}}
    spec = {"defaultClass": "small", "classes": classes}
    item = {"apiVersion": "slicewise.io/v1alpha1", "kind": "SlicingPolicy", "metadata": {"name": "p"}}
    words = (
        "SlicingPolicy p: spec.classes.small.size.profile: no known board has 9g.1gb, so no pool offers it; "
        "write for example 1g.10gb"
    )
    answered = review({**item, "spec": spec})
    assert (answered["allowed"], answered.get("warnings", [])) == (True, [] if known else [words])


def test_a_policy_that_breaks_a_rule_is_refused_with_its_sentence() -> None:
    spec = {"defaultClass": "a", "classes": {"a": {"strategy": "mig", "size": {"profile": "big"}}}}
    item = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "SlicingPolicy",
        "metadata": {"name": "p"},
        "spec": spec,
    }
    response = review(item)
    assert response["allowed"] is False
    assert response["status"]["message"] == (
        "SlicingPolicy p: spec.classes.a.size.profile: 'big' is no MIG profile; write for example 1g.10gb"
    )
    item["metadata"] = {"name": "p", "deletionTimestamp": "2026-11-23T00:00:00Z"}
    assert review(item, "UPDATE")["allowed"] is True
    assert review(item, "CREATE")["allowed"] is False  # server-side apply creates what says that it is dying


def _sent(kind: str, item: str) -> bytes:
    return (
        '{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE",'
        f'"kind":{{"kind":"{kind}"}},"object":{item}}}}}'
    ).encode()


ODD = {
    "nesting": _sent("QuotaPlan", "[" * 5000 + "]" * 5000),
    "nesting in the spec": _sent("QuotaPlan", '{"spec":' + "[" * 5000 + "]" * 5000 + "}"),
    "no UTF-8": _sent("SlicingPolicy", '{"metadata":{"name":"?"}}').replace(b"?", b"\xff"),
    "metadata that are a list": _sent("SlicingPolicy", '{"metadata":[1]}'),
    "labels that are a list": _sent("Namespace", '{"metadata":{"labels":[1]}}'),
    "a label that is a number": _sent("Namespace", '{"metadata":{"labels":{"slicewise.io/mode":5}}}'),
    "an object that is a list": _sent("Namespace", "[1]"),
    "no object": _sent("SlicingPolicy", "null"),
    "another version": b'{"apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"u"}}',
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_what_cannot_be_read_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadReview) as caught:
        answer(body, DOOR)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def policy(directory: str) -> dict[str, Any]:
    work = {"strategy": "time-slicing", "pipeDirectory": directory}
    return {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "SlicingPolicy",
        "metadata": {"name": "p"},
        "spec": {"defaultClass": "a", "classes": {"a": work}},
    }


@pytest.mark.parametrize("directory", ["/run/nvidia/mps", "/run/nvidia/mps/pipe", "/tmp/nvidia-mps"])  # noqa: S108
def test_pods_may_meet_a_daemon_where_the_installation_allows_it(directory: str) -> None:
    assert review(policy(directory))["allowed"] is True


@pytest.mark.parametrize(
    "directory",
    ["/etc", "/var/lib/kubelet", "/run", "/run/nvidia/mps-2", "/run/nvidia/mps/../../etc", "/a/./b"],
)
def test_a_policy_mounts_no_other_directory_of_nodes(directory: str) -> None:
    response = review(policy(directory))
    assert response["allowed"] is False
    assert response["status"]["message"].startswith("SlicingPolicy p: spec.classes.a.pipeDirectory: ")


def test_an_installation_may_allow_others() -> None:
    body = msgspec.json.encode(
        {
            "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "u",
                "kind": {"kind": "SlicingPolicy"},
                "operation": "CREATE",
                "object": policy("/srv/mps"),
            },
        }
    )
    allowing = partial(validate, world=WORLD, pipe_directories=("/srv",))
    assert answer(body, allowing).outcome == "accepted"
    assert answer(body, DOOR).outcome == "refused"


def test_a_sentence_stays_one_that_can_be_read() -> None:
    item = policy("/run/nvidia/mps")
    for odd in ([{"strategy": "mig"}] * 10_000, {"x" * 100_000: 1}, "x" * 1_000_000):
        item["spec"]["classes"]["a"]["models"] = odd
        assert len(review(item)["status"]["message"]) < 400


def plan(name: str, created: str = "", queue: str = "shared", mode: str = "write") -> dict[str, Any]:
    return {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": name, **({"creationTimestamp": created} if created else {})},
        "spec": {
            "engine": "kueue",
            "mode": mode,
            "pools": {"matchNames": [f"{queue}-*"]},
            "queues": [{"name": queue, "shares": {"*": 1}}],
        },
    }


def leaving(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "metadata": {**item["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


OLDER, BETWEEN, NEWER = (f"2026-0{month}-01T00:00:00Z" for month in (1, 2, 3))
CONFLICTS = {
    "a new plan": (plan("mine"), None, False),
    "a new plan that says it is the oldest": (plan("mine", "2020-01-01T00:00:00Z"), None, False),
    "a new plan that says it is being deleted": (leaving(plan("mine")), None, False),
    "an older one that is being deleted, beside it": (
        leaving(plan("mine", OLDER)),
        plan("mine", OLDER),
        True,
    ),
    "a new plan that takes something else": (plan("mine", queue="own"), None, True),
    "a new plan that only reports": (plan("mine", mode="report"), None, True),
    "a newer one that takes it now": (plan("mine", NEWER), plan("mine", NEWER, "own"), False),
    "a newer one that only reported": (plan("mine", NEWER), plan("mine", NEWER, mode="report"), False),
    "a newer one that broke a rule": (plan("mine", NEWER), plan("mine", NEWER, mode="?"), False),
    "an older one that broke a rule": (plan("mine", OLDER), plan("mine", OLDER, mode="?"), True),
    "a newer one that took it before": (plan("mine", NEWER), plan("mine", NEWER), True),
    "a newer one that lets go of it": (plan("mine", NEWER, "own"), plan("mine", NEWER), True),
    "an older one that takes it now": (plan("mine", OLDER), plan("mine", OLDER, "own"), True),
    "the plan that has it": (plan("theirs", BETWEEN), plan("theirs", BETWEEN), True),
}


@pytest.mark.parametrize(("item", "old", "allowed"), CONFLICTS.values(), ids=CONFLICTS)
def test_a_plan_that_newly_takes_what_an_older_one_has_is_refused(
    item: dict[str, Any], old: dict[str, Any] | None, *, allowed: bool
) -> None:
    theirs = read_plan(plan("theirs", BETWEEN))
    world = ClusterState({}, {}, Inventory(), plans={"theirs": theirs})
    operation = "UPDATE" if old else "CREATE"
    request = {
        "uid": "u",
        "kind": {"kind": "QuotaPlan"},
        "operation": operation,
        "object": item,
        "oldObject": old,
    }
    sent = msgspec.json.encode({"apiVersion": "admission.k8s.io/v1", "request": request})
    response = msgspec.json.decode(answer(sent, partial(validate, world=world)).body)["response"]
    assert response["allowed"] is allowed
    if not allowed:
        assert response["status"]["message"] == (
            "QuotaPlan mine takes the queue shared, which QuotaPlan theirs, the older one, has, and only one may; "
            "take it out of one of them"
        )


@pytest.mark.parametrize(("quantity", "allowed"), [(64, True), ("64", True), (65, False), ("1k", False)])
def test_a_plan_promises_no_more_than_the_installation_allows(quantity: int | str, *, allowed: bool) -> None:
    item = plan("grows")
    item["spec"]["maximum"] = {"h100-*": {"nvidia.com/gpu": quantity, "cpu": "999"}}
    item["spec"]["cover"] = ["cpu"]
    request = {"uid": "u", "kind": {"kind": "QuotaPlan"}, "operation": "CREATE", "object": item}
    sent = msgspec.json.encode({"apiVersion": "admission.k8s.io/v1", "request": request})
    handler = partial(validate, world=WORLD, largest_maximum=64)
    response = msgspec.json.decode(answer(sent, handler).body)["response"]
    assert response["allowed"] is allowed
    if not allowed:
        assert f"{quantity} is more than the 64 that this installation lets" in response["status"]["message"]
        assert "spec.maximum.h100-*.nvidia.com/gpu" in response["status"]["message"]


PLAN = {"engine": "kueue", "queues": [{"name": "a", "shares": {"h10-*": 2}}], "cover": ["cpus"]}


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE"])
def test_parts_of_a_plan_that_mean_nothing_are_warned_of(operation: str) -> None:
    item = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": "p"},
        "spec": PLAN,
    }
    world = ClusterState({}, {}, inventory(mixed("n1", {"1g.10gb": 7})))
    request = {
        "uid": "u",
        "kind": {"kind": "QuotaPlan"},
        "operation": operation,
        "object": item,
        "oldObject": item,
    }
    sent = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    found = msgspec.json.decode(answer(msgspec.json.encode(sent), partial(validate, world=world)).body)
    assert found["response"]["allowed"] is True
    shares, cover = found["response"]["warnings"]
    assert shares.startswith("QuotaPlan p: spec.queues.a.shares: h10-* matches no pool of the plan")
    assert "has cpus, so no queue has any of it; did you mean cpu?" in cover


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ({"multiGPU": "refuse"}, "multiGPU: exclusive gives as many whole GPUs as are asked for"),
        ({"multiGPU": "one"}, "multiGPU: exclusive gives as many whole GPUs as are asked for"),
        ({"multiGPU": "each"}, ""),
        ({}, ""),
        ({"multiGPU": "refuse", "otherwise": ["mig"]}, ""),
        ({"models": []}, "models: it is empty, which leaves out no board"),
        ({"models": ["*H100*"]}, ""),
    ],
)
def test_what_a_class_says_for_nothing_is_warned_of(work: dict[str, Any], said: str) -> None:
    spec = {"defaultClass": "c", "classes": {"c": {"strategy": "exclusive", **work}}}
    item = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "SlicingPolicy",
        "metadata": {"name": "p"},
        "spec": spec,
    }
    found = review(item)
    assert found["allowed"] is True
    words = f"SlicingPolicy p: spec.classes.c.{said}"
    assert [each.startswith(words) for each in found.get("warnings", [])] == [True] * bool(said)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Notebook.kubeflow.org", []),
        (
            "Notebok.kubeflow.org",
            ["no work is of the kind Notebok.kubeflow.org; did you mean Notebook.kubeflow.org?"],
        ),
        ("Farm.example.com", []),
        ("Farm", []),
        ("Pod", []),
        ("Job", ["no work is of the kind Job; did you mean Job.batch or Job.batch.volcano.sh?"]),
        ("Notebook", ["no work is of the kind Notebook; did you mean Notebook.kubeflow.org?"]),
    ],
)
def test_a_kind_that_is_nearly_a_known_one_is_warned_of(kind: str, said: list[str]) -> None:
    spec = {"defaultClass": "c", "classes": {"c": {"strategy": "mig"}}, "kinds": {kind: "c"}}
    item = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "SlicingPolicy",
        "metadata": {"name": "p"},
        "spec": spec,
    }
    found = review(item)
    assert found["allowed"] is True
    assert found.get("warnings", []) == [f"SlicingPolicy p: spec.kinds: {each}" for each in said]
