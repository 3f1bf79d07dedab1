"""The self-check: what an answer shows, what it does not, and when something is said about it."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from queue_sync.informers.required import Namespace
from queue_sync.webhook_selfcheck import PLAN, TEMPLATE, WHILE_BROKEN, SelfCheck
from slicewise.api import keys
from slicewise.api.policy import SpecError, read_plan
from slicewise.kube.client import Client
from slicewise.kube.errors import ApiError, LeadershipLostError, UnreachableError
from slicewise.kube.events import Recorder
from tests.kube.clocks import Clock

REFUSED = ApiError(
    422, "Invalid", f'admission webhook "policies.{keys.CONFIGURATION}" denied the request: no'
)
FAILED = ApiError(
    500, "InternalError", f'failed calling webhook "policies.{keys.CONFIGURATION}": connection refused'
)
FORBIDDEN = ApiError(403, "Forbidden", f'quotaplans "{keys.PROBE}" is forbidden')
NOT_ASKED = ApiError(
    403, "Forbidden", f'"{keys.PROBE}" is forbidden: User "x" cannot create resource "podtemplates"'
)
UNREACHABLE = UnreachableError("no answer", sent=True)
TAKEN = None


class Server:
    """Answers as the test says, by the beginning of the path."""

    def __init__(self) -> None:
        self.clock = Clock(hurried=True)
        self.timing = self.clock.timing
        self.plans: list[Exception | None] = []
        self.templates: dict[str, Exception | None] = {}
        self.asked: list[str] = []

    async def request(self, method: str, path: str, *, query: Mapping[str, str], body: Any, **_: Any) -> None:
        assert method == "PATCH"
        assert query["dryRun"] == "All"
        assert path.endswith(f"/{keys.PROBE}")
        self.asked.append(path)
        if body == PLAN:
            answer = self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]
        else:
            answer = self.templates[path.split("/")[4]]
        if answer is not None:
            raise answer


class Told:
    """The events that were emitted."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def emit(self, regarding: Any, reason: str, note: str, **_: str) -> None:
        self.events.append((regarding.kind, reason, note))


def prober(server: Server, told: Told, **namespaces: Mapping[str, str]) -> SelfCheck:
    store = {
        name.replace("_", "-"): Namespace(dict(labels), deleting=False) for name, labels in namespaces.items()
    }
    return SelfCheck(
        cast("Client", server), cast("Recorder", told), lambda: store, own_namespace="own", period=60.0
    )


def values(found: SelfCheck, metric: str = "slicewise_webhook_path_working") -> dict[str, float]:
    return {
        labels[0]: number for name, _, _, rows in found.samples() if name == metric for labels, number in rows
    }


async def test_a_refusal_by_the_webhook_is_what_shows_that_it_works() -> None:
    server, told = Server(), Told()
    server.plans = [REFUSED]
    found = prober(server, told)
    await found.round()
    assert values(found) == {"validate": 1}
    assert told.events == [], "what works from the start is no news"


@pytest.mark.parametrize("answer", [TAKEN, FAILED], ids=["not asked", "not reached"])
async def test_a_way_that_is_closed_is_told_with_the_reason_and_since_when(answer: Exception | None) -> None:
    server, told = Server(), Told()
    server.plans = [REFUSED, answer, answer, answer, REFUSED]
    found = prober(server, told)
    await found.round()
    began = values(found, "slicewise_webhook_path_since_timestamp_seconds")["validate"]
    server.clock.at += 100
    await found.round()
    assert values(found) == {"validate": 0}
    broke = values(found, "slicewise_webhook_path_since_timestamp_seconds")["validate"]
    assert broke >= began + 100
    await found.round()
    assert values(found, "slicewise_webhook_path_since_timestamp_seconds") == {"validate": broke}
    await found.round()
    assert values(found) == {"validate": 1}
    assert [(kind, reason) for kind, reason, _ in told.events] == [
        ("ValidatingWebhookConfiguration", "WebhookNotReached"),
        ("ValidatingWebhookConfiguration", "WebhookReached"),
    ]
    assert ("connection refused" in told.events[0][2]) == (answer is FAILED)


async def test_one_failure_is_no_news() -> None:
    server, told = Server(), Told()
    server.plans = [REFUSED, FAILED, REFUSED]
    found = prober(server, told)
    await found.round()
    await found.round()
    assert values(found) == {"validate": 1}
    assert told.events == []


@pytest.mark.parametrize("answer", [FORBIDDEN, UNREACHABLE], ids=["forbidden", "no API server"])
async def test_an_answer_that_tells_nothing_changes_nothing(answer: Exception) -> None:
    server, told = Server(), Told()
    server.plans = [answer]
    found = prober(server, told)
    await found.round()
    assert values(found) == {}
    server.plans = [FAILED]
    await found.round()
    server.plans = [answer]
    await found.round()
    assert values(found) == {"validate": 0}


async def test_work_is_tried_where_somebody_opted_in_and_nowhere_else() -> None:
    server, told = Server(), Told()
    server.plans = [REFUSED]
    opted = {keys.POLICY: "default"}
    found = prober(
        server,
        told,
        plain={},
        off={**opted, keys.MODE: "off"},
        audit={**opted, keys.MODE: "audit"},
        own=opted,
        kube_system=opted,
    )
    await found.round()
    assert values(found) == {"validate": 1}
    found = prober(server, told, a=opted, b=opted)
    server.templates = {"a": TAKEN, "b": REFUSED}  # "a" is excluded by name
    await found.round()
    assert values(found) == {"mutate": 1, "validate": 1}
    server.templates = {"a": NOT_ASKED, "b": TAKEN}
    await found.round()
    assert values(found) == {"mutate": 0, "validate": 1}
    server.templates = {"a": FORBIDDEN, "b": FORBIDDEN}
    await found.round()
    assert values(found) == {"mutate": 0, "validate": 1}


async def test_it_looks_more_often_while_something_is_wrong_and_ends_with_leadership() -> None:
    server, told = Server(), Told()
    server.plans = [REFUSED, FAILED, FAILED, REFUSED, LeadershipLostError("gone")]
    with pytest.raises(LeadershipLostError):
        await asyncio.wait_for(prober(server, told).run(), 60)
    long = [seconds for seconds in server.clock.slept if seconds > 5]
    assert long == [60.0, WHILE_BROKEN, 60.0]


def test_the_probes_break_a_rule_that_only_the_webhook_knows() -> None:
    with pytest.raises(SpecError, match=keys.PROBE):
        read_plan(PLAN)
    assert TEMPLATE["metadata"]["labels"] == {keys.WORKLOAD_CLASS: keys.PROBE}
