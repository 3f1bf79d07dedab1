"""A small Kubernetes client for tests: objects are plain dictionaries, and nothing is hidden.

Purpose: tests must see what the API server says, warnings and refusals included, which typed clients hide.
``request`` gives the answer whatever it is; the verbs (``get``, ``apply`` …) raise :class:`ApiError` with the server's
own message when it isn't a success. :func:`eventually` is the one way to wait.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote, urlencode

import urllib3
import yaml

from e2e.harness.documents import parse
from e2e.harness.errors import ClusterError

Object = dict[str, Any]
Objects = list[Object]
T = TypeVar("T")

FIELD_MANAGER = "e2e"
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class Response(NamedTuple):
    """What the API server answered."""

    status: int
    body: Any
    headers: urllib3.HTTPHeaderDict

    @property
    def warnings(self) -> list[str]:
        """The texts of the Warning headers, without code and quotes."""
        found = self.headers.getlist("Warning")
        return [text.partition(" - ")[2].strip().strip('"').replace('\\"', '"') for text in found]

    @property
    def message(self) -> str:
        """The server's message when it refused; the whole body when it has none."""
        if isinstance(self.body, dict) and "message" in self.body:
            return str(self.body["message"])
        return str(self.body)


class ApiError(Exception):
    """The API server refused or failed."""

    def __init__(self, what: str, response: Response) -> None:
        super().__init__(f"{what}: {response.status}: {response.message}")
        self.response = response
        self.status = response.status
        self.message = response.message


class Resource(NamedTuple):
    """How one kind is addressed."""

    prefix: str
    plural: str
    namespaced: bool


@dataclass(frozen=True)
class Credentials:
    """What a kubeconfig file says about its current context."""

    server: str
    authority: bytes | None
    certificate: bytes | None
    key: bytes | None
    token: str | None
    verify: bool


def read_kubeconfig(path: Path) -> Credentials:
    """The current context of a kubeconfig file: client certificates and tokens, inline or in files."""
    try:
        content = yaml.safe_load(path.read_text())
        context = _named(content, "contexts", content["current-context"])["context"]
        cluster = _named(content, "clusters", context["cluster"])["cluster"]
        user = _named(content, "users", context["user"]).get("user") or {}
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ClusterError(f"{path} is not a kubeconfig file with a current context ({error}).") from error
    if not user.keys() & {"token", "tokenFile", "client-certificate", "client-certificate-data"}:
        raise ClusterError(f"{path}: user {context['user']!r} has neither a client certificate nor a token.")
    token = user.get("token")
    if not token and user.get("tokenFile"):
        token = Path(user["tokenFile"]).read_text().strip()
    return Credentials(
        server=cluster["server"],
        authority=_inline(path, cluster, "certificate-authority"),
        certificate=_inline(path, user, "client-certificate"),
        key=_inline(path, user, "client-key"),
        token=token,
        verify=not cluster.get("insecure-skip-tls-verify", False),
    )


def _named(content: Object, section: str, name: str) -> Object:
    for entry in content[section]:
        if entry["name"] == name:
            found: Object = entry
            return found
    raise KeyError(f"{section}: no {name!r}")


def _inline(path: Path, section: Object, key: str) -> bytes | None:
    if f"{key}-data" in section:
        return base64.b64decode(section[f"{key}-data"])
    return (path.parent / section[key]).read_bytes() if key in section else None


def _tls(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context(
        cadata=credentials.authority.decode() if credentials.authority else None
    )
    if not credentials.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if credentials.certificate and credentials.key:
        # The standard library loads a client certificate from a file only.
        with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
            pem.write(credentials.certificate + b"\n" + credentials.key)
            pem.flush()
            context.load_cert_chain(pem.name)
    return context


class KubeClient:
    """Talks to one API server as one user. Safe to share between threads."""

    def __init__(self, kubeconfig: Path | str) -> None:
        credentials = read_kubeconfig(Path(kubeconfig))
        self.server = credentials.server.rstrip("/")
        self._headers = {"Authorization": f"Bearer {credentials.token}"} if credentials.token else {}
        self._pool = urllib3.PoolManager(
            maxsize=16,
            ssl_context=_tls(credentials),
            timeout=urllib3.Timeout(connect=5, read=60),
            retries=False,
        )
        self._resources: dict[tuple[str, str], Resource] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes idle connections."""
        self._pool.clear()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = JSON,
        query: Mapping[str, str] | None = None,
    ) -> Response:
        """One request, and the answer whatever its status. ``body`` is sent as JSON, which is YAML too."""
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": JSON, **self._headers}
        if body is not None:
            headers["Content-Type"] = content_type
        content = None if body is None else json.dumps(body).encode()
        answer = self._pool.request(method, url, body=content, headers=headers)
        is_json = answer.headers.get("Content-Type", "").startswith(JSON)
        parsed = json.loads(answer.data) if is_json else answer.data.decode(errors="replace")
        return Response(answer.status, parsed, answer.headers)

    def resource(self, api_version: str, kind: str) -> Resource:
        """How ``kind`` is addressed, as the API server says; a kind just defined may take a moment to appear."""
        key = (api_version, kind)
        deadline = time.monotonic() + 10
        while key not in self._resources:
            answer, served = self._discover(api_version)
            self._resources |= {(api_version, name): found for name, found in served.items()}
            if key not in self._resources:
                if time.monotonic() > deadline:
                    raise ApiError(f"{api_version} {kind} is not known", answer)
                time.sleep(0.1)
        return self._resources[key]

    def serves(self, api_version: str, kind: str) -> bool:
        """Whether the API server knows a kind now, where :meth:`resource` would wait for it."""
        return kind in self._discover(api_version)[1]

    def _discover(self, api_version: str) -> tuple[Response, dict[str, Resource]]:
        prefix = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        answer = self.request("GET", prefix)
        entries = (answer.body.get("resources") or []) if answer.status == 200 else []
        served = {
            entry["kind"]: Resource(prefix, entry["name"], entry["namespaced"])
            for entry in entries
            if "/" not in entry["name"]
        }
        return answer, served

    def path(
        self,
        api_version: str,
        kind: str,
        name: str | None = None,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> str:
        """The URL path of an object or, without a name, of its collection."""
        prefix, plural, namespaced = self.resource(api_version, kind)
        parts = [prefix]
        if namespaced and (namespace or name):
            parts += ["namespaces", quote(namespace or "default")]
        parts.append(plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object:
        """One object."""
        return self._object("get", "GET", self.path(api_version, kind, name, namespace))

    def find(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object, or nothing when there is none of that name."""
        try:
            return self.get(api_version, kind, name, namespace)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(
        self, api_version: str, kind: str, namespace: str | None = None, labels: str | None = None
    ) -> Objects:
        """All objects of a kind, in one namespace or everywhere."""
        query = {"labelSelector": labels} if labels else None
        answer = self._object("list", "GET", self.path(api_version, kind, None, namespace), query=query)
        items: Objects = answer["items"] or []
        for item in items:
            item.setdefault("apiVersion", api_version)
            item.setdefault("kind", kind)
        return items

    def create(self, obj: Object, *, dry_run: bool = False) -> Object:
        """Creates; raises :class:`ApiError` when it is refused."""
        return _checked(f"create {describe(obj)}", self.try_create(obj, dry_run=dry_run))

    def try_create(self, obj: Object, *, dry_run: bool = False) -> Response:
        """Creates; the answer, with warnings, whatever it is."""
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        namespace = obj["metadata"].get("namespace", "default")
        collection = self.path(obj["apiVersion"], obj["kind"], None, namespace)
        return self.request("POST", collection, obj, query=query)

    def apply(
        self,
        objects: Object | Iterable[Object] | Path | str,
        *,
        manager: str = FIELD_MANAGER,
        force: bool = True,
    ) -> Objects:
        """Server-side apply of objects, a YAML file or a folder of them, in order; returns what stands then.

        A CustomResourceDefinition is waited for until it is Established.
        """
        applied = []
        for obj in load(objects):
            metadata = obj["metadata"]
            path = self.path(obj["apiVersion"], obj["kind"], metadata["name"], metadata.get("namespace"))
            query = {"fieldManager": manager, "force": str(force).lower()}
            answer = self.request("PATCH", path, obj, APPLY_PATCH, query)
            applied.append(_checked(f"apply {describe(obj)}", answer))
        for obj in applied:
            if obj["kind"] == "CustomResourceDefinition":
                self._established(obj["metadata"]["name"])
        return applied

    def replace(self, obj: Object) -> Object:
        """Writes the whole object back; a stale resourceVersion is refused with 409."""
        metadata = obj["metadata"]
        path = self.path(obj["apiVersion"], obj["kind"], metadata["name"], metadata.get("namespace"))
        return _checked(f"replace {describe(obj)}", self.request("PUT", path, obj))

    def patch(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
    ) -> Object:
        """Merges a dictionary into the object (null removes), or runs a list as a JSON patch."""
        path = self.path(api_version, kind, name, namespace, subresource)
        content_type = JSON_PATCH if isinstance(patch, list) else MERGE_PATCH
        return self._object("patch", "PATCH", path, patch, content_type, {"fieldManager": FIELD_MANAGER})

    def patch_status(
        self, api_version: str, kind: str, name: str, status: Object, namespace: str | None = None
    ) -> Object:
        """Merges into the object's status."""
        return self.patch(api_version, kind, name, {"status": status}, namespace, subresource="status")

    def delete(
        self, api_version: str, kind: str, name: str, namespace: str | None = None, *, wait: bool = False
    ) -> None:
        """Deletes, with dependents in the background; none of that name is fine. ``wait``: until it is gone."""
        path = self.path(api_version, kind, name, namespace)
        answer = self.request("DELETE", path, {"propagationPolicy": "Background"})
        if answer.status != 404:
            _checked(f"delete {path}", answer)
        if wait:
            eventually(
                lambda: self.find(api_version, kind, name, namespace) is None, f"{kind} {name} is gone"
            )

    def _object(
        self,
        verb: str,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = JSON,
        query: Mapping[str, str] | None = None,
    ) -> Object:
        return _checked(f"{verb} {path}", self.request(method, path, body, content_type, query))

    def _established(self, name: str) -> None:
        def check() -> None:
            crd = self.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", name)
            conditions = {c["type"]: c["status"] for c in crd.get("status", {}).get("conditions") or []}
            assert conditions.get("Established") == "True", conditions

        eventually(check, f"CRD {name} is established")


def _checked(what: str, response: Response) -> Object:
    if response.status >= 300 or not isinstance(response.body, dict):
        raise ApiError(what, response)
    body: Object = response.body
    return body


def describe(obj: Object) -> str:
    """``Kind namespace/name`` for messages."""
    metadata = obj.get("metadata", {})
    name = metadata.get("name") or metadata.get("generateName", "?")
    namespace = metadata.get("namespace")
    return f"{obj.get('kind', '?')} {namespace + '/' if namespace else ''}{name}"


def load(objects: Object | Iterable[Object] | Path | str) -> Objects:
    """Objects from dictionaries, a YAML file (documents and Lists) or every YAML file of a folder."""
    if isinstance(objects, Path | str):
        path = Path(objects)
        # A kustomization lists its folder's objects and is none itself.
        found = (each for each in path.glob("*.yaml") if each.name != "kustomization.yaml")
        files = sorted(found) if path.is_dir() else [path]
        documents = [each for file in files for each in parse(file.read_text())]
    else:
        documents = [objects] if isinstance(objects, dict) else list(objects)
    flat: Objects = []
    for document in documents:
        flat += document["items"] if document.get("kind") == "List" else [document]
    return flat


def eventually(check: Callable[[], T], describe: str = "", *, timeout: float = 150) -> T:
    """Calls ``check`` until it passes, and returns what it returned.

    The time is for a machine that does much else. Whatever must be quick is measured by a benchmark.

    It has not passed while it raises an assertion, an :class:`ApiError`, a lookup, a value or a connection error, or
    returns ``False`` or what is empty. When time is up, the last failure is shown as the cause.
    """
    deadline = time.monotonic() + timeout
    pause = 0.02
    while True:
        try:
            result = check()
            if result is None or result:
                return result
            failure: Exception | None = None
        except (
            AssertionError,
            ApiError,
            LookupError,
            ValueError,
            OSError,
            urllib3.exceptions.HTTPError,
        ) as error:
            failure = error
        if time.monotonic() > deadline:
            what = describe or getattr(check, "__name__", "the check")
            reason = f": {failure or type(failure).__name__}" if failure else ""
            raise AssertionError(f"not within {timeout:g} s: {what}{reason}") from failure
        time.sleep(pause)
        pause = min(pause * 1.5, 0.25)
