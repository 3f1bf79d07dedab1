"""`slicewise page`: the status page of a snapshot or of a live cluster, on this machine alone."""

import asyncio
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import UTC, datetime
from pathlib import Path
from socket import socket
from typing import Final

from queue_sync.page.feed import CannotReadError, Feed
from queue_sync.page.model import Moment, used_by_pods
from queue_sync.page.site import LOOPBACK, PATH, Site, local
from queue_sync.planning.desired import wanted
from slicewise.api.errors import BadInput
from slicewise.cli.doctor import Patient, examined, findings
from slicewise.cli.errors import Failed
from slicewise.cli.inputs import cluster_arguments
from slicewise.cli.mutate import explain_text
from slicewise.cli.output import tell
from slicewise.cli.plans import slipped_through
from slicewise.cli.webhook_inputs import kinds_argument, templates, world

_EVERY: Final = 5.0
"""Seconds between two readings of a live cluster, at least."""


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `page`."""
    cluster_arguments(parser)
    kinds_argument(parser)
    parser.add_argument(
        "--listen",
        type=_loopback,
        default="127.0.0.1:8090",
        metavar="127.0.0.1:PORT",
        help="where the page is, on this machine alone; port 0 takes a free one (default 127.0.0.1:8090)",
    )


def _loopback(text: str) -> str:
    host, _, port = text.rpartition(":")
    if host not in LOOPBACK or not port.isdecimal() or int(port) > 65535:
        raise ArgumentTypeError(
            f"{text!r} is no port of this machine: the page asks nobody who they are; write 127.0.0.1:8090"
        )
    return text


class Reader:
    """The cluster as it was read last."""

    def __init__(self, options: Namespace) -> None:
        self._options = options
        self._kinds = templates(options)
        self._patient: Patient | None = None

    async def moment(self) -> Moment:
        """Reads the cluster.

        Raises:
            CannotReadError: it cannot be read now.
        """
        try:
            return await asyncio.to_thread(self._moment)
        except (BadInput, Failed) as error:
            raise CannotReadError(str(error)) from None

    async def explain(self, text: str, space: str) -> str:
        """Says what would become of manifests.

        Raises:
            BadInput: one of them cannot be used.
        """
        return await asyncio.to_thread(self._explain, text, space)

    def _moment(self) -> Moment:
        self._patient = patient = examined(self._options, datetime.now(UTC))
        known = patient.cluster
        return Moment(
            ", ".join(Path(name).name for name in self._options.snapshot or ()) or "live cluster",
            not self._options.snapshot,
            known,
            wanted(known),
            {node.name: seen for node, seen in patient.gpu_nodes},
            slipped_through(patient.snapshot, known, self._kinds),
            [finding.document() for finding in findings(patient)],
            patient.unseen(),
            used_by_pods(known.pods) if patient.saw("Pod") else None,
        )

    def _explain(self, text: str, space: str) -> str:
        if self._patient is None:
            raise BadInput("the cluster is not read yet; try again in a moment")
        return explain_text(text, space, world(self._patient.snapshot), self._kinds)


def run(options: Namespace) -> int:
    """Serves the page until it is interrupted.

    Raises:
        Failed: the cluster cannot be read, or the port is taken.
    """
    from queue_sync.health_server import bind  # noqa: PLC0415  the libraries of the network load slowly

    try:
        listening = bind(options.listen)
    except OSError as error:
        raise Failed(f"{error}; name another port with --listen") from None
    with listening:
        host = options.listen.rpartition(":")[0]
        asyncio.run(_serve(options, listening, f"http://{host}:{listening.getsockname()[1]}{PATH}/"))
    return 0


async def _serve(options: Namespace, listening: socket, address: str) -> None:
    from queue_sync.health_server import Server  # noqa: PLC0415  as above

    reader = Reader(options)
    feed = Feed(reader.moment, None if options.snapshot else _EVERY)
    try:
        await feed.now()  # the first browser need not wait for it
    except CannotReadError as error:
        raise Failed(str(error)) from None
    tell(f"the page is {address} until you press Ctrl-C")
    await Server(local(Site(feed, reader.explain))).serve([listening])
