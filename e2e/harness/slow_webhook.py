"""A webhook of somebody else's that is asked about one ClusterQueue, and takes its time to allow what it is asked.

What is only tried it allows at once: so it is found out whether the API server has heard of it.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from e2e.harness.certificates import Authority
from e2e.harness.client import MERGE_PATCH, eventually
from e2e.harness.cluster import AnyCluster


class SlowWebhook:
    """Asked about updates of one ClusterQueue while the block runs; `asked` is set when it is for the first time."""

    def __init__(self, cluster: AnyCluster, folder: Path, queue: str) -> None:
        self._cluster, self._queue = cluster, queue
        self.asked, self._open, self._known = threading.Event(), threading.Event(), threading.Event()
        authority = Authority()
        pair = authority.server("slow.default.svc")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair.write(folder, "slow"))
        self._bundle = base64.b64encode(authority.pem).decode()
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if review["request"].get("dryRun"):
                    webhook._known.set()
                else:
                    webhook.asked.set()
                    webhook._open.wait(25)
                said = {**review, "response": {"uid": review["request"]["uid"], "allowed": True}}
                body = json.dumps({key: said[key] for key in ("apiVersion", "kind", "response")}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """What is asked is no news."""

        self._server = ThreadingHTTPServer((cluster.listen_host, 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def answer(self) -> None:
        """Allows what was asked, and from now on at once."""
        self._open.set()

    def __enter__(self) -> Self:
        self._thread.start()
        port = self._cluster.expose("default", "slow", self._server.server_port)
        rule = {"apiGroups": ["kueue.x-k8s.io"], "apiVersions": ["*"], "resources": ["clusterqueues"]}
        self._cluster.apply(
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": "q-slow"},
                "webhooks": [
                    {
                        "name": "slow.example.org",
                        "admissionReviewVersions": ["v1"],
                        "sideEffects": "None",
                        "failurePolicy": "Ignore",  # it is asked for a moment after the block, too
                        "timeoutSeconds": 30,
                        "rules": [{**rule, "operations": ["UPDATE"]}],
                        "matchConditions": [
                            {"name": "one", "expression": f"object.metadata.name == '{self._queue}'"}
                        ],
                        "clientConfig": {
                            "caBundle": self._bundle,
                            "service": {"namespace": "default", "name": "slow", "path": "/", "port": port},
                        },
                    }
                ],
            }
        )
        eventually(self._is_known, "the API server asks it")
        return self

    def _is_known(self) -> bool:
        path = self._cluster.path("kueue.x-k8s.io/v1beta2", "ClusterQueue", self._queue)
        note = {"metadata": {"annotations": {"example.org/tried": "yes"}}}
        self._cluster.request("PATCH", path, note, MERGE_PATCH, {"dryRun": "All"})
        return self._known.is_set()

    def __exit__(self, *_: object) -> None:
        self.answer()
        self._cluster.delete("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "q-slow")
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
