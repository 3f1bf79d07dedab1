"""Finding the way to a cluster: where credentials come from, and when they are looked at again."""

import asyncio
import base64
import pwd
import ssl
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes.client.configuration import Configuration
from kubernetes.config import incluster_config

from slicewise.kube import config
from slicewise.kube.client import Client
from slicewise.kube.config import Credentials, Kubeconfig, context_namespace, find_credentials
from slicewise.kube.errors import ConfigError, NotFoundError, UnauthorizedError, UnreachableError
from tests.kube.apiserver import ApiServer
from tests.kube.certificates import Authority
from tests.kube.clocks import Clock
from tests.kube.conftest import NODES

PLUGIN = """
import json, pathlib, sys
calls = pathlib.Path(sys.argv[1])
calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
status = {"token": "from-plugin", "expirationTimestamp": sys.argv[2]}
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}))
"""


def kubeconfig(directory: Path, user: dict[str, Any], cluster: dict[str, Any], name: str = "config") -> Path:
    file = directory / name
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return file


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_token_in_the_file_is_sent(server: ApiServer, tmp_path: Path) -> None:
    server.token = "secret"
    file = kubeconfig(tmp_path, {"token": "secret"}, {"server": server.url})
    async with Client.from_kubeconfig(file, component="tests") as client:
        await client.get(NODES)
    assert server.seen[-1].headers["user-agent"].endswith("(tests)")


async def test_the_environment_names_the_default_file(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = kubeconfig(tmp_path, {}, {"server": server.url})
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{file}")
    async with Client.from_kubeconfig() as client:
        await client.get(NODES)


async def test_a_token_file_is_read_again_after_a_401(server: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("old\n")
    server.token = "old"
    file = kubeconfig(tmp_path, {"tokenFile": "token"}, {"server": server.url})
    async with Client.from_kubeconfig(file) as client:
        await client.get(NODES)
        (tmp_path / "token").write_text("new\n")
        server.token = "new"
        await client.create(NODES, {"metadata": {"name": "n1"}})
        assert server.count("POST") == 2
        server.token = "newer"
        with pytest.raises(UnauthorizedError):
            async with client.lines(NODES, query={"watch": "true"}):
                pass
        (tmp_path / "token").write_text("newer")
        with pytest.raises(UnauthorizedError):
            async with client.lines(NODES, query={"watch": "true"}):
                pass
        async with client.lines(NODES, query={"watch": "true"}):
            pass


async def test_a_token_file_is_read_again_each_minute(server: ApiServer, tmp_path: Path) -> None:
    def now() -> float:
        asyncio.get_running_loop()  # a clock may be the loop's, so a thread may not ask for the time
        return clock.at

    clock = Clock()
    (tmp_path / "token").write_text("old")
    file = kubeconfig(tmp_path, {"tokenFile": "token"}, {"server": server.url})
    credentials = find_credentials(file, replace(clock.timing, now=now))
    (tmp_path / "token").write_text("new")
    clock.at += 59
    assert (await credentials.access()).authorization == "Bearer old"
    clock.at += 2
    assert (await credentials.access()).authorization == "Bearer new"


async def test_a_look_that_fails_keeps_what_was_there(server: ApiServer, tmp_path: Path) -> None:
    clock = Clock()
    file = kubeconfig(tmp_path, {"token": "secret"}, {"server": server.url})
    credentials = find_credentials(file, clock.timing)
    file.write_text(": not yaml [")
    clock.at += 61
    assert (await credentials.access()).authorization == "Bearer secret"


@pytest.mark.parametrize("error", [KeyError("config"), RuntimeError("the issuer is away"), OSError("none")])
async def test_an_odd_failure_of_the_loader_keeps_what_was_there_too(error: Exception) -> None:
    def hook(_: Configuration) -> None:
        if clock.at > 1060:
            raise error

    def load() -> Configuration:
        configuration = Configuration(host="http://x", api_key={"BearerToken": "Bearer secret"})
        vars(configuration)["refresh_api_key_hook"] = hook
        return configuration

    clock = Clock()
    credentials = Credentials(load, timing=clock.timing)
    clock.at += 61
    access = await credentials.access()
    assert access.authorization == "Bearer secret"
    assert await credentials.access() is access, "and it is looked at again a minute later"


@pytest.mark.parametrize(
    ("expires", "runs_each_minute"), [("2999-01-01T00:00:00Z", False), ("2020-01-01T00:00:00Z", True)]
)
async def test_a_plugin_runs_when_its_answer_expired_or_was_refused(
    server: ApiServer, tmp_path: Path, expires: str, *, runs_each_minute: bool
) -> None:
    clock = Clock()
    calls = tmp_path / "calls"
    (tmp_path / "plugin.py").write_text(PLUGIN)
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(tmp_path / "plugin.py"), str(calls), expires],
        "interactiveMode": "Never",
    }
    credentials = find_credentials(
        kubeconfig(tmp_path, {"exec": plugin}, {"server": server.url}), clock.timing
    )
    access = await credentials.access()
    assert access.authorization == "Bearer from-plugin"
    before = len(calls.read_text())
    clock.at += 61
    access = await credentials.access()
    assert (len(calls.read_text()) > before) == runs_each_minute
    before = len(calls.read_text())
    await credentials.access(rejected=access)
    assert len(calls.read_text()) > before


async def test_the_service_account_of_a_pod(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("pod-token\n")
    for module in (incluster_config, config):
        monkeypatch.setattr(module, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority.file))
    tls = authority.context(authority.pair("server"))
    async with ApiServer({NODES: "Node"}).running(tls) as server:
        server.token = "pod-token"
        host, port = server.url.removeprefix("https://").split(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        async with Client.from_kubeconfig() as client:
            server.token = None  # the scheme comes in lower case, which this server does not understand
            await client.get(NODES)
    assert server.seen[-1].headers["authorization"] == "bearer pod-token"


def test_a_user_without_a_home_has_no_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the image's user, who is a number and stands in no file."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert not Kubeconfig().exists


async def test_client_certificates_and_server_names(authority: Authority, tmp_path: Path) -> None:
    mine = authority.pair("me")
    tls = authority.context(authority.pair("other.name"), ask_for_client=True)
    ca = base64.b64encode(authority.file.read_bytes()).decode()
    async with ApiServer({NODES: "Node"}).running(tls) as server:
        cluster = {"server": server.url, "certificate-authority-data": ca, "tls-server-name": "other.name"}
        user = {"client-certificate": str(mine.cert), "client-key": str(mine.key)}
        async with Client.from_kubeconfig(kubeconfig(tmp_path, user, cluster)) as client:
            await client.get(NODES)
            access = await client._credentials.access()
            assert access.tls is not None
            assert not access.tls.verify_flags & ssl.VERIFY_X509_STRICT


@pytest.mark.parametrize(("cluster", "works"), [({}, False), ({"insecure-skip-tls-verify": True}, True)])
async def test_an_unknown_authority_is_refused_unless_told_otherwise(
    authority: Authority, tmp_path: Path, cluster: dict[str, Any], *, works: bool
) -> None:
    tls = authority.context(authority.pair("server"))
    async with ApiServer({NODES: "Node"}).running(tls) as server:
        file = kubeconfig(tmp_path, {"token": "t"}, {"server": server.url, **cluster})
        async with Client.from_kubeconfig(file) as client:
            if works:
                await client.get(NODES)
                return
            with pytest.raises(UnreachableError, match="certificate") as caught:
                await client.request("GET", NODES, attempts=1)
            assert not caught.value.sent


async def test_a_certificate_that_was_replaced_is_taken_up(authority: Authority, tmp_path: Path) -> None:
    clock = Clock()
    mine = authority.pair("me")
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority": str(authority.file)}
    user = {"client-certificate": str(mine.cert), "client-key": str(mine.key)}
    credentials = find_credentials(kubeconfig(tmp_path, user, cluster), clock.timing)
    first = (await credentials.access()).tls
    clock.at += 61
    assert (await credentials.access()).tls is first
    mine.cert.write_bytes(mine.cert.read_bytes() + b"\n")
    clock.at += 61
    assert (await credentials.access()).tls is not first


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no kubeconfig at"),
        ("", "empty"),
        ("{}", "current-context"),
        ("[1, 2]", "config: "),
        ("current-context: gone\ncontexts: []\nclusters: []\nusers: []\n", "gone"),
    ],
)
def test_a_config_that_cannot_be_used_is_one_sentence(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "config"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        find_credentials(file)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder, and no kubeconfig; name one with --kubeconfig"):
        find_credentials(tmp_path)


def test_no_config_anywhere_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="no kubeconfig"):
        find_credentials()


@pytest.mark.parametrize(
    ("cluster", "says"),
    [
        ({"server": "https://x", "certificate-authority": "/nowhere/ca.crt"}, "nowhere"),
        ({"server": "https://x", "proxy-url": "socks5://x:1"}, "socks5"),
    ],
)
def test_a_cluster_entry_that_cannot_be_used_is_said(
    tmp_path: Path, cluster: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        find_credentials(kubeconfig(tmp_path, {}, cluster))


async def test_a_proxy_is_used_for_what_it_is_meant_for(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = {"server": "http://cluster.invalid", "proxy-url": server.url}
    async with Client.from_kubeconfig(kubeconfig(tmp_path, {}, cluster)) as client:
        with pytest.raises(NotFoundError):
            await client.get("/api/v1/nothing")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8,cluster.invalid")
    credentials = find_credentials(kubeconfig(tmp_path, {}, cluster))
    assert (await credentials.access()).proxy is None


CONTEXTS: dict[str, Any] = {
    "current-context": "red",
    "contexts": [
        {"name": "red", "context": {"cluster": "red", "user": "ann", "namespace": "team-a"}},
        {"name": "blue", "context": {"cluster": "blue", "user": "bob"}},
    ],
    "users": [
        {"name": "ann", "user": {"token": "ann"}},
        {"name": "bob", "user": {"token": "bob", "as": "carol", "as-groups": ["dev"], "as-uid": "7"}},
    ],
}


@pytest.fixture
def contexts(tmp_path: Path) -> Path:
    return contexts_of(tmp_path)


def contexts_of(folder: Path, **servers: str) -> Path:
    """Writes the contexts into a file; a cluster's server is called what the cluster is, but for those given."""
    clusters = [
        {"name": name, "cluster": {"server": servers.get(name, f"http://{name}")}} for name in ("red", "blue")
    ]
    file = folder / "contexts"
    file.write_text(yaml.safe_dump(CONTEXTS | {"clusters": clusters}))
    return file


# What kubectl does with the same flags (client-go, tools/clientcmd/overrides.go).
@pytest.mark.parametrize(
    ("flags", "host", "token", "namespace"),
    [
        ({}, "red", "ann", "team-a"),
        ({"context": "blue"}, "blue", "bob", "default"),
        ({"cluster": "blue"}, "blue", "ann", "team-a"),
        ({"user": "bob"}, "red", "bob", "team-a"),
        ({"context": "blue", "cluster": "red", "user": "ann"}, "red", "ann", "default"),
    ],
)
async def test_flags_choose_as_they_do_for_kubectl(
    contexts: Path, flags: dict[str, Any], host: str, token: str, namespace: str
) -> None:
    chosen = Kubeconfig(contexts, **flags)
    access = await find_credentials(chosen).access()
    assert (access.host, access.authorization) == (f"http://{host}", f"Bearer {token}")
    assert context_namespace(chosen) == namespace


@pytest.mark.parametrize(
    ("flags", "headers"),
    [
        ({}, []),
        ({"as_user": "eve"}, [("Impersonate-User", "eve")]),
        (
            {"as_user": "eve", "as_groups": ("a", "b"), "as_uid": "9"},
            [
                ("Impersonate-User", "eve"),
                ("Impersonate-Uid", "9"),
                ("Impersonate-Group", "a"),
                ("Impersonate-Group", "b"),
            ],
        ),
        (
            {"context": "blue"},
            [("Impersonate-User", "carol"), ("Impersonate-Uid", "7"), ("Impersonate-Group", "dev")],
        ),
        (
            {"context": "blue", "as_user": "eve", "as_groups": ("ops",)},
            [("Impersonate-User", "eve"), ("Impersonate-Uid", "7"), ("Impersonate-Group", "ops")],
        ),
    ],
)
async def test_a_request_is_made_as_whom_flags_or_the_file_say(
    server: ApiServer, tmp_path: Path, flags: dict[str, Any], headers: list[tuple[str, str]]
) -> None:
    contexts = contexts_of(tmp_path, red=server.url, blue=server.url)
    async with Client.from_kubeconfig(Kubeconfig(contexts, **flags)) as client:
        await client.get(NODES)
        assert list((await client._credentials.access()).impersonation) == headers
    names = {name.lower(): value for name, value in headers}
    seen = server.seen[-1].headers
    assert {name: seen[name] for name in seen if name.startswith("impersonate-")} == names


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"context": "rde"}, "there is no context rde in .*; did you mean red"),
        ({"cluster": "rde"}, "there is no cluster rde in .*; did you mean red"),
        ({"user": "bbo"}, "there is no user bbo in .*; did you mean bob"),
        ({"user": "green"}, "there is no user green in .*; see kubectl config view"),
        ({"as_groups": ("dev",)}, "add --as USER"),
    ],
)
def test_what_flags_name_must_be_there(contexts: Path, flags: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        find_credentials(Kubeconfig(contexts, **flags))


async def test_the_first_file_that_names_a_context_decides(
    contexts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.write_text("current-context: blue\n")
    monkeypatch.setenv("KUBECONFIG", f"{contexts}:{other}")
    assert (await find_credentials().access()).host == "http://red"
    monkeypatch.setenv("KUBECONFIG", f"{other}:{contexts}")
    assert (await find_credentials().access()).host == "http://blue"


DAMAGED = {
    "no YAML": ("clusters: [\n", "line 2: did not find expected node content"),
    "a list": ("[]\n", "Expected `object`, got `array`"),
    "a number where a list belongs": ("clusters: 5\n", "got `int` - at `$.clusters`"),
    "a number where a context belongs": ("contexts: [{name: x, context: 5}]\n", "at `$.contexts[0].context`"),
    "a number for a token": ("users: [{name: u, user: {token: 5}}]\n", "at `$.users[0].user.token`"),
    "a key twice": ("kind: Config\nkind: Config\n", "line 2: the key kind stands twice"),
    "an alias of itself": ("a: &x [*x]\n", "holds itself"),
    "a certificate that is not base64": (
        "clusters: [{name: c, cluster: {certificate-authority-data: '!'}}]\n",
        "cluster c: certificate-authority-data is not base64",
    ),
    "bytes that are no text": ("\udcff", "it is not UTF-8"),
}


@pytest.mark.parametrize(("text", "words"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as raised:
        find_credentials(file)
    assert str(raised.value).startswith(f"{file}: ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert context_namespace(Kubeconfig(file)) == "default"


@pytest.mark.parametrize(
    "server", ["2026-13-45", "localhost:8080", "", "ftp://red", "https://", "http://[red"]
)
def test_a_server_that_is_no_address_is_one_sentence(tmp_path: Path, server: str) -> None:
    file = kubeconfig(tmp_path, {"token": "t"}, {"server": server})
    with pytest.raises(
        ConfigError, match=rf"^{file}: .*; (write it as https://HOST:PORT|compare with kubectl)"
    ):
        find_credentials(file)


@pytest.mark.parametrize("date", ["2026-13-45", "2026-01-01", "2026-01-01T99:00:00Z"])
async def test_what_looks_like_a_date_is_the_text_that_kubectl_reads(tmp_path: Path, date: str) -> None:
    file = kubeconfig(tmp_path, {"token": "t"}, {"server": "http://red"})
    file.write_text(
        file.read_text().replace("token: t", f"token: {date}") + f"\npreferences: {{since: {date}}}\n"
    )
    assert (await find_credentials(file).access()).authorization == f"Bearer {date}"


def test_an_expiry_that_is_no_date_is_one_sentence(tmp_path: Path) -> None:
    provider = {"name": "gcp", "config": {"access-token": "t", "expiry": "2026-13-45"}}
    file = kubeconfig(tmp_path, {"auth-provider": provider}, {"server": "http://red"})
    with pytest.raises(
        ConfigError, match=r"Invalid RFC3339 datetime.*; compare with kubectl config view --raw$"
    ):
        find_credentials(file)


def test_of_several_files_the_damaged_one_is_named(
    contexts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.write_text("clusters: 5\n")
    monkeypatch.setenv("KUBECONFIG", f"{contexts}:{other}")
    with pytest.raises(ConfigError, match=rf"{other}: Expected `array \| null`, got `int`"):
        find_credentials()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), cut=st.integers(0, 30), put=st.text(max_size=8))
def test_any_damage_is_a_sentence_or_a_kubeconfig(tmp_path: Path, place: float, cut: int, put: str) -> None:
    text = kubeconfig(tmp_path, {"token": "t"}, {"server": "http://localhost:1"}).read_text()
    at = int(place * len(text))
    file = tmp_path / "damaged"
    file.write_bytes((text[:at] + put + text[at + cut :]).encode(errors="surrogatepass"))
    lines: list[str] = []
    try:
        find_credentials(file)
    except ConfigError as error:
        lines = str(error).splitlines()
    assert len(lines) <= 1
