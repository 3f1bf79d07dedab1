"""AdmissionReviews as bytes: what is taken from the beginning of one, and what an answer may hold."""

import json

import pytest

from admission.mutation.outcome import Verdict
from admission.wire import BadReview, Kind, Request, Response, answer, encode, request_of_head

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


LONG = '"long":"' + "x" * 5_000 + '"'
CREATED = (
    '{"uid":"u","namespace":"team","userInfo":{%s},"object":%s,"oldObject":null,"dryRun":false,"options":%s}'
)


def _created(user: str = '"username":"u"', object_: str = "{LONG}", options: str = "{}") -> str:
    return (CREATED % (user, object_, options)).replace("LONG", LONG)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(_created(), id="as the API server writes it"),
        pytest.param(
            _created(object_='{"a":{"b":1,"object":2,"oldObject":null,"c":3},LONG}'), id="its own names"
        ),
        pytest.param(_created(object_=r'{"a":"\",\"oldObject\":null","b":"\\",LONG}'), id="in words"),
        pytest.param(_created(object_="[" + "0," * 3_000 + "0]"), id="an object that is none"),
        pytest.param(_created(object_="0", options="{LONG}"), id="the number that stands in for objects"),
        pytest.param(_created(user='"extra":{"a":["b"],"object":["c"]}'), id="an object of the user"),
        pytest.param(_created(user='"extra":{"a":0,"object":0}'), id="a number of the user"),
        pytest.param(
            _created(user='"extra":{"a":0,"object":{LONG},"oldObject":null}', object_="{}").replace(
                ',"oldObject":null,"dryRun"', ',"dryRun"'
            ),
            id="an object and an old one of the user",
        ),
        pytest.param(_created(user="LONG", object_='{"a":1}'), id="a long user"),
        pytest.param(_created(options='{"a":1,"oldObject":null}'), id="an old object in the options"),
        pytest.param(_created().replace('"oldObject":null', '"oldObject":{"a":1}'), id="an update"),
        pytest.param(_created().replace(',"oldObject":null', ""), id="no old object"),
        pytest.param(
            '{"object":{LONG},"oldObject":null,"uid":"u"}'.replace("LONG", LONG), id="the object first"
        ),
    ],
)
def test_a_review_is_read_as_json_has_it(request_: str) -> None:
    seen: list[Request] = []

    def note(request: Request) -> Response:
        seen.append(request)
        return Response(Verdict.IGNORED)

    answer(f'{{"apiVersion":"admission.k8s.io/v1","request":{request_}}}'.encode(), note)
    (found,) = seen
    wanted = json.loads(request_)
    assert json.loads(bytes(found.object)) == wanted.get("object")
    assert json.loads(bytes(found.old_object)) == wanted.get("oldObject")
    assert (found.uid, found.namespace) == (wanted["uid"], wanted.get("namespace", ""))


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(_created()[:-1], id="no end"),
        pytest.param(_created() + "}", id="more than one end"),
        pytest.param(_created(options="{]"), id="no JSON behind the object"),
        pytest.param(_created(user='"username":1'), id="a user that is none"),
        pytest.param(_created().replace('"u"', "u", 1), id="no JSON before the object"),
    ],
)
def test_what_is_around_an_object_is_read_whoever_reads_the_object(request_: str) -> None:
    body = f'{{"apiVersion":"admission.k8s.io/v1","request":{request_}}}'.encode()
    with pytest.raises(BadReview):
        answer(body, lambda _: Response(Verdict.IGNORED))
