"""The webhook server: caches, certificates, two listeners, and a way to stop that drops no call.

Stopping: on the first SIGTERM or SIGINT readiness fails and every answer says `Connection: close`, so that API
servers open their next connection elsewhere; the server goes on answering for `drain` seconds, because closing a
connection that is idle races with a call that is on its way, and Go does not send a POST twice. Then it stops. A
second signal stops it at once.

Failure mode: what cannot be used at the start (files, addresses) ends the process with status 2 and a sentence.
Afterwards nothing but a bug of our own does, with status 1: a restart is honest, half a server is not.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec

from admission import mutating, validating, wire
from admission.decision.cluster_state import ClusterState
from admission.mutation.outcome import Verdict
from admission.server import memory
from admission.server.app import App, Application, CacheNotReadyError, Handler
from admission.server.caches import Caches
from admission.server.connection_table import ConnectionLimits, ConnectionTable
from admission.server.intake import Limits
from admission.server.listener import AddressError, Listener, address_of, bind
from admission.server.metrics import Metrics
from admission.server.operations import Readiness, operations
from admission.server.owner_events import OwnerEvents
from admission.tls.ca_bundle import Identity
from admission.tls.publisher import Publisher
from admission.tls.reload import CertificateFiles, ReloadingContext
from admission.tls.rotation import Periods
from admission.tls.x509 import CertificateError
from admission.wire import Request, Response
from admission.workloads.decoder import Templates
from slicewise.api import keys
from slicewise.api.policy import PIPE_DIRECTORIES
from slicewise.api.quantities import MOST
from slicewise.inventory.node_state import CUSTOMARY, NodeRules
from slicewise.kube.authentication import Gate, guarded
from slicewise.kube.client import Client
from slicewise.kube.errors import ConfigError

logger = logging.getLogger(__name__)

FAILED: Final = 1
BAD_INPUT: Final = 2
"""The name of what the controller sends to see whether requests get here (queue_sync/webhook_selfcheck.py)."""


@dataclass(frozen=True, slots=True)
class Options:
    """What `slicewise webhook` takes."""

    kubeconfig: str | None = None
    """None: in-cluster, else the customary kubeconfig."""
    namespace: str = keys.OWN_NAMESPACE
    listen: str = "0.0.0.0:9443"
    operations_listen: str = "0.0.0.0:8080"
    service: str = "slicewise-webhook"
    tls_cert_file: str | None = None
    tls_private_key_file: str | None = None
    """Both or none; with them, nothing is kept in a Secret and no caBundle is written."""
    pipe_directories: tuple[str, ...] = PIPE_DIRECTORIES
    """Where policies may have pods meet MPS daemons: these directories of nodes and what is below them."""
    drain: float = 12.0
    """Seconds between the signal and the end; at least what it takes a cluster to stop sending calls here."""
    rules: NodeRules = CUSTOMARY
    authenticate: bool = False
    """Give metrics to those alone whom the cluster lets read them."""
    gpu_operator_namespace: str = ""
    """Where the ConfigMaps are that plan how nodes are divided; "" to read none."""
    limits: Limits = field(default_factory=Limits)
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    periods: Periods = field(default_factory=Periods)
    """How long the rotation of the authority lasts."""


Handlers = Callable[[ClusterState], Mapping[str, Handler]]


class CertificateSource(Protocol):
    """Keeps the TLS context supplied with a certificate."""

    async def run(self) -> None: ...
    def why_untrusted(self) -> str | None: ...
    def expiries(self) -> Mapping[str, datetime]: ...


def handlers(
    world: ClusterState,
    templates: Templates | None = None,
    pipe_directories: tuple[str, ...] = PIPE_DIRECTORIES,
    largest_maximum: int = MOST,
) -> dict[str, Handler]:
    """Returns what answers each path; `templates` are the kinds it knows (left out: those of the table)."""
    known = templates or Templates()

    def mutate(request: Request) -> Response:
        # Only objects of namespaces that opted in come here, so one of a namespace that is not known at all is one of
        # a namespace that was made a moment ago: to ignore it would be to miss the first work of every new namespace.
        namespace = request.namespace
        if namespace and namespace not in world.namespaces and namespace not in world.protected:
            raise CacheNotReadyError(f"namespace {namespace} is not known here yet; ask again")
        return _without_probes(request, mutating.mutate(request, world, known))

    def validate(request: Request) -> Response:
        response = validating.validate(request, world, pipe_directories, largest_maximum)
        return _without_probes(request, response)

    return {
        "/mutate": lambda body: wire.answer(body, mutate),
        "/validate": lambda body: wire.answer(body, validate),
    }


def _without_probes(request: Request, response: Response) -> Response:
    """The controller's self-check is refused every minute, which is nobody's refused work; nothing is kept of it."""
    if response.outcome is Verdict.REFUSED and request.dry_run and request.name == keys.PROBE:
        return msgspec.structs.replace(response, outcome=Verdict.PROBED, reason="")
    return response


async def serve(options: Options, handlers: Handlers = handlers) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status."""
    try:
        webhook = Webhook(options, handlers)
        with _signals(webhook.stop):
            await webhook.run()
    except (ConfigError, CertificateError, AddressError) as error:
        logger.error("%s", error)  # noqa: TRY400 - the sentence is all there is to say
        return BAD_INPUT
    except Exception:
        logger.exception("the server failed")
        return FAILED
    return 0


class Webhook:
    """One replica."""

    def __init__(self, options: Options, handlers: Handlers = handlers) -> None:
        """Raises ConfigError, CertificateError: the options cannot be used."""
        self._options = options
        self._client = Client.from_kubeconfig(options.kubeconfig, component="webhook")
        self._tls = ReloadingContext()
        self._certificates = _certificate_source(options, self._client, self._tls)
        self._stopping, self._at_once = asyncio.Event(), asyncio.Event()
        self.caches = Caches(
            self._client,
            options.namespace,
            options.pipe_directories,
            options.rules,
            options.gpu_operator_namespace,
        )
        self.metrics = Metrics()
        self.metrics.watch_caches(self.caches.ages)
        self.metrics.watch_certificates(self._expiries)
        self.readiness = Readiness(
            {
                "caches": self.caches.why_not_ready,
                "certificate": self._why_no_certificate,
                "trust": self._certificates.why_untrusted,
            }
        )
        self._operations: App = operations(self.readiness, self.metrics)
        if options.authenticate:
            self._operations = guarded(self._operations, Gate(self._client), frozenset({"/metrics"}))
        self._owner_events = OwnerEvents(self._client)
        self.application = Application(
            handlers(self.caches.world),
            self._operations,
            blocked=self.caches.why_not_ready,
            metrics=self.metrics,
            limits=options.limits,
            notify=self._owner_events.report,
        )

    def stop(self) -> None:
        """Begins to stop; called a second time, stops at once."""
        if self._stopping.is_set():
            self._at_once.set()
        self._stopping.set()

    async def run(self) -> None:
        """Serves until `stop`. Raises AddressError."""
        with bind(self._options.listen) as serving, bind(self._options.operations_listen) as operating:
            table = ConnectionTable(self._options.connections, self.metrics.connections_dropped.inc)
            self.metrics.connections.set_function(lambda: len(table))
            listeners = [
                Listener(self.application, serving, self._tls.context, table),
                Listener(self._operations, operating),
            ]
            logger.info("operations address=%s", address_of(operating))
            logger.info("listening address=%s", address_of(serving))
            async with self._client, asyncio.TaskGroup() as group:
                background = [
                    group.create_task(self.caches.run(), name="caches"),
                    group.create_task(self._certificates.run(), name="certificates"),
                    group.create_task(memory.give_back(), name="memory"),
                    group.create_task(self._owner_events.run(), name="owner events"),
                ]
                running = [group.create_task(one.run_until_stopped(), name="listener") for one in listeners]
                await self._stopping.wait()
                await self._drain()
                for listener in listeners:
                    listener.should_exit = True
                await asyncio.wait(running)
                for task in background:
                    task.cancel()
        logger.info("stopped")

    async def _drain(self) -> None:
        self.readiness.draining = self.application.draining = True
        logger.info("draining", extra={"seconds": self._options.drain})
        try:
            async with asyncio.timeout(self._options.drain):
                await self._at_once.wait()
        except TimeoutError:
            return

    def _why_no_certificate(self) -> str | None:
        end = self._tls.not_after
        if end is None:
            return "there is no serving certificate yet"
        if self._client.moment() >= end:
            return f"the serving certificate expired at {end:%Y-%m-%d %H:%M} UTC"
        return None

    def _expiries(self) -> Iterator[tuple[str, float]]:
        if self._tls.not_after is not None:
            yield "serving", self._tls.not_after.timestamp()
        for name, end in self._certificates.expiries().items():
            yield name, end.timestamp()


def _certificate_source(options: Options, client: Client, tls: ReloadingContext) -> CertificateSource:
    certificate, key = options.tls_cert_file, options.tls_private_key_file
    if certificate is None and key is None:
        return Publisher(client, tls, Identity(options.service, options.namespace), options.periods)
    if certificate is None or key is None:
        missing = "--tls-cert-file" if certificate is None else "--tls-private-key-file"
        raise CertificateError(f"{missing} is missing; give both files or neither")
    every = options.periods.between_rounds.total_seconds()
    files = CertificateFiles(tls, Path(certificate), Path(key), every=every)
    files.look()
    return files


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    taken = (signal.SIGTERM, signal.SIGINT)
    for number in taken:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
