"""A client in Go that calls a webhook as the API server does: connections kept alive, what it trusts changes."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from e2e.harness.binaries import KEEPALIVE, ensure
from e2e.harness.client import Object


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of the calls."""

    answered: int
    failed: int
    errors: list[str] | None
    connections: int
    """How many were opened."""
    reused: int
    """How many calls went over one that was open."""
    leaves: int
    """How many different certificates new connections were shown."""


class Caller:
    """Calls from its beginning to its end; `result` says afterwards what became of it."""

    result: Result

    def __init__(self, folder: Path, url: str, server_name: str, review: Object, authorities: str) -> None:
        self._authorities, body = folder / "authorities.pem", folder / "review.json"
        self._trusted = authorities
        self._authorities.write_text(authorities)
        body.write_text(json.dumps(review))
        self._command = [
            str(ensure(KEEPALIVE).program("keepalive")),
            f"-url={url}",
            f"-server-name={server_name}",
            f"-authorities={self._authorities}",
            f"-review={body}",
            "-pause=250ms",  # of each of eight connections: together a call in 30 ms
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._taken_over()
        return self

    def __exit__(self, *_failure: object) -> None:
        with self._process:
            said, _ = self._process.communicate()
        self.result = Result(**json.loads(said))

    def trust(self, authorities: str) -> None:
        """Returns once new calls trust these and no others."""
        if authorities == self._trusted:
            return
        following = self._authorities.with_suffix(".next")
        following.write_text(authorities)
        following.replace(self._authorities)
        self._taken_over()
        self._trusted = authorities

    def _taken_over(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line == "trusting\n", line or "it ended"
