"""`usage`: `slicewise report` against a Prometheus of 20,000 pods and two weeks, by time and memory.

The server is a stand-in with made-up numbers, in a process of its own: what is measured is our side.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

NAME: Final = "usage"
HELP: Final = "slicewise report against a Prometheus of 20,000 pods and two weeks: time and memory"
_NAMESPACES: Final = 20


def _serve(pods: int, ready: Connection) -> None:
    names = [f"team-{i:02}" for i in range(_NAMESPACES)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            body = f'{{"status":"success","data":{self._data(parts.path, query)}}}'.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _data(self, path: str, query: dict[str, str]) -> str:
            if "/label/" in path:
                known = {"namespace": names, "__name__": ["DCGM_FI_DEV_FB_USED"]}
                return json.dumps(known.get(path.split("/")[4], []))
            asked = query["query"]
            if asked.startswith("count by"):
                each = [{"metric": {"namespace": n}, "value": [0, str(pods // _NAMESPACES)]} for n in names]
                return json.dumps({"result": each})
            if asked.startswith("count("):
                return json.dumps({"result": [{"metric": {}, "value": [0, str(pods)]}]})
            space = next((name for name in names if f'"{name}"' in asked), "")
            if path.endswith("/query") or "GPU_UTIL" in asked or not space:
                return '{"result":[]}'
            first, last, step = (int(query[name]) for name in ("start", "end", "step"))
            value = "20480" if "FB_USED" in asked else "0.25"
            values = json.dumps([[moment, value] for moment in range(first, last + 1, step)])
            series = ",".join(
                f'{{"metric":{{"namespace":"{space}","pod":"p-{i}","UUID":"GPU-{space}-{i}"}},"values":{values}}}'
                for i in range(pods // _NAMESPACES)
            )
            return f'{{"result":[{series}]}}'

        def log_message(self, *words: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ready.send(server.server_port)
    server.serve_forever()


def run(arguments: Sequence[str]) -> int:
    """Prints seconds and the most memory that the command had."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmarks {NAME}", description=HELP)
    parser.add_argument("--pods", type=int, default=20_000)
    options = parser.parse_args(arguments)
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(options.pods, there), daemon=True
    )
    server.start()
    url = f"http://127.0.0.1:{here.recv()}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            cluster = Path(folder) / "cluster.yaml"
            cluster.write_text("{apiVersion: v1, kind: Namespace, metadata: {name: team-00}}\n")
            saved = Path(folder) / "usage.json.gz"
            asking = ("--prometheus", url, "--save", str(saved))
            reading = ("--usage", str(saved))
            for name, source in (
                ("report, asking Prometheus", asking),
                ("report, from the file", reading),
                ("advise", reading),
            ):
                command = [
                    sys.executable,
                    "-m",
                    "slicewise",
                    name.split(",")[0],
                    *source,
                    "--snapshot",
                    str(cluster),
                ]
                begun = time.monotonic()
                with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
                    _, status, usage = os.wait4(process.pid, 0)
                    process.returncode = os.waitstatus_to_exitcode(status)
                spent = time.monotonic() - begun
                print(
                    f"{options.pods} pods, 14 days, {name}: {spent:.0f} s "
                    f"({usage.ru_utime + usage.ru_stime:.0f} s of processor), {usage.ru_maxrss / 1024:.0f} MB",
                    flush=True,
                )
    finally:
        server.terminate()
    return 0
