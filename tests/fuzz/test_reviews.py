"""Damaged reviews, chosen and shrunk by hypothesis, the same each time; `python -m tests.fuzz` does a million."""

import json
from random import Random

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.admission.building import container, pod
from tests.fuzz import corpus, damage, edits
from tests.fuzz.__main__ import made
from tests.fuzz.properties import check

_MANY = settings(
    max_examples=10 * settings().max_examples,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
_MORE = settings(max_examples=3 * settings().max_examples)


@given(st.randoms(use_true_random=False))
@_MANY
def test_damaged_reviews(rng: Random) -> None:
    review = corpus.review(rng)
    damage.damaged(rng, review["request"]["object"], most=6)
    check(damage.encoded(rng, review), corpus.cluster())


@given(st.randoms(use_true_random=False))
@_MANY
def test_edited_updates(rng: Random) -> None:
    if (body := edits.update(rng)) is not None:
        check(body, corpus.cluster())


@given(st.randoms(use_true_random=False))
@_MANY
def test_damaged_envelopes(rng: Random) -> None:
    check(damage.encoded(rng, damage.damaged(rng, corpus.review(rng), most=6)), corpus.cluster())


@given(st.randoms(use_true_random=False))
@_MANY
def test_torn_reviews(rng: Random) -> None:
    check(damage.torn(rng, damage.encoded(rng, corpus.review(rng))), corpus.cluster())


@given(st.binary() | st.text().map(str.encode))
@example(b"")
@example(b"[" * 100_000)
@example(b'{"request":' * 100_000)
@example(b'{"apiVersion":"admission.k8s.io/v1","request":{"uid":"","kind":{},"operation":"CREATE"}}')
@_MORE
def test_anything_at_all(body: bytes) -> None:
    check(body, corpus.cluster())


@given(
    request=st.sampled_from(damage.QUANTITIES),
    limit=st.sampled_from(damage.QUANTITIES),
    steered=st.booleans(),
)
@_MORE
def test_quantities_in_every_spelling(request: object, limit: object, *, steered: bool) -> None:
    amounts = {"requests": {"nvidia.com/gpu": request}, "limits": {"nvidia.com/gpu": limit}}
    item = pod(container(gpus=None, resources=amounts))
    if steered:
        item["metadata"]["labels"] = {"slicewise.io/workload-class": "training"}
    check(json.dumps(corpus.enveloped(item, "team")).encode(), corpus.cluster())


def test_the_beginning_of_the_long_run() -> None:
    for number in range(1500):
        check(made(1, number), corpus.cluster())


def test_a_text_that_is_buried_and_damaged_again_ends_no_run() -> None:
    check(made(4102, 107_579), corpus.cluster())
