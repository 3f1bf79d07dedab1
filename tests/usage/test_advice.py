"""What is advised for an owner, and when nothing is."""

from __future__ import annotations

import math
from typing import Any

import pytest

from slicewise.api.policy import Size, read_policy
from slicewise.usage import advice as advising
from slicewise.usage.advice import Advice, advise, changed_policies, savings
from slicewise.usage.ownership import Cluster, works
from slicewise.usage.series import Series
from tests.usage.making import pod, series, usage, wavy

OPTED_IN = {"team-a": {"slicewise.io/policy": "default"}}


def judged(
    *every: Series, least_days: float = 1, cluster: Cluster | None = None, allow_sharing: bool = False
) -> Advice:
    (only,) = advise(usage(*every), cluster or Cluster(), least_days, allow_sharing=allow_sharing)
    return only


@pytest.mark.parametrize(
    ("memory", "use", "advised"),
    [
        (6, 0.05, "1g.10gb"),
        (12, 0.05, "1g.20gb"),
        (12, 0.2, "2g.20gb"),
        (30, 0.2, "3g.40gb"),
        (30, 0.9, "whole board"),
        (60, 0.1, "whole board"),
    ],
)
def test_the_smallest_size_that_holds_memory_and_compute(memory: float, use: float, advised: str) -> None:
    found = judged(series("a", wavy(memory), use))
    assert found.advised == advised
    assert found.memory >= found.peak * 1.05


def test_use_of_a_slice_is_use_of_its_part_of_the_board() -> None:
    found = judged(series("a", wavy(5), 0.9, profile="1g.10gb"))
    assert found.compute == pytest.approx(0.9 / 7, rel=1e-5)
    assert found.advised == "1g.10gb"
    assert not found.smaller


def test_replicas_of_an_owner_are_judged_together() -> None:
    cluster = Cluster(works([pod("chat-5d4f-1"), pod("chat-5d4f-2")]))
    found = judged(series("chat-5d4f-1", wavy(5)), series("chat-5d4f-2", wavy(30)), cluster=cluster)
    assert (found.owner.words, found.replicas, found.advised) == ("team-a/Deployment/chat", 2, "3g.40gb")


@pytest.mark.parametrize(
    ("every", "why"),
    [
        ([series("a", wavy(5, 12))], "only 0.5 days were seen, and 1 are wanted"),
        ([series("a", [70.0] * 48)], "its memory sits at 90 % of what it was given"),
        ([series("a", wavy(5), model="NVIDIA B200")], "what the slices of NVIDIA-B200 hold is not known"),
        ([series("a", wavy(5), model="Tesla T4")], "the board Tesla-T4 is none that MIG divides"),
        ([series("a", wavy(5), [math.nan] * 192)], "show no use of compute"),
        ([series("a", [0.0] * 192)], "its memory was 0 all the time"),
        ([series("a", wavy(200))], "its memory was 200.0Gi, and the device has 78.0Gi"),
        ([series("a", wavy(5), 1.0, profile="1g.10gb")], "uses all the compute of its slice"),
        ([series("a", wavy(5), profile="9g.99gb")], "has no MIG profile 9g.99gb"),
        ([series("a", wavy(5), profile="banana")], "has no MIG profile banana"),
        ([series("a", wavy(5), 0.0)], "none of its pods ever worked on its GPU"),
        (
            [series("a", [5 + hour / 48 for hour in range(192)])],
            "its memory grew all the time, by up to 0.5Gi a day",
        ),
        ([series("a", [1 + 20 * (hour > 90) + hour / 96 for hour in range(192)])], "look for a leak"),
        (
            [series("a", wavy(5), board="GPU-1"), series("a", wavy(5), board="GPU-2")],
            "hold more than one GPU each",
        ),
    ],
)
def test_nothing_is_advised_where_nothing_can_be_known(every: list[Series], why: str) -> None:
    found = judged(*every)
    assert found.size is None
    assert why in found.why


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param([5 + min(hour, 100) / 48 for hour in range(192)], id="it filled up and stays level"),
        pytest.param([5 + hour % 48 / 48 for hour in range(192)], id="it starts anew every two days"),
        pytest.param([5 + hour / 1920 for hour in range(192)], id="by less than a tenth"),
        pytest.param([5, 6, 7, 6, 5, 6, 7, *[math.nan] * 185], id="a short one"),
    ],
)
def test_memory_that_rose_for_a_while_is_judged(memory: list[float]) -> None:
    assert judged(series("a", memory), least_days=0).size is not None


def test_one_replica_that_grows_says_nothing_of_the_owner() -> None:
    cluster = Cluster(works([pod("a"), pod("b")]))
    grows = series("a", [5 + hour / 48 for hour in range(192)])
    assert judged(grows, series("b", wavy(5)), cluster=cluster).advised == "1g.20gb"


def test_an_owner_of_whom_one_pod_worked_is_judged() -> None:
    cluster = Cluster(works([pod("a"), pod("b")]))
    assert judged(series("a", wavy(5), 0.0), series("b", wavy(5)), cluster=cluster).advised == "1g.10gb"


def test_pods_that_share_a_board_in_time_get_no_verdict() -> None:
    every = [series(name, wavy(5), board="GPU-1") for name in ("a", "b")]
    advices = advise(usage(*every), Cluster(), 1, allow_sharing=True)
    assert all("share boards in time" in each.why for each in advices)
    assert {each.held for each in advices} == {"share of a board"}


def spiky(pods: range, low: float = 20, high: float = 45) -> list[Series]:
    """Pods of which each needs much more for one hour, no two in the same."""
    return [series(f"p{i}", [high if hour == i else low + hour % 5 for hour in range(48)], 0.1) for i in pods]


def test_boards_are_shared_in_time_only_where_that_is_allowed() -> None:
    cluster = Cluster(works([pod(f"p{i}") for i in range(30)]))
    found = judged(*spiky(range(30)), cluster=cluster)
    assert (found.advised, found.could_share, found.smaller) == ("whole board", 2, False)
    assert "2 could share a board in time (--allow-sharing)" in found.why
    assert "nothing keeps one from taking another's" in found.why
    allowed = judged(*spiky(range(30)), cluster=cluster, allow_sharing=True)
    assert allowed.advised == "time-slicing, 2 a board"
    assert [(s.before, s.after, s.sharing) for s in savings([found])] == [(30, 30, 15)]
    assert [(s.before, s.after, s.sharing) for s in savings([allowed])] == [(30, 15, 15)]


def test_owners_whose_peaks_stand_in_the_way_share_with_nobody() -> None:
    every = [*spiky(range(30)), *(series(f"big{i}", wavy(70, 48)) for i in range(5))]
    found = advise(usage(*every), Cluster(), 1, allow_sharing=True)
    assert {each.advised for each in found if each.owner.name.startswith("p")} == {"time-slicing, 2 a board"}
    assert {each.advised for each in found if each.owner.name.startswith("big")} == {"whole board"}


def test_the_busiest_replica_counts() -> None:
    cluster = Cluster(works([pod("a"), pod("b")]))
    found = judged(series("a", wavy(5), 0.1), series("b", wavy(5), 0.5), cluster=cluster)
    assert found.compute == pytest.approx(0.5)


def test_replicas_too_short_for_a_percentile_count_together() -> None:
    def short(index: int, first: float) -> Series:
        gap = [math.nan] * (4 * index)
        uses = [*gap, first, 0.1, 0.1, 0.1]
        return series(f"p{index}", wavy(5, 48), uses + [math.nan] * (48 - len(uses)))

    cluster = Cluster(works([pod(f"p{i}") for i in range(10)]))
    started = [short(i, 0.9 if i == 3 else 0.1) for i in range(10)]
    assert judged(*started, cluster=cluster).compute == pytest.approx(0.1)
    assert judged(*(short(i, 0.9) for i in range(10)), cluster=cluster).compute == pytest.approx(0.9)


def test_savings_are_packed_and_what_is_not_judged_stays() -> None:
    every = [series(f"p{i}", wavy(5)) for i in range(8)]
    found = advise(usage(*every, series("flat", [70.0] * 192)), Cluster(), 1, allow_sharing=False)
    assert [(each.before, each.after) for each in savings(found)] == [(9, 3)]


def clustered(class_name: str = "training", **spec: Any) -> Cluster:
    policy = read_policy(
        {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "SlicingPolicy",
            "metadata": {"name": "default"},
            "spec": {"defaultClass": "training", "classes": {"training": {"strategy": "exclusive"}, **spec}},
        }
    )
    labels = {"slicewise.io/workload-class": class_name, "pod-template-hash": "5d4f"}
    return Cluster(works([pod("a", labels=labels)]), namespaces=OPTED_IN, policies={"default": policy})


def test_a_class_gets_the_size_of_the_owner_who_needs_most() -> None:
    cluster = clustered()
    (policy,) = changed_policies([judged(series("a", wavy(12)), cluster=cluster)], cluster)
    document = advising.policy_document(policy)
    assert document["spec"]["classes"]["training"] == {
        "strategy": "mig",
        "size": {"memory": "13Gi"},
        "otherwise": ["exclusive"],
    }
    assert read_policy(document) == policy


def test_of_two_owners_with_one_profile_the_larger_need_counts() -> None:
    cluster = clustered()
    labels = {"slicewise.io/workload-class": "training"}
    both = Cluster(
        works([pod("a", labels=labels, ownerReferences=[]), pod("b", labels=labels, ownerReferences=[])]),
        namespaces=OPTED_IN,
        policies=cluster.policies,
    )
    advices = advise(usage(series("a", wavy(22)), series("b", wavy(35))), both, 1, allow_sharing=False)
    (policy,) = changed_policies(advices, both)
    assert policy.spec.classes["training"].size == Size(memory="37Gi")


def test_compute_that_memory_does_not_tell_is_asked_for_by_profile() -> None:
    cluster = clustered()
    (policy,) = changed_policies([judged(series("a", wavy(12), 0.2), cluster=cluster)], cluster)
    assert advising.policy_document(policy)["spec"]["classes"]["training"]["size"] == {"profile": "2g.20gb"}


def test_a_class_is_left_alone_while_one_of_it_cannot_be_judged() -> None:
    cluster = clustered()
    assert changed_policies([judged(series("a", [70.0] * 192), cluster=cluster)], cluster) == []


def test_nothing_is_written_for_namespaces_that_have_not_opted_in() -> None:
    found = [judged(series("a", wavy(5)))]
    assert advising.tests(found, Cluster(), ["c.yaml"]) == {"snapshot": ["c.yaml"], "cases": []}
