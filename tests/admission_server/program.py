"""The server as a process, with handlers of the tests.

It is forked off a process that has imported it and done nothing else, since importing takes longer than the tests do.
"""

import logging
import multiprocessing
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Final

import uvloop

from admission.decision.cluster_state import ClusterState
from admission.server.app import Handler
from admission.server.serve import Options, serve
from tests.admission_server.conftest import echo


def handlers(_: ClusterState) -> Mapping[str, Handler]:
    return {"/mutate": echo, "/validate": echo}


class _Sending(logging.Handler):
    """Sends what is logged, a line each."""

    def __init__(self, to: Connection) -> None:
        super().__init__(logging.INFO)
        self._to = to

    def emit(self, record: logging.LogRecord) -> None:
        self._to.send(record.getMessage())


_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


def started(options: Options) -> tuple[BaseProcess, Connection]:
    """Starts a server; returns it, and the end of a pipe from which what it logs is received."""
    lines, to = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=_run, args=(options, to))
    process.start()
    to.close()
    return process, lines


def _run(options: Options, to: Connection) -> None:
    logging.basicConfig(handlers=[_Sending(to)], level=logging.INFO)
    sys.exit(uvloop.run(serve(options, handlers)))
