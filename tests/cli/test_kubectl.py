"""A kubeconfig is read as kubectl reads it: a real kubectl and the command are asked who they are, and where.

The server that both ask answers a SelfSubjectReview as an API server does: out of certificate, token and impersonation.
To a SelfSubjectAccessReview, which names a namespace, it says no, and gives both as its reason: kubectl prints that.
"""

import base64
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest
import yaml

from slicewise.api.errors import BadInput
from slicewise.cli.errors import Failed
from slicewise.cli.inputs import live_arguments, namespace
from slicewise.cli.live import ask
from slicewise.kube.client import Client
from slicewise.kube.snapshot import Object
from tests.kube.certificates import Authority
from tests.manifests.tools import tool

REVIEWS: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
SUBJECT: Final = re.compile(r"'commonName', '([^']+)'")
PLUGIN: Final = """#!{python}
import json, os
spec = json.loads(os.environ["KUBERNETES_EXEC_INFO"])["spec"]
assert os.environ["GREETING"] == "hello"
with open({log!r}, "a") as file:
    print(spec.get("cluster", {{}}).get("server", "not told"), file=file)
status = {{"token": open({token!r}).read()}}
print(json.dumps({{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}}))
"""


@dataclass(frozen=True)
class Row:
    """One way to say which cluster, as whom, and in which namespace."""

    flags: tuple[str, ...] = ()
    variable: str | None = "main"
    """KUBECONFIG: names of files, with colons; None where it is not set at all."""
    user: str = "ann"
    space: str = "team-a"
    proxied: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


PROGRAM: Final = cache(partial(tool, "kubectl"))
# What the files hold is below, in `folder`.
ROWS: Final = {
    "the current context": Row(),
    "--context": Row(("--context", "blue"), user="bob", space="default"),
    "--user": Row(("--user", "bob"), user="bob"),
    "--cluster": Row(("--context", "lost", "--cluster", "here"), user="bob", space="team-b"),
    "all three": Row(("--context", "lost", "--cluster", "here", "--user", "ann"), space="team-b"),
    "-n": Row(("-n", "elsewhere"), space="elsewhere"),
    "empty flags are none": Row(("--context", "", "--user", "", "--cluster", "", "-n", "")),
    "--kubeconfig": Row(("--kubeconfig", "other"), user="bob", space="team-o"),
    "as, groups, uid and extra of the file": Row(("--context", "as"), user="carol", space="default"),
    "--as": Row(("--user", "root", "--as", "eve"), user="eve"),
    "--as with groups and uid": Row(
        ("--user", "root", "--as", "eve", "--as-group", "a", "--as-group", "b", "--as-uid", "7"), user="eve"
    ),
    "--as instead of the file's": Row(("--context", "as", "--as", "eve"), user="eve", space="default"),
    "--as-group instead of the file's": Row(
        ("--context", "as", "--as-group", "x"), user="carol", space="default"
    ),
    "the first of two files": Row(variable="main:other"),
    "the other first": Row(variable="other:main", user="bob", space="team-o"),
    "a context of the second file": Row(
        ("--context", "other"), variable="main:other", user="bob", space="team-o"
    ),
    "a file that is not there": Row(variable="nowhere:main"),
    "an empty name among the files": Row(variable=":main:"),
    "an empty KUBECONFIG": Row(variable="", user="bob", space="team-h"),
    "no KUBECONFIG": Row(variable=None, user="bob", space="team-h"),
    "a token in a file": Row(("--user", "file")),
    "a certificate by a relative path": Row(("--user", "root"), user="root"),
    "an authority by a relative path": Row(("--cluster", "relative")),
    "no authority": Row(("--cluster", "insecure")),
    "an exec plugin": Row(("--user", "plugin")),
    "an exec plugin by a relative path, told of the cluster": Row(("--user", "relative-plugin")),
    "proxy-url": Row(("--cluster", "proxied"), proxied=True),
    "HTTPS_PROXY": Row(("--cluster", "away"), proxied=True, environment={"HTTPS_PROXY": "{proxy}"}),
    "NO_PROXY": Row(environment={"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.1"}),
    "an empty HTTPS_PROXY": Row(environment={"HTTPS_PROXY": "", "https_proxy": ""}),
}
# What both refuse.
REFUSED: Final = {
    "a context that is not there": Row(("--context", "green")),
    "a cluster that is not there": Row(("--cluster", "green")),
    "a user that is not there": Row(("--user", "green")),
    "a group without a user": Row(("--as-group", "a")),
    "no file at all": Row(("--kubeconfig", "nowhere")),
    "a server that nobody is": Row(("--context", "lost")),
}


class Proxy:
    """An HTTP proxy that leads every CONNECT to one address, and counts them."""

    def __init__(self, to: tuple[str, int]) -> None:
        self.connects = 0
        self._to = to
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                threading.Thread(target=self._lead, args=(self._server.accept()[0],), daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            assert head.startswith(b"CONNECT ")
            self.connects += 1
            with socket.create_connection(self._to) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


class _Answer(BaseHTTPRequestHandler):
    """Says who asks."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes, of which the second would wait 40 ms

    def do_POST(self) -> None:
        """Answers a SelfSubjectReview, and a SelfSubjectAccessReview with that and the namespace that it is about."""
        # kubectl writes protobuf, in which text is as it is.
        asked = self.rfile.read(int(self.headers["content-length"]))
        group, kind = "authentication", "SelfSubjectReview"
        user = {key: value for key, value in self._user().items() if value}
        status: Object = {"userInfo": user}
        if self.path.partition("?")[0] != REVIEWS:
            group, kind = "authorization", "SelfSubjectAccessReview"
            space = next(row.space for row in ROWS.values() if row.space.encode() in asked)
            status = {"allowed": False, "reason": json.dumps([user, space])}
        self._send(201, {"apiVersion": f"{group}.k8s.io/v1", "kind": kind, "spec": {}, "status": status})

    def do_GET(self) -> None:
        """Has nothing to discover."""
        self._send(
            404,
            {"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404},
        )

    def _send(self, code: int, document: Object) -> None:
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _user(self) -> Object:
        extra = {
            unquote(name.lower().removeprefix("impersonate-extra-")): self.headers.get_all(name)
            for name in self.headers
            if name.lower().startswith("impersonate-extra-")
        }
        if name := self.headers["impersonate-user"]:
            groups = self.headers.get_all("impersonate-group") or []
            return {
                "username": name,
                "uid": self.headers["impersonate-uid"] or "",
                "groups": groups,
                "extra": extra,
            }
        certificate = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        if certificate:
            return {"username": SUBJECT.findall(str(certificate["subject"]))[0]}
        return {"username": self.headers["authorization"].removeprefix("Bearer ")}

    def log_message(self, *_: object) -> None:
        """Is silent."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[tuple[str, int]]:
    context = authority.context(authority.pair("server"))
    context.verify_mode = ssl.CERT_OPTIONAL
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as found:
        found.daemon_threads = True
        found.socket = context.wrap_socket(found.socket, server_side=True, do_handshake_on_connect=False)
        serving = threading.Thread(target=found.serve_forever)
        serving.start()
        yield "127.0.0.1", found.server_address[1]
        found.shutdown()
        serving.join()


@pytest.fixture(scope="module")
def proxy(server: tuple[str, int]) -> Iterator[Proxy]:
    found = Proxy(server)
    yield found
    found.close()


@pytest.fixture(scope="module")
def folder(
    server: tuple[str, int], authority: Authority, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The files that the rows name; `home` is the home of whoever asks."""
    found = tmp_path_factory.mktemp("kubeconfig")
    PROGRAM()  # found while the home is still ours
    (found / "token").write_text("ann")
    root = authority.pair("root")
    for name, file in (("ca.crt", authority.file), ("root.crt", root.cert), ("root.key", root.key)):
        (found / name).write_bytes(file.read_bytes())

    def data(name: str) -> str:
        return base64.b64encode((found / name).read_bytes()).decode()

    here: Object = {
        "server": f"https://{server[0]}:{server[1]}",
        "certificate-authority-data": data("ca.crt"),
    }
    pair = {"client-certificate-data": data("root.crt"), "client-key-data": data("root.key")}
    words = {"python": sys.executable, "log": str(found / "plugin.log"), "token": str(found / "token")}
    plugin = found / "plugin"
    plugin.write_text(PLUGIN.format(**words))
    plugin.chmod(0o700)
    away = {"server": "https://api.invalid:6443", "tls-server-name": "server"}
    trusted = {"certificate-authority-data": here["certificate-authority-data"]}
    run: Object = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "interactiveMode": "Never",
        "env": [{"name": "GREETING", "value": "hello"}],
    }
    impersonating: Object = {**pair, "as": "carol", "as-uid": "9", "as-groups": ["dev", "ops"]}
    impersonating["as-user-extra"] = {"example.org/Reason": ["a", "b"]}
    main = config(
        "red",
        {
            "here": here,
            "lost": {"server": "https://127.0.0.1:1"},
            "relative": {"server": here["server"], "certificate-authority": "ca.crt"},
            "insecure": {"server": here["server"], "insecure-skip-tls-verify": True},
            "proxied": {**away, **trusted, "proxy-url": proxy.url},
            "away": {**away, **trusted},
        },
        {
            "ann": {"token": "ann"},
            "bob": {"token": "bob"},
            "root": {"client-certificate": "root.crt", "client-key": "root.key"},
            "as": impersonating,
            "file": {"tokenFile": str(found / "token")},
            "plugin": {"exec": {**run, "command": str(plugin)}},
            "relative-plugin": {"exec": {**run, "command": "./plugin", "provideClusterInfo": True}},
        },
        {
            "red": {"cluster": "here", "user": "ann", "namespace": "team-a"},
            "blue": {"cluster": "here", "user": "bob"},
            "as": {"cluster": "here", "user": "as"},
            "lost": {"cluster": "lost", "user": "bob", "namespace": "team-b"},
        },
    )
    (found / "main").write_text(yaml.safe_dump(main))
    for name, space in (("other", "team-o"), ("home/.kube/config", "team-h")):
        one = {"other": {"cluster": "other", "user": "other", "namespace": space}}
        file = found / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(config("other", {"other": here}, {"other": {"token": "bob"}}, one)))
    return found


def config(current: str, clusters: Object, users: Object, contexts: Object) -> Object:
    """A kubeconfig with these."""

    def named(kind: str, entries: Object) -> list[Object]:
        return [{"name": name, kind: value} for name, value in entries.items()]

    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": named("cluster", clusters),
        "users": named("user", users),
        "contexts": named("context", contexts),
    }


@contextmanager
def surroundings(row: Row, folder: Path, proxy: Proxy) -> Iterator[None]:
    """The environment of a row, and nothing else that a kubeconfig is found by."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder / "home"))
        for name in (
            "KUBECONFIG",
            "HTTPS_PROXY",
            "https_proxy",
            "HTTP_PROXY",
            "http_proxy",
            "NO_PROXY",
            "no_proxy",
        ):
            patch.delenv(name, raising=False)
        for name, value in row.environment.items():
            patch.setenv(name, value.format(proxy=proxy.url))
        if row.variable is not None:
            patch.setenv("KUBECONFIG", row.variable)
        yield


def kubectl(*words: str) -> subprocess.CompletedProcess[str]:
    """What kubectl says in these surroundings."""
    return subprocess.run([PROGRAM(), *words], capture_output=True, text=True, check=False, timeout=60)


def slicewise(flags: tuple[str, ...]) -> tuple[Object, str]:
    """As whom the command asks, and in which namespace."""
    parser = ArgumentParser()
    live_arguments(parser)
    parser.add_argument("-n", "--namespace")
    parser.set_defaults(snapshot=None)
    options = parser.parse_args(flags)

    async def review(client: Client) -> Object:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        found: Object = json.loads((await client.create(REVIEWS, body)).body)
        return found

    user: Object = ask(options, review)["status"]["userInfo"]
    return user, namespace(options)


@pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))
def test_who_and_where_are_what_kubectl_says(row: Row, folder: Path, proxy: Proxy) -> None:
    with surroundings(row, folder, proxy):
        before = proxy.connects
        said = kubectl("auth", "can-i", "get", "pods", *row.flags)
        between = proxy.connects
        user, space = slicewise(row.flags)
        assert (between > before, proxy.connects > between) == (row.proxied, row.proxied)
    assert said.stdout == f"no - {json.dumps([user, space])}\n", said.stderr
    assert (user["username"], space) == (row.user, row.space)


@pytest.mark.parametrize("row", REFUSED.values(), ids=list(REFUSED))
def test_what_kubectl_refuses_is_a_sentence(row: Row, folder: Path, proxy: Proxy) -> None:
    with surroundings(row, folder, proxy):
        assert kubectl("auth", "whoami", *row.flags).returncode != 0
        with pytest.raises((Failed, BadInput)) as refused:
            slicewise(row.flags)
    assert "\n" not in str(refused.value)


def test_a_plugin_is_told_of_the_cluster_where_the_file_asks_for_it(folder: Path, proxy: Proxy) -> None:
    log = folder / "plugin.log"
    for user, told in (("plugin", "not told"), ("relative-plugin", "https://")):
        log.unlink(missing_ok=True)
        with surroundings(Row(), folder, proxy):
            slicewise(("--user", user))
        assert log.read_text().startswith(told), os.fspath(log)
