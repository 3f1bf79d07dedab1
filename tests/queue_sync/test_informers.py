"""What the informers keep of the objects that they follow."""

import json
from typing import Any

import msgspec

from queue_sync.informers.required import record_of
from slicewise.api.policy import PLAN_KIND, read_plan

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
