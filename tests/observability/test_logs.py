"""Nothing of what people's workloads contain is logged, at any level and in either format."""

import json
import logging
from typing import Any

import pytest

from admission.server.app import Application
from admission.server.metrics import Metrics
from admission.server.operations import Readiness, operations
from admission.wire import Answer
from slicewise.cli.servers import _Json, _Text
from tests.admission.building import annotated, container, pod
from tests.observability.scraping import ask, review, webhook

WORD = "hunter2-5ecret"
JSON = {"content-type": "application/json"}


def _telling(**more: Any) -> dict[str, Any]:
    """A container that says the word wherever there is room for one."""
    return container(
        image=f"registry.example.com/{WORD}:latest",
        command=["sh", "-c", f"login --password {WORD}"],
        args=[f"--token={WORD}"],
        env=[{"name": "PASSWORD", "value": WORD}],
        workingDir=f"/home/{WORD}",
        **more,
    )


def _marked(metadata: dict[str, Any]) -> dict[str, Any]:
    notes = {**metadata.get("annotations", {}), "example.com/token": WORD}
    return {**metadata, "name": f"work-{WORD}", "annotations": notes, "labels": {"key": WORD}}


REWRITTEN = review(pod(_telling(), metadata=_marked({})))
REFUSED = review(pod(_telling(), metadata=_marked(annotated(profile=WORD))))
BODIES = {
    "rewritten": REWRITTEN,
    "refused": REFUSED,
    "cut off": REWRITTEN[:-20],
    "of another shape": review(pod(_telling(resources=[WORD]), metadata=_marked({}))),
    "of a quantity that is none": review(pod(_telling(resources={"limits": {"nvidia.com/gpu": WORD}}))),
    "no review": json.dumps({"apiVersion": WORD, "kind": WORD, "request": {"uid": WORD}}).encode(),
}


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Everything that was logged, as both formats write it."""
    return "\n".join(form.format(record) for form in (_Json(), _Text()) for record in caplog.records)


@pytest.mark.parametrize("name", BODIES)
async def test_a_review_leaves_nothing_of_its_object_in_the_log(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    application, _ = await webhook()
    status, _, _ = await ask(application, "/mutate", method="POST", body=BODIES[name], headers=JSON)
    assert status in {200, 400}
    assert WORD not in logged(caplog)


async def test_a_review_that_fails_leaves_where_and_what_but_nothing_of_its_object(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(body: bytes) -> Answer:
        raise ValueError(f"unexpected {body!r}") from KeyError(body)

    caplog.set_level(logging.DEBUG)
    application = Application(
        {"/mutate": fails},
        operations(Readiness(), Metrics()),
        blocked=lambda: None,
        metrics=Metrics(),
    )
    status, _, answered = await ask(application, "/mutate", method="POST", body=REWRITTEN, headers=JSON)
    assert status == 500
    assert WORD.encode() not in answered
    text = logged(caplog)
    assert "a review failed" in text
    assert "ValueError" in text
    assert "in fails" in text, "the traceback is there"
    assert WORD not in text


async def test_the_answers_are_what_the_names_of_these_reviews_say() -> None:
    application, metrics = await webhook()
    for body in (REWRITTEN, REFUSED):
        await ask(application, "/mutate", method="POST", body=body, headers=JSON)
    outcomes = {
        sample.labels["outcome"]
        for family in metrics.registry.collect()
        if family.name == "slicewise_admission_reviews"
        for sample in family.samples
    }
    assert outcomes == {"rewritten", "refused"}


async def test_no_metric_holds_anything_of_an_object() -> None:
    application, _ = await webhook()
    for body in BODIES.values():
        await ask(application, "/mutate", method="POST", body=body, headers=JSON)
    _, _, text = await ask(application, "/metrics")
    assert b"slicewise_admission_reviews_total" in text
    assert WORD.encode() not in text
