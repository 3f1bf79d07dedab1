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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from kubernetes.client.configuration import Configuration
from kubernetes.client.rest import should_bypass_proxies
from kubernetes.config import (
    ConfigException,
    list_kube_config_contexts,
    load_incluster_config,
    load_kube_config,
)
from kubernetes.config.incluster_config import SERVICE_TOKEN_FILENAME
from kubernetes.config.kube_config import ENV_KUBECONFIG_PATH_SEPARATOR, KubeConfigMerger

from slicewise.kube.clock import REAL, Timing
from slicewise.kube.errors import ConfigError

logger = logging.getLogger(__name__)

REFRESH = 60.0
# What the official loader lets through when a file is not what it expects.
_ODD = (OSError, ValueError, TypeError, KeyError, AttributeError)


@dataclass(frozen=True, slots=True)
class Access:
    """One way to the API server, as of now."""

    host: str
    authorization: str | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    proxy: str | None = None


class Credentials:
    """`Access` that stays fresh. `load` reads the configuration from scratch and may block."""

    def __init__(
        self,
        load: Callable[[], Configuration],
        *,
        source: str = "configuration",
        plugin: bool = False,
        timing: Timing = REAL,
    ) -> None:
        self._source = source
        self._load = load
        self._plugin = plugin
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
        self._checked = self._timing.now()

    def _loaded(self) -> Configuration:
        try:
            return self._load()
        except (ConfigException, yaml.YAMLError, *_ODD) as error:
            raise ConfigError(f"{self._source}: {_one_line(error)}") from error

    def _read(self) -> Access:
        configuration = self._configuration
        try:
            refresh: Callable[[Configuration], None] | None = getattr(
                configuration, "refresh_api_key_hook", None
            )
            if refresh is not None:
                refresh(configuration)
            keys = configuration.api_key
            token = keys.get("BearerToken") or keys.get("authorization")
            return Access(
                host=configuration.host.rstrip("/"),
                authorization=token.strip() if token else None,
                tls=self._context(configuration) if configuration.host.startswith("https") else None,
                server_name=getattr(configuration, "tls_server_name", None),
                proxy=_proxy(configuration),
            )
        except (ConfigException, OSError, ValueError) as error:
            raise ConfigError(f"{self._source}: {_one_line(error)}") from error

    def _context(self, configuration: Configuration) -> ssl.SSLContext:
        files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
        mark = (configuration.verify_ssl, *((name, _stamp(name)) for name in files))
        if self._tls is None or self._tls[0] != mark:
            self._tls = (mark, tls_context(*files, verify=configuration.verify_ssl))
        return self._tls[1]


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


def find_credentials(kubeconfig: str | Path | None = None, timing: Timing = REAL) -> Credentials:
    """From the file named; else the pod's service account; else $KUBECONFIG or ~/.kube/config."""
    in_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and Path(SERVICE_TOKEN_FILENAME).is_file()
    if kubeconfig is None and in_pod:
        return Credentials(_in_cluster, source="service account", timing=timing)
    files = str(kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config")
    if not any(Path(one).expanduser().is_file() for one in files.split(ENV_KUBECONFIG_PATH_SEPARATOR) if one):
        raise ConfigError(f"no kubeconfig at {files}; name one with --kubeconfig, or run inside a cluster")

    def load() -> Configuration:
        configuration = Configuration()
        load_kube_config(config_file=files, client_configuration=configuration)
        return configuration

    return Credentials(load, source=files, plugin=_has_plugin(files), timing=timing)


def _in_cluster() -> Configuration:
    configuration = Configuration()
    load_incluster_config(client_configuration=configuration)
    return configuration


def _has_plugin(files: str) -> bool:
    """Whether the current user's credentials come from a program rather than from a file."""
    try:
        _, active = list_kube_config_contexts(config_file=files)
        users = KubeConfigMerger(files).config["users"]
        user = users.get_with_name(active["context"]["user"])["user"]
    except (ConfigException, yaml.YAMLError, *_ODD):
        return False  # without a user there is no plugin; a broken file is reported by the load that follows
    return "exec" in user or "auth-provider" in user
