"""How much the server takes at once, and from whom."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of the server; beyond one, the request is refused in one sentence and the server goes on."""

    body_bytes: int = 10 << 20
    """Size of a request; 413 beyond."""
    words: int = 200_000
    """Words of a document; 413 beyond. What the model does not read is still cut off before, and shown as such."""
    documents: int = 8
    """Documents of an upload; 413 beyond."""
    waiting: int = 4
    """Requests that wait while one runs; 503 beyond."""
    seconds: float = 300.0
    """From a request's arrival to its answer, waiting included; 503 beyond, and the model stops."""
    upload_seconds: float = 30.0
    """For a request's body to arrive; 408 beyond. Its head has :data:`HEAD_SECONDS`."""
    beam: int = 16
    """Width of the beam that a request may ask for; 422 beyond."""
    summary_tokens: int = 1024
    """Length of a summary that a request may ask for; 422 beyond."""


#: For a request's head to arrive, in seconds; the connection is closed after that.
HEAD_SECONDS = 10.0
#: For a client to read what it is sent, in seconds; the connection is cut after that.
WRITE_SECONDS = 60.0
#: Connections at a time; 503 beyond.
CONNECTIONS = 64
#: For requests that still run when the server is told to stop.
SHUTDOWN_SECONDS = 10


class Refusal(Exception):
    """A request that is not served.

    Args:
        status: of HTTP.
        code: for programs, such as "too-large".
        message: one sentence for people: what is wrong, what to do.
        retry_after: in seconds, where trying again makes sense.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after
