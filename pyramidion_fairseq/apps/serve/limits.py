"""Limits of the server, and the exception for refused requests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of the server. A request that exceeds one is refused with the given status and a message."""

    body_bytes: int = 10 << 20
    """Maximum size of a request (413)."""
    words: int = 200_000
    """Maximum words of a document (413). The model may read fewer of them; the report shows where it stopped."""
    documents: int = 8
    """Maximum documents of an upload (413)."""
    waiting: int = 4
    """Maximum number of requests that wait while one runs (503)."""
    seconds: float = 300.0
    """Maximum time from a request's arrival to its answer, including waiting (503); the model then stops."""
    upload_seconds: float = 30.0
    """Maximum time until a request's body has arrived (408); for its head see :data:`HEAD_SECONDS`."""
    beam: int = 16
    """Maximum beam size that a request may choose (422)."""
    summary_tokens: int = 1024
    """Maximum summary length that a request may choose (422)."""


#: Seconds until a request's head must have arrived; then the connection is closed.
HEAD_SECONDS = 10.0
#: Seconds until a client must have read what was sent; then the connection is aborted.
WRITE_SECONDS = 60.0
#: Maximum number of connections; further ones get 503.
CONNECTIONS = 64
#: Seconds for running requests to finish when the server shuts down.
SHUTDOWN_SECONDS = 10


class Refusal(Exception):
    """A request is refused.

    Args:
        status: HTTP status.
        code: machine-readable code, such as "too-large".
        message: one sentence for the user: what is wrong and what to do.
        retry_after: seconds after which the client may try again.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None):
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after
