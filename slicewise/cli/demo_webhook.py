"""The webhook of the demo: the real one, over TLS on a free port of this machine, and what is asked of it."""

import contextlib
import json
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import uvloop

from admission.decision.cluster_state import ClusterState
from admission.server import serve
from admission.server.app import Application
from admission.server.listener import Listener, bind
from admission.server.metrics import Metrics
from admission.server.operations import Readiness, operations
from admission.tls.reload import ReloadingContext
from admission.tls.x509 import make_authority, make_leaf
from slicewise.kube.snapshot import Object

_LOOPBACK: Final = "127.0.0.1"


@contextlib.contextmanager
def serving(world: ClusterState) -> Iterator[tuple[str, ssl.SSLContext]]:
    """Serves the real application over TLS on a free loopback port; yields its URL and whom to trust."""
    now = datetime.now(UTC)
    authority = make_authority(now)
    leaf = make_leaf(authority, ["localhost"], now)
    tls = ReloadingContext()
    tls.use(leaf.pem, leaf.key)
    metrics = Metrics()
    application = Application(
        serve.handlers(world),
        operations(Readiness(), metrics),
        blocked=lambda: None,
        metrics=metrics,
    )
    with bind(f"{_LOOPBACK}:0") as bound:
        listener = Listener(application, bound, tls.context)
        thread = threading.Thread(target=uvloop.run, args=(listener.run_until_stopped(),), name="webhook")
        thread.start()
        try:
            trust = ssl.create_default_context(cadata=authority.certificate.pem)
            yield f"https://localhost:{bound.getsockname()[1]}/mutate", trust
        finally:
            listener.should_exit = True
            thread.join()


def ask(url: str, trust: ssl.SSLContext, item: Object) -> dict[str, Any]:
    """Sends an AdmissionReview of an object that is created; returns the response in it."""
    group, _, version = item["apiVersion"].rpartition("/")
    sent = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": item["metadata"]["name"],
            "kind": {"group": group, "version": version, "kind": item["kind"]},
            "operation": "CREATE",
            "namespace": item["metadata"]["namespace"],
            "object": item,
        },
    }
    request = urllib.request.Request(  # noqa: S310  the URL is our own
        url, json.dumps(sent).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, context=trust, timeout=10) as response:  # noqa: S310  as above
        answer: dict[str, Any] = json.load(response)["response"]
    return answer
