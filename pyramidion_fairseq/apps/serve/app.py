"""The ASGI application: a form, reports, an API and a health check for an engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any, Iterable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ...errors import PyramidionError
from ...text import Document
from ..explain.types import Explanation
from . import answers
from .bodies import read_form, read_record
from .engine import Engine
from .guard import FAILED, Guard
from .limits import Limits, Refusal
from .worker import Stop, Stopped, Worker

logger = logging.getLogger(__name__)


def build_app(engine: Engine, limits: Limits, model: str, tokens: int | None = None, hosts: Iterable[str] = ()) -> Any:
    """Create the ASGI application.

    Args:
        engine: summarises and explains one document at a time, in its own thread.
        limits: limits of the server.
        model: name of the model, for display.
        tokens: maximum tokens of a document that the model reads.
        hosts: host names that requests may use in addition to IP addresses and ``localhost``.
    """
    server = Server(engine, limits, model, tokens)
    routes = [
        Route("/", server.show_page, methods=["GET", "POST"]),  # one route, so that 405 lists both methods
        Route("/api/summarize", server.summarize, methods=["POST"]),
        Route("/health", server.health, methods=["GET"]),
    ]
    app = Starlette(routes=routes, lifespan=server.lifespan, exception_handlers=HANDLERS)
    return Guard(app, hosts)


class Server:
    """The handlers of requests; for the arguments see :func:`build_app`."""

    def __init__(self, engine: Engine, limits: Limits, model: str, tokens: int | None):
        self.engine, self.limits, self.model, self.tokens = engine, limits, model, tokens
        self.worker = Worker(limits.waiting, limits.seconds)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any) -> Any:
        """Run the application, and wait for the model's thread at shutdown."""
        yield
        self.worker.close()

    async def show_page(self, request: Request) -> Response:
        """Answer ``/``."""
        return await (self.show_report if request.method == "POST" else self.show_form)(request)

    async def show_form(self, request: Request) -> Response:
        """Answer ``GET /``."""
        return answers.form(self.model, self.tokens, self.limits)

    async def show_report(self, request: Request) -> Response:
        """Answer ``POST /`` with a report; a refused form is shown again with its texts and the reason."""
        try:
            return await self._answer(request, read_form, self._report)
        except Refusal as refusal:
            fields = getattr(request.state, "fields", {})
            return answers.form(self.model, self.tokens, self.limits, refusal, fields)

    async def summarize(self, request: Request) -> Response:
        """Answer ``POST /api/summarize``."""
        return await self._answer(request, read_record, self._json)

    async def health(self, request: Request) -> Response:
        """Answer ``GET /health``."""
        jobs = self.worker.jobs
        state = {"status": "ok", "model": self.model, "running": min(1, jobs), "waiting": max(0, jobs - 1)}
        return answers.as_json(state)

    async def _answer(self, request: Request, read: Any, finish: Any) -> Response:
        """Read the body with ``read``; run the model and ``finish`` (makes the response) in the model's thread."""
        start = time.monotonic()
        try:
            found = await read(request, self.limits)
            response = await self.worker.run(lambda stop: finish(found, stop), start, lambda: _gone(request))
        except PyramidionError as error:
            raise Refusal(422, "no-summary", f"No summary: {error}.") from None
        except asyncio.CancelledError:  # by uvicorn, after the time for a shutdown
            raise Refusal(503, "stopping", "The server is shutting down: try again later.") from None
        except (ClientDisconnect, Stopped):
            logger.info("a client disconnected before its summary was finished")
            return Response(status_code=499)  # the client does not receive it
        logger.info(f"answered {request.method} {request.url.path} in {time.monotonic() - start:.1f} s")
        return response

    def _report(self, found: tuple[Sequence[Document], dict[str, int]], stop: Stop) -> Response:
        documents, options = found
        return answers.report([self.engine(document, stop, **options) for document in documents])

    def _json(self, found: tuple[Document, dict[str, int]], stop: Stop) -> Response:
        document, options = found
        explanation = self.engine(document, stop, **options)
        return answers.as_json(
            {
                "summary": _text(explanation),
                "score": explanation.summary.score,
                "explanation": explanation.to_dict(),
            }
        )


async def _gone(request: Request) -> None:
    """Wait until the client disconnects; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known = {404: "This page does not exist.", 405: "This address does not support this HTTP method."}
    message = known.get(error.status_code, "The request is invalid.")
    response = answers.refuse(Refusal(error.status_code, "unknown", message), request.url.path)
    response.headers.update(error.headers or {})
    return response


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return answers.refuse(error, request.url.path)


async def _failed(request: Request, error: Exception) -> Response:
    return answers.refuse(FAILED, request.url.path)  # Guard logs the error


HANDLERS: Any = {HTTPException: _unknown, Refusal: _refused, Exception: _failed}


def _text(explanation: Explanation) -> str:
    summary = explanation.summary
    parts = (word + " " * space for word, space in zip(summary.words, summary.space_after))
    return "".join(parts).strip()
