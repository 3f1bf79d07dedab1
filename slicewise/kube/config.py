"""Where the API server is and how to prove who we are.

The official client reads kubeconfig files, runs exec plugins and finds the service account; what comes out of
it is read as an `Access` value and nothing more of it is used. Credentials are looked at again every minute and
at once after a 401: token files are re-read, plugins run again when what they gave has expired, and the TLS
context is rebuilt when a certificate file changed. A look that fails keeps what was there before.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import should_bypass_proxies
from kubernetes.config import ConfigException, load_incluster_config
from kubernetes.config.incluster_config import SERVICE_TOKEN_FILENAME
from kubernetes.config.kube_config import ENV_KUBECONFIG_PATH_SEPARATOR, ConfigNode, KubeConfigLoader

from slicewise.api.errors import did_you_mean
from slicewise.kube import kubeconfig_file
from slicewise.kube.clock import REAL, Timing
from slicewise.kube.errors import ConfigError

logger = logging.getLogger(__name__)

REFRESH = 60.0
# What comes of a file that is not what is expected: our own word, and what the official loader lets through.
_UNUSABLE = (
    ConfigError,
    ConfigException,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
)


@dataclass(frozen=True, slots=True)
class Access:
    """One way to the API server, as of now."""

    host: str
    authorization: str | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    proxy: str | None = None
    impersonation: tuple[tuple[str, str], ...] = ()
    """Headers that say as whom to act (Kubernetes' documentation, Authenticating, "User impersonation")."""


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """Which configuration, and what of it: what kubectl's flags of these names say, None where they are left out."""

    file: str | Path | None = None
    context: str | None = None
    cluster: str | None = None
    user: str | None = None
    as_user: str | None = None
    as_uid: str | None = None
    as_groups: tuple[str, ...] = ()

    @property
    def files(self) -> str:
        """The files to merge, as `$KUBECONFIG` lists them."""
        return str(self.file or os.environ.get("KUBECONFIG") or "~/.kube/config")

    @property
    def exists(self) -> bool:
        """True when one of the files is there."""
        return bool(self.paths)

    @property
    def paths(self) -> list[Path]:
        """Those of the files that are there."""
        return [path for path in self._named if path.is_file()]

    @property
    def missing(self) -> str:
        """What is wrong where none of the files is there."""
        folder = next((path for path in self._named if path.is_dir()), None)
        by = "$KUBECONFIG: " if not self.file and os.environ.get("KUBECONFIG") else ""
        return (
            f"{by}{folder} is a folder, and no kubeconfig" if folder else f"{by}no kubeconfig at {self.files}"
        )

    @property
    def _named(self) -> list[Path]:
        names = self.files.split(ENV_KUBECONFIG_PATH_SEPARATOR)
        # Unlike Path.expanduser, this leaves ~ as it is for a user without a home, as a container's is.
        return [Path(os.path.expanduser(name)) for name in names if name]  # noqa: PTH111

    @property
    def is_default(self) -> bool:
        """True when nothing is chosen, so that a pod's service account will do where there is no file."""
        return self == Kubeconfig()


class Credentials:
    """`Access` that stays fresh. `load` reads the configuration from scratch and may block."""

    def __init__(
        self,
        load: Callable[[], Configuration],
        *,
        source: str = "configuration",
        plugin: bool = False,
        impersonation: tuple[tuple[str, str], ...] = (),
        timing: Timing = REAL,
    ) -> None:
        self._source = source
        self._load = load
        self._plugin = plugin
        self._impersonation = impersonation
        self._timing = timing
        self._tls: tuple[object, ssl.SSLContext] | None = None
        self._lock = asyncio.Lock()
        self._configuration = self._loaded()
        self._access = self._read()
        self._checked = timing.now()

    async def access(self, *, rejected: Access | None = None) -> Access:
        """What to use for the next request; `rejected` is what a 401 was the answer to."""
        if not self._stale(rejected):
            return self._access
        async with self._lock:
            if self._stale(rejected):
                await asyncio.to_thread(self._refresh, from_scratch=rejected is not None)
                self._checked = self._timing.now()  # here, because a clock may be the loop's
        return self._access

    def _stale(self, rejected: Access | None) -> bool:
        old = self._timing.now() - self._checked >= REFRESH
        return old or (rejected is not None and rejected is self._access)

    def _refresh(self, *, from_scratch: bool) -> None:
        try:
            # A plugin may take seconds or ask a person, so it only runs when its answer has expired.
            if from_scratch or not self._plugin:
                self._configuration = self._loaded()
            self._access = self._read()
        except Exception as error:  # noqa: BLE001 - loaders ask others over the network, and let anything through
            logger.warning("credentials could not be read again", extra={"error": repr(error)[:300]})

    def _loaded(self) -> Configuration:
        try:
            return self._load()
        except (ConfigError, ConfigException, OSError) as error:
            raise ConfigError(f"{self._source}: {_one_line(error)}") from error
        except _UNUSABLE as error:
            raise ConfigError(
                f"{self._source}: {_one_line(error)}; compare with kubectl config view --raw"
            ) from error

    def _read(self) -> Access:
        configuration = self._configuration
        try:
            refresh: Callable[[Configuration], None] | None = getattr(
                configuration, "refresh_api_key_hook", None
            )
            if refresh is not None:
                refresh(configuration)
            _check_server(configuration.host)
            keys = configuration.api_key
            token = keys.get("BearerToken") or keys.get("authorization")
            return Access(
                host=configuration.host.rstrip("/"),
                authorization=token.strip() if token else None,
                tls=self._context(configuration) if configuration.host.startswith("https") else None,
                server_name=getattr(configuration, "tls_server_name", None),
                proxy=_proxy(configuration),
                impersonation=self._impersonation,
            )
        except (ConfigError, ConfigException, OSError, ValueError) as error:
            raise ConfigError(f"{self._source}: {_one_line(error)}") from error

    def _context(self, configuration: Configuration) -> ssl.SSLContext:
        files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
        mark = (configuration.verify_ssl, *((name, _stamp(name)) for name in files))
        if self._tls is None or self._tls[0] != mark:
            self._tls = (mark, tls_context(*files, verify=configuration.verify_ssl))
        return self._tls[1]


def _check_server(server: str) -> None:
    try:
        parts = urlsplit(server)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"server is {server!r}, which is no address; write it as https://HOST:PORT")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _stamp(name: str | None) -> tuple[int, int] | None:
    if not name:
        return None
    status = Path(name).stat()
    return (status.st_mtime_ns, status.st_size)


def tls_context(
    ca_file: str | None, cert_file: str | None, key_file: str | None, *, verify: bool = True
) -> ssl.SSLContext:
    """Client side; without a CA file the system's authorities are trusted."""
    context = ssl.create_default_context(cafile=ca_file)
    # Python 3.13 insists on key identifiers that many clusters' own authorities lack.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert_file:
        context.load_cert_chain(cert_file, key_file)
    return context


def _proxy(configuration: Configuration) -> str | None:
    proxy: str | None = configuration.proxy
    if not proxy or should_bypass_proxies(configuration.host, getattr(configuration, "no_proxy", None) or ""):
        return None
    if not proxy.startswith(("http://", "https://")):
        raise ConfigError(f"proxy {proxy} is of a kind that is not supported; use an http:// or https:// one")
    return proxy


def find_credentials(kubeconfig: Kubeconfig | str | Path | None = None, timing: Timing = REAL) -> Credentials:
    """As kubectl: from the file named; else $KUBECONFIG or ~/.kube/config; else the pod's service account.

    Raises:
        ConfigError: there is none, or it cannot be used.
    """
    chosen = kubeconfig if isinstance(kubeconfig, Kubeconfig) else Kubeconfig(kubeconfig)
    in_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and Path(SERVICE_TOKEN_FILENAME).is_file()
    if chosen.is_default and not chosen.exists and in_pod:
        return Credentials(_in_cluster, source="service account", timing=timing)
    if not chosen.exists:
        raise ConfigError(f"{chosen.missing}; name one with --kubeconfig, or run inside a cluster")

    def load() -> Configuration:
        configuration = Configuration()
        _loader(chosen).load_and_set(configuration)
        return configuration

    user = _user(chosen)
    return Credentials(
        load,
        source=chosen.files,
        plugin="exec" in user or "auth-provider" in user,
        impersonation=_impersonation(chosen, user),
        timing=timing,
    )


def context_namespace(kubeconfig: Kubeconfig) -> str:
    """Returns the namespace of the context that is chosen, "default" where it names none, as kubectl does."""
    try:
        return str(_loader(kubeconfig).current_context["context"].get("namespace") or "default")
    except _UNUSABLE:
        return "default"  # whoever reads from the cluster next says what is wrong with the file


def _in_cluster() -> Configuration:
    configuration = Configuration()
    load_incluster_config(client_configuration=configuration)
    return configuration


def _merged(chosen: Kubeconfig) -> ConfigNode:
    """Merges the files as kubectl does: the first to say something holds (client-go, tools/clientcmd/loader.go).

    Raises:
        ConfigError: there is none, or a file is no kubeconfig.
    """
    if not chosen.paths:
        raise ConfigError(chosen.missing)
    value: dict[str, Any] = {"clusters": [], "contexts": [], "users": [], "current-context": None}
    for path in chosen.paths:
        try:
            file = kubeconfig_file.read(path)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}" if len(chosen.paths) > 1 else str(error)) from None
        for kind in ("clusters", "contexts", "users"):
            known = {entry.value["name"] for entry in value[kind]}
            for entry in file.get(kind) or ():
                if entry["name"] not in known:
                    known.add(entry["name"])
                    value[kind].append(ConfigNode(f"{path}/{entry['name']}", entry, str(path)))
        value["current-context"] = value["current-context"] or file.get("current-context")
    return ConfigNode("kubeconfig", value)


def _loader(chosen: Kubeconfig) -> KubeConfigLoader:
    """Merges the files and applies what is chosen.

    Raises:
        ConfigError: a file is no kubeconfig, or a context, cluster or user that is named is not there.
        ConfigException: the context of the files is not there.
    """
    config = _merged(chosen)
    value = config.value
    for kind, name in (("context", chosen.context), ("cluster", chosen.cluster), ("user", chosen.user)):
        names = [str(entry.value["name"]) for entry in value[f"{kind}s"]]
        if name and name not in names:
            meant = did_you_mean(name, names) or "; see kubectl config view"
            raise ConfigError(f"there is no {kind} {name} in {chosen.files}{meant}")
    value["current-context"] = chosen.context or value["current-context"]
    if chosen.cluster or chosen.user:
        context = {}
        if value["current-context"]:
            context = dict(config["contexts"].get_with_name(value["current-context"])["context"].value)
        context |= {"cluster": chosen.cluster} if chosen.cluster else {}
        context |= {"user": chosen.user} if chosen.user else {}
        value["contexts"].append({"name": _CHOSEN, "context": context})
        value["current-context"] = _CHOSEN
    return KubeConfigLoader(config_dict=config, config_base_path=None)


# The context made of flags; no context of a file is called so, for kubectl takes no name with a space at its start.
_CHOSEN: Final = " chosen"


def _user(chosen: Kubeconfig) -> dict[str, Any]:
    """Returns the entry of the user who is chosen; empty without one, and where the load that follows complains."""
    try:
        loader = _loader(chosen)
        name = loader.current_context["context"].get("user")
        users = _merged(chosen)["users"]
        entry: dict[str, Any] = users.get_with_name(name)["user"].value
    except _UNUSABLE:
        return {}
    return entry


def _impersonation(chosen: Kubeconfig, user: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Returns the headers that the kubeconfig's user asks for; as for kubectl, a flag stands in place of its field."""
    name = chosen.as_user or user.get("as")
    uid = chosen.as_uid or user.get("as-uid")
    groups = chosen.as_groups or tuple(user.get("as-groups") or ())
    extra = user.get("as-user-extra") or {}
    if not name:
        if uid or groups or extra:
            raise ConfigError("a group or uid to act as is named, and no user; add --as USER")
        return ()
    return (
        ("Impersonate-User", str(name)),
        *((("Impersonate-Uid", str(uid)),) if uid else ()),
        *(("Impersonate-Group", str(group)) for group in groups),
        *(
            (f"Impersonate-Extra-{quote(str(key), safe='')}", str(value))
            for key, values in extra.items()
            for value in values
        ),
    )
