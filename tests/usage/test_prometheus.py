"""What is asked of Prometheus, and one sentence for each way in which asking fails.

The real Prometheus is in e2e/test_usage.py; the server here shows what a real one cannot be made to show.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from slicewise.usage import prometheus
from slicewise.usage.prometheus import PrometheusError, Source, collect

UNTIL = 1_795_000_800
Answer = Callable[[str, dict[str, str]], tuple[int, bytes]]


def success(data: object, **more: object) -> tuple[int, bytes]:
    return 200, json.dumps({"status": "success", "data": data, **more}).encode()


class Server(ThreadingHTTPServer):
    """Answers as it is told; keeps what it was asked."""

    answer: Answer
    asked: list[tuple[str, dict[str, str]]]
    tokens: set[str | None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        server.asked.append((parts.path, query))
        server.tokens.add(self.headers.get("Authorization"))
        status, body = server.answer(parts.path.removeprefix("/api/v1/"), query)
        with contextlib.suppress(ConnectionError):  # who asked did not wait
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(prometheus, "BACKOFF", 0.0)
    server = Server(("127.0.0.1", 0), Handler)
    server.answer, server.asked, server.tokens = measured(), [], set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def measured(
    *, exported: bool = False, active: bool = True, pod: str = "chat-1", container: str = "main"
) -> Answer:
    """One pod on one board, half in use, with 10 GiB."""
    prefix = "exported_" if exported else ""
    metric = {"UUID": "GPU-1", "Hostname": "n1", "modelName": "NVIDIA H100 80GB HBM3"}
    metric |= {f"{prefix}pod": pod, f"{prefix}namespace": "team-a", f"{prefix}container": container}
    if exported:
        metric |= {"pod": "dcgm-exporter-x", "namespace": "gpu-operator"}

    def answer(path: str, query: dict[str, str]) -> tuple[int, bytes]:
        if path.startswith("label/"):
            label = path.split("/")[1]
            return success(
                ["DCGM_FI_DEV_FB_USED"] if label == "__name__" else [metric[label]] if label in metric else []
            )
        asked = query["query"]
        if path == "query":
            if asked.startswith("count("):
                return success({"result": [{"metric": {}, "value": [UNTIL, "1"]}]})
            if "kube_pod_owner" in asked:
                owner = {"pod": pod, "owner_kind": "ReplicaSet", "owner_name": "chat-5d4f"}
                return success({"result": [{"metric": owner, "value": [UNTIL, "1"]}]})
            if "kube_replicaset_owner" in asked:
                owner = {"replicaset": "chat-5d4f", "owner_kind": "Deployment", "owner_name": "chat"}
                return success({"result": [{"metric": owner, "value": [UNTIL, "1"]}]})
            capacity = (
                [{"metric": metric, "value": [UNTIL, "81000"]}]
                if '"team-a"' in asked and "FREE" in asked
                else []
            )
            return success({"result": capacity})
        value = "10240" if "FB_USED" in asked else "0.5"
        there = '"team-a"' in asked and ("FB_USED" in asked or ("GPU_UTIL" in asked) != active)
        first, last, step = (int(query[name]) for name in ("start", "end", "step"))
        values = [[time, value] for time in range(first, last + 1, step)]
        return success({"result": [{"metric": metric, "values": values}] if there else []})

    return answer


def ask(server: Server, **more: Any) -> Any:
    return collect(Source(server.url, **more), 1.0, UNTIL)


@pytest.mark.parametrize("exported", [False, True])
def test_a_pod_its_board_and_its_owner_are_read(server: Server, *, exported: bool) -> None:
    server.answer = measured(exported=exported)
    found = ask(server)
    (only,) = found.series
    assert (only.key.namespace, only.key.pod, only.key.node, only.board_memory) == (
        "team-a",
        "chat-1",
        "n1",
        81000,
    )
    assert set(only.mean) == set(only.busy) == {0.5}
    assert set(only.memory) == {10240}
    assert found.owners == {("team-a", "chat-1"): ("Deployment", "chat")}
    assert found.notes == ()


def test_the_period_ends_when_it_is_told_to_and_is_covered_once(server: Server) -> None:
    found = ask(server)
    assert (found.start + (found.steps - 1) * found.step, found.steps * found.step) == (
        UNTIL // 300 * 300,
        86_400,
    )


def test_utilization_is_taken_where_there_is_no_other_and_said(server: Server) -> None:
    server.answer = measured(active=False)
    found = ask(server)
    assert set(found.series[0].mean) == {0.5}
    assert "which says only whether anything ran" in found.notes[0]


def test_the_exporters_own_pod_is_nobodys(server: Server) -> None:
    server.answer = measured(pod="dcgm-exporter-x", container="exporter")
    found = ask(server)
    assert found.series[0].key.pod == ""
    assert "no series names a pod" in found.notes[0]


def test_a_token_is_sent(server: Server, tmp_path: Any) -> None:
    (tmp_path / "token").write_text("secret\n")
    ask(server, token_file=str(tmp_path / "token"))
    assert server.tokens == {"Bearer secret"}


@pytest.mark.parametrize("text", [b"", b"a b", b"a\nb", b"\x00", b"\xff"])
def test_what_is_no_token_is_said(server: Server, tmp_path: Any, text: bytes) -> None:
    (tmp_path / "token").write_bytes(text)
    with pytest.raises(PrometheusError, match="holds no token, which is one word"):
        ask(server, token_file=str(tmp_path / "token"))


def test_use_above_one_counts_as_one_and_is_said(server: Server) -> None:
    good = server.answer
    server.answer = lambda path, query: (200, good(path, query)[1].replace(b'"0.5"', b'"7.5"'))
    found = ask(server)
    assert set(found.series[0].busy) == {1.0}
    assert "some use was above 1" in found.notes[0]


def test_one_failure_is_tried_again(server: Server) -> None:
    good = server.answer
    failed: list[str] = []

    def answer(path: str, query: dict[str, str]) -> tuple[int, bytes]:
        if path == "query_range" and not failed:
            failed.append(path)
            return 503, b"busy"
        return good(path, query)

    server.answer = answer
    assert len(ask(server).series) == 1
    assert failed == ["query_range"]


def test_it_says_how_far_it_is_and_asks_few_at_once(server: Server) -> None:
    good = server.answer
    names = [f"team-{number}" for number in range(12)]
    lock, under_way, most = threading.Lock(), 0, 0

    def answer(path: str, query: dict[str, str]) -> tuple[int, bytes]:
        nonlocal under_way, most
        if path == "label/namespace/values":
            return success(names)
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.005)  # so that those who ask at once meet
        with lock:
            under_way -= 1
        return good(path, query)

    server.answer = answer
    said: list[tuple[int, int]] = []
    collect(Source(server.url), 1.0, UNTIL, lambda done, of: said.append((done, of)))
    number = 1 + 2 * len(names)
    assert said == [(done + 1, number) for done in range(number)]
    assert 1 < most <= 4


def test_an_answer_that_may_not_be_whole_is_said(server: Server) -> None:
    good = server.answer

    def answer(path: str, query: dict[str, str]) -> tuple[int, bytes]:
        status, body = good(path, query)
        return status, json.dumps({**json.loads(body), "warnings": ["store gateway is gone"]}).encode()

    server.answer = answer
    assert ask(server).notes == ("Prometheus warns that its answer may not be whole: store gateway is gone",)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"", "does not let us in (HTTP 401); give a token with --prometheus-token-file"),
        (403, b"", "does not let us in (HTTP 403)"),
        (404, b"<html>", "is no answer of Prometheus; check the address"),
        (500, b"oops", "fails (HTTP 500); look at its log"),
        (200, b'{"status":"success","data":{"result":[{"met', "is no answer of Prometheus"),
        (
            422,
            b'{"status":"error","error":"too many samples"}',
            "refuses a query: too many samples; ask for less",
        ),
        (200, b'{"status":"success","data":[]}', "has none of DCGM_FI_DEV_FB_USED"),
    ],
)
def test_what_goes_wrong_is_one_sentence(server: Server, status: int, body: bytes, words: str) -> None:
    server.answer = lambda _path, _query: (status, body)
    with pytest.raises(PrometheusError) as raised:
        ask(server)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_that_is_slow_is_said(server: Server) -> None:
    waiting = threading.Event()
    server.answer = lambda _path, _query: (waiting.wait(5), success([]))[1]
    try:
        with pytest.raises(PrometheusError, match=r"did not answer within 0\.05 s; give it longer"):
            ask(server, timeout=0.05)
    finally:
        waiting.set()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Source("http://127.0.0.1:9"), "cannot be reached"),
        (Source("no address"), "is no address; write http://HOST:PORT"),
        (Source("ftp://127.0.0.1:9"), "is no address; write http://HOST:PORT"),
        (Source("http://127.0.0.1:9/?x=y"), "is no address; write http://HOST:PORT"),
        (Source("http://u:secret@127.0.0.1:9"), "http://127.0.0.1:9: cannot be reached"),
        (Source("http://127.0.0.1:9", token_file="/none/token"), "name a file with a token"),
        (Source("http://127.0.0.1:9", ca_file="/none/ca"), "name a file of PEM certificates"),
    ],
)
def test_what_cannot_be_asked_is_said(source: Source, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "BACKOFF", 0.0)
    with pytest.raises(PrometheusError) as raised:
        collect(source, 1.0, UNTIL)
    assert words in str(raised.value)
