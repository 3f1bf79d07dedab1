"""This webhook as `slicewise webhook` serves it, but for the cluster: the caches are filled from `world`."""

import gc
import sys
from pathlib import Path

import uvloop

from admission.server import serve
from admission.server.app import Application
from admission.server.listener import Listener, bind
from admission.server.metrics import Metrics
from admission.server.operations import Readiness, operations
from admission.tls.reload import ReloadingContext
from tests.benchmarks.admission.world import world


def main(address: str, certificate: str, key: str) -> None:
    """Serves until killed."""
    tls = ReloadingContext()
    tls.use(Path(certificate).read_text(encoding="ascii"), Path(key).read_text(encoding="ascii"))
    metrics = Metrics()
    application = Application(
        serve.handlers(world()),
        operations(Readiness(), metrics),
        blocked=lambda: None,
        metrics=metrics,
    )
    # As `admission.server.caches` does once it is warm.
    gc.collect()
    gc.freeze()
    with bind(address) as bound:
        uvloop.run(Listener(application, bound, tls.context).run_until_stopped())


if __name__ == "__main__":
    main(*sys.argv[1:])
