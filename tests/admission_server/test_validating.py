"""What is said at the door: our own objects are refused, namespaces are warned of."""

from typing import Any

import msgspec
import pytest

from admission.judgement.world import World
from admission.validating import answer
from slicewise.inventory.pools import Inventory

WORLD = World({}, {}, Inventory())


def review(item: dict[str, Any], operation: str = "CREATE") -> dict[str, Any]:
    request = {"uid": "u", "kind": {"kind": item["kind"]}, "operation": operation, "object": item}
    sent = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    found: dict[str, Any] = msgspec.json.decode(answer(msgspec.json.encode(sent), WORLD).body)["response"]
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
    "a mode": (
        {"policy": "default", "mode": "on"},
        "namespace team-a: slicewise.io/mode=on means nothing; write one of enforce, audit, off",
    ),
    "an engine": (
        {"policy": "default", "engine": "slurm"},
        "namespace team-a: slicewise.io/engine=slurm means nothing; write one of kueue, volcano, none",
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
