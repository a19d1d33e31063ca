"""Timeouts of connections and graceful shutdown; uvicorn relies on a proxy to close slow or stalled connections."""

from __future__ import annotations

import asyncio
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .limits import HEAD_SECONDS, WRITE_SECONDS


class PatientServer(uvicorn.Server):
    """uvicorn's server, but repeated signals do not interrupt the graceful shutdown."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down gracefully; uvicorn would end the event loop at a second SIGINT while the model still runs."""
        super().handle_exit(sig, frame)
        self.force_exit = False


class ImpatientProtocol(H11Protocol):
    """uvicorn's protocol with timeouts.

    They apply to the head of a request, to the rest of a request that was answered early, and to a client that does
    not read the response.
    """

    head_seconds = HEAD_SECONDS
    write_seconds = WRITE_SECONDS
    _timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that pause_writing is called for any unsent data
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, error: Exception | None) -> None:
        self._unwatch()
        self._unwatch_writing()
        super().connection_lost(error)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.write_seconds, self._cut)

    def resume_writing(self) -> None:
        self._unwatch_writing()
        super().resume_writing()

    def _watch(self) -> None:
        """Start the timer if a request is expected, stop it once the request has arrived; data does not restart it."""
        if not self._awaits():
            self._unwatch()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _awaits(self) -> bool:
        """Return whether a head is expected, or the rest of a request that was answered early."""
        answered = self.cycle is not None and self.cycle.response_complete
        return self.conn.their_state is h11.IDLE or (answered and self.conn.their_state is h11.SEND_BODY)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _unwatch_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._awaits() and not self.transport.is_closing():
            self.transport.close()

    def _cut(self) -> None:
        """Abort the connection and drop unsent data; closing it would wait until the client has read the data."""
        self._write_timer = None
        self.transport.abort()
