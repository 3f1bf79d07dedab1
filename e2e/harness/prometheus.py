"""A real Prometheus: built once into the cache, filled with a past of its own, and scraping what a test serves."""

from __future__ import annotations

import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from e2e.harness.binaries import PROMETHEUS, Programs, ensure
from e2e.harness.processes import Program, free_port


def programs() -> Programs:
    """Returns Prometheus and its promtool; builds them when they are missing."""
    return ensure(PROMETHEUS)


class Exporter:
    """Serves a text in the format that Prometheus scrapes; `text` is called at each scrape."""

    def __init__(self, text: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = text().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def start(self) -> None:
        """Serves until it is stopped."""
        self._thread.start()

    def stop(self) -> None:
        """Stops serving, and waits until that is done."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Prometheus:
    """One Prometheus on loopback, in a folder of its own."""

    def __init__(
        self, folder: Path, scrape: list[Mapping[str, Any]], web: Mapping[str, Any] | None = None
    ) -> None:
        self._programs = programs()
        self._folder = folder
        self.data = folder / "data"
        (folder / "prometheus.yaml").write_text(
            yaml.safe_dump(
                {"global": {"scrape_interval": "1s"}, "scrape_configs": [dict(each) for each in scrape]}
            )
        )
        (folder / "web.yaml").write_text(yaml.safe_dump(dict(web or {})))
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.program = Program(
            "prometheus",
            [
                str(self._programs.program("prometheus")),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--web.config.file={folder / 'web.yaml'}",
                f"--storage.tsdb.path={self.data}",
                "--storage.tsdb.retention.time=100d",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            folder,
        )

    def fill(self, text: str) -> None:
        """Puts samples of the past (OpenMetrics, with times) into its storage, before it is started."""
        source = self._folder / "past.om"
        source.write_text(text)
        subprocess.run(
            [
                str(self._programs.program("promtool")),
                *("tsdb", "create-blocks-from", "openmetrics"),
                *("--max-block-duration=720h", "--quiet", str(source), str(self.data)),
            ],
            check=True,
            capture_output=True,
            timeout=300,
        )

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self.program.start()
        self.program.wait_ready(self._ready)

    def stop(self) -> None:
        """Ends it at once."""
        self.program.kill()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:  # noqa: S310  loopback
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
