"""The controller as a program: connect, watch, take the lease, work, and stop in order when told to.

Failure mode: a replica that loses the lease stands by. It forgets everything, as a new process would, and enters the
election again. Whatever else ends a part ends the program with status 1, so that it is started anew; everything it
needs is in the cluster. SIGTERM and SIGINT end it with 0, the lease released. What cannot be used at the start (a way
to the cluster, an address) ends it with 2 and a sentence.
"""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from queue_sync.health_server import Server, application, bind, guarded_paths
from queue_sync.manager import Manager
from queue_sync.metrics.registry import Metrics
from queue_sync.page.feed import Feed
from queue_sync.page.live import EVERY, Judge, explainer, reader
from queue_sync.page.site import App, Site, local
from queue_sync.planning.node_trust import Settings
from queue_sync.webhook_selfcheck import SelfCheck
from slicewise.api import keys
from slicewise.inventory.node_state import CUSTOMARY, NodeRules
from slicewise.kube.authentication import Gate, guarded
from slicewise.kube.client import Client
from slicewise.kube.clock import ClusterClock
from slicewise.kube.errors import ConfigError, LeadershipLostError
from slicewise.kube.events import Recorder
from slicewise.kube.leader_election import Elector

logger = logging.getLogger(__name__)
LEASE: Final = "slicewise-controller"
BAD_INPUT: Final = 2


@dataclass(frozen=True, slots=True)
class Options:
    """What `slicewise controller` takes."""

    kubeconfig: str | None = None
    """A file; else in-cluster, else the default kubeconfig."""
    namespace: str = keys.OWN_NAMESPACE
    """Where the lease is."""
    operations_listen: str = "0.0.0.0:8080"
    settle: float = 60.0
    hold_down: float = 360.0
    leader_elect: bool = True
    gpu_operator_namespace: str = ""
    """Where the files are that plan how nodes are divided; "" to look at none."""
    kueue_namespace: str = ""
    """Where Kueue's configuration is; "" not to look at it."""
    rules: NodeRules = CUSTOMARY
    keep_device_classes: bool = False
    """Makes and prunes the DeviceClasses of what a DRA driver publishes."""
    page: bool = False
    """Serve the status page below the operational routes."""
    authenticate: bool = False
    """Give metrics to those alone whom the cluster lets read them. On an address that others reach, the page's data
    never go to anybody else."""
    judge: Judge | None = None
    """Explains manifests that are pasted into the page; None: nothing is explained."""
    self_check: float = 60.0
    """Seconds between two looks at the way from the API server to the webhook; 0 for never."""


async def serve(options: Options, listening: Callable[[str], None] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit status.

    Args:
        options: what it takes.
        listening: told HOST:PORT of the operational routes, once they answer.
    """
    try:
        client = Client.from_kubeconfig(options.kubeconfig, component="controller")
        operations = bind(options.operations_listen)
    except (ConfigError, OSError) as error:
        logger.error("%s", error)  # noqa: TRY400 - the sentence is all there is to say
        return BAD_INPUT
    with operations:
        async with client:
            stop = asyncio.create_task(_told_to_stop(), name="signals")
            host, port = operations.getsockname()[:2]
            if listening is not None:
                listening(f"{host}:{port}")
            try:
                while True:
                    # A copy, because the server closes what it served: the address stays ours through a stand-by.
                    with operations.dup() as copy:
                        status = await _run(options, client, copy, stop)
                    if status is not None:
                        return status
                    logger.warning("the lease is lost; standing by")
                    gc.unfreeze()  # what it knew is known to nobody any more
            finally:
                await _end(stop)


async def _run(
    options: Options, client: Client, operations: socket.socket, stop: asyncio.Task[None]
) -> int | None:
    """Watches, waits for the lease and leads; returns the exit status, or None once the lease is lost."""
    clock = ClusterClock(client.timing, client.server_time)
    elector = Elector(client, namespace=options.namespace, name=LEASE, clock=clock)
    fenced = client.fenced_by(elector.check) if options.leader_elect else client
    recorder = Recorder(fenced, controller="slicewise.io/controller", instance=elector.identity)
    controller = Manager(
        client,
        fenced,
        recorder,
        Settings(options.settle, options.hold_down, options.rules),
        Metrics(),
        operator_namespace=options.gpu_operator_namespace,
        kueue_namespace=options.kueue_namespace,
        keep_device_classes=options.keep_device_classes,
        clock=clock,
    )
    prober = SelfCheck(
        fenced,
        recorder,
        lambda: controller.watched.namespaces.store,
        own_namespace=options.namespace,
        period=options.self_check,
    )
    controller.metrics.read_from(prober.samples)

    async def lead() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(controller.lead(), name="lead")
            group.create_task(recorder.run(), name="events")
            if options.self_check:
                group.create_task(prober.run(), name="self-check")

    server = Server(_operations(options, controller, client))
    parts = {
        "watch": controller.watch(),
        "lead": elector.run(lead) if options.leader_elect else lead(),
        "operations": server.serve([operations]),
    }
    tasks = [asyncio.create_task(part, name=name) for name, part in parts.items()]
    host, port = operations.getsockname()[:2]
    logger.info("started", extra={"operations": f"{host}:{port}", "identity": elector.identity})
    try:
        await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        stopped = stop.done()
    finally:
        results = await _end(*reversed(tasks))
    if stopped:
        logger.info("stopped")
        return 0
    errors = [error for error in results if isinstance(error, Exception)]
    if errors and all(_is_lost_lease(error) for error in errors):
        return None
    for error in errors:
        logger.error("a part of the controller ended", exc_info=error)
    return 1


def _is_lost_lease(error: Exception) -> bool:
    """True also for a group of nothing else, which is how a task group ends whose writes the fence stopped."""
    if isinstance(error, ExceptionGroup):
        return all(_is_lost_lease(each) for each in error.exceptions)
    return isinstance(error, LeadershipLostError)


def _operations(options: Options, controller: Manager, client: Client) -> App:
    """The operational routes, and what of them is for those alone whom the cluster lets read it."""
    paths = guarded_paths(options.operations_listen, page=options.page, authenticate=options.authenticate)
    page: App | None = None
    if options.page:
        explain = explainer(controller, options.judge) if options.judge else None
        site = Site(Feed(reader(controller), EVERY), explain)
        page = site if paths else local(site)
    app: App = application(controller.metrics.registry, controller.watched.why_not, page)
    return guarded(app, Gate(client), paths)


async def _end(*tasks: asyncio.Task[Any]) -> list[Any]:
    """Cancels what still runs and waits for it; the lease is released on the way."""
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def _told_to_stop() -> None:
    """Returns on the first SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for each in signals:
        loop.add_signal_handler(each, stop.set)
    try:
        await stop.wait()
    finally:
        for each in signals:
            loop.remove_signal_handler(each)
