"""What the informers keep of the objects that they follow."""

import json
import sys
from typing import Any

import msgspec

from queue_sync.informers.required import SHARED_TEXTS, decode_for, decode_node, once, record_of
from slicewise.api.policy import PLAN_KIND, read_plan
from tests.queue_sync.scenes import mixed

decode = record_of(PLAN_KIND, read_plan)


def plan(share: int = 1, **more: Any) -> msgspec.Raw:
    metadata = {"name": "research", "uid": "u", "creationTimestamp": "2026-11-29T00:00:00Z", "generation": 1}
    spec = {"engine": "kueue", "queues": [{"name": "team-a", "share": share}]}
    return msgspec.Raw(json.dumps({"metadata": metadata, "spec": spec, **more}).encode())


def test_a_write_of_a_plans_status_leaves_what_the_plan_says_the_very_same() -> None:
    """So nothing that was worked out of it is worked out anew, which is what a status costs with hundreds of queues."""
    before, after = decode(plan()), decode(plan(status={"quota": "8 gpu"}))
    assert after.status == {"quota": "8 gpu"}
    assert after.value is before.value is not None


def test_a_plan_that_says_something_else_is_read_anew() -> None:
    before, after = decode(plan()), decode(plan(share=2))
    assert before.value is not None
    assert after.value is not None
    assert [each.share for each in (before.value.spec.queues[0], after.value.spec.queues[0])] == [1, 2]


def test_a_plan_that_breaks_a_rule_says_so_each_time() -> None:
    assert "share" in decode(plan(share=-1)).error
    assert decode(plan(share=-1)).error == decode(plan(share=-1)).error


def raw(document: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(document).encode())


def test_of_a_nodes_conditions_the_one_that_is_read_is_kept() -> None:
    """So a node under memory pressure, which is counted as before, is no event."""
    calm, pressed = mixed("n1", {"1g.10gb": 7}), mixed("n1", {"1g.10gb": 7})
    pressed["status"]["conditions"].append({"type": "MemoryPressure", "status": "True"})
    assert decode_node(raw(calm)) == decode_node(raw(pressed))
    assert decode_node(raw(pressed)).ready
    pressed["status"]["conditions"][0]["status"] = "Unknown"
    assert not decode_node(raw(pressed)).ready


def test_a_text_that_thousands_of_objects_have_is_in_memory_once() -> None:
    decode_queue = decode_for("kueue.x-k8s.io/v1beta2", "LocalQueue")
    queues = [
        decode_queue(raw({"metadata": {"name": "a", "namespace": space}, "spec": {"clusterQueue": "team a"}}))
        for space in ("ns-1", "ns-2")
    ]
    nodes = [decode_node(raw(mixed(name, {"1g.10gb": 7}))) for name in ("n1", "n2")]
    for one, other in (
        [queue["spec"]["clusterQueue"] for queue in queues],
        [node.labels["nvidia.com/gpu.product"] for node in nodes],
        [(node.status.allocatable or {})["memory"] for node in nodes],
    ):
        assert one is other


def test_a_text_that_is_seen_no_more_is_let_go() -> None:
    """Each change of a quota writes numbers anew, so a table of all that ever was would only grow."""
    text = "".join(["seen", " ", "once"])
    once({"note": text})
    held = sys.getrefcount(text)
    for number in range(SHARED_TEXTS):
        once(str(number))
    assert sys.getrefcount(text) < held
    assert sys.intern(copied := "".join(["seen", " ", "once"])) is copied
