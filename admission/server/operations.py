"""The operational routes: is it alive, is it ready and if not why, what are its numbers.

Ready means: a call that the API server sends here now gets the right answer. Alive means only that the event
loop turns; nothing that a restart could not mend makes a replica unhealthy.
"""

from collections.abc import Callable
from typing import Annotated, Final

from fastapi import FastAPI, Header, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import choose_encoder

from admission.server.metrics import Metrics

Check = Callable[[], str | None]
"""Returns why not, as one sentence; None when there is nothing to say."""

DRAINING: Final = "the server is stopping and takes no new connections"


class Readiness:
    """The checks by name, and the one thing that overrides them all: stopping."""

    def __init__(self, checks: dict[str, Check] | None = None) -> None:
        self.checks = dict(checks or {})
        self.draining = False

    def reasons(self) -> dict[str, str]:
        """Returns what is missing, by check; empty when ready."""
        found = {name: reason for name, check in self.checks.items() if (reason := check()) is not None}
        return {"server": DRAINING, **found} if self.draining else found


def operations(readiness: Readiness, metrics: Metrics) -> FastAPI:
    """Builds the application that serves the operational routes."""
    # The generated documentation would load scripts from elsewhere, so there is none.
    app = FastAPI(title="Slicewise webhook", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        reasons = readiness.reasons()
        body = {"ready": not reasons, "reasons": reasons}
        return JSONResponse(body, status_code=503 if reasons else 200)

    @app.get("/metrics")
    async def scrape(accept: Annotated[str, Header()] = "") -> Response:
        # OpenMetrics for those who ask for it, which is what Prometheus does; else the plain text.
        encode, content_type = choose_encoder(accept)
        return Response(encode(metrics.registry), media_type=content_type)

    return app
