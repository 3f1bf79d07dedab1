"""AdmissionReviews as bytes: what is taken from the beginning of one, and what an answer may hold."""

import json

import pytest

from admission.mutation.outcome import Verdict
from admission.wire import Kind, Request, Response, encode, request_of_head

HEAD = (
    '{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"group":"apps",'
    '"version":"v1","kind":"Deployment"},"name":%s,"namespace":"team","operation":"UPDATE","userInfo":{"username"'
)


def test_the_beginning_of_a_review_names_its_object() -> None:
    found = request_of_head((HEAD % '"work"').encode())
    assert found == Request("u", Kind("apps", "Deployment"), "work", "team", "UPDATE")
    assert str(found) == "Deployment team/work"


def test_nobody_ends_the_names_by_what_he_writes_into_them() -> None:
    name = json.dumps('x","userInfo":{},"uid":"other')
    found = request_of_head((HEAD % name).encode())
    assert found is not None
    assert found.uid == "u"


@pytest.mark.parametrize(
    "head", [b"", b"{}", b"nonsense", b'{"request":{"name":"a","userInfo":', b"\xff" * 100]
)
def test_what_no_api_server_wrote_has_no_request(head: bytes) -> None:
    assert request_of_head(head) is None


def test_a_sentence_is_cut_in_its_middle_and_keeps_the_fix() -> None:
    sentence = "Pod team/work: " + "x" * 100_000 + "; write another"
    body = encode("u", Response(Verdict.REFUSED, sentence))
    message = json.loads(body)["response"]["status"]["message"]
    assert len(message) < 2_100
    assert message.startswith("Pod team/work: ")
    assert message.endswith("; write another")
