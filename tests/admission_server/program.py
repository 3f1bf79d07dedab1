"""The server as a process, with handlers of the tests: `python -m tests.admission_server.program OPTIONS-AS-JSON`."""

import json
import logging
import sys
from collections.abc import Mapping

import msgspec
import uvloop

from admission.decision.cluster_state import ClusterState
from admission.server.app import Handler
from admission.server.serve import Options, serve
from tests.admission_server.conftest import echo


def handlers(_: ClusterState) -> Mapping[str, Handler]:
    return {"/mutate": echo, "/validate": echo}


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(message)s")
    sys.exit(uvloop.run(serve(msgspec.convert(json.loads(sys.argv[1]), Options), handlers)))
