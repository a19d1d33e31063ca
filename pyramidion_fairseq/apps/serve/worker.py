"""The thread that runs the model, with a bounded queue of requests and a deadline for each."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Awaitable, Callable, TypeVar

from .limits import Refusal

Result = TypeVar("Result")


class Stopped(Exception):
    """Raised inside a job whose result is no longer needed."""


class Stop:
    """Called regularly by a job; raises :class:`Stopped` if the job should end."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Make the next call raise :class:`Stopped`."""
        self._event.set()

    def __call__(self) -> None:
        if self._event.is_set():
            raise Stopped


class Worker:
    """Runs jobs one at a time.

    A thread cannot be killed: a job ends early only when it calls its :class:`Stop`. Until then it counts as running,
    even if its request has been answered.

    Args:
        waiting: maximum number of jobs that wait while one runs.
        seconds: maximum time from a request's arrival to the end of its job, including waiting.
    """

    def __init__(self, waiting: int, seconds: float):
        self.waiting, self.seconds = waiting, seconds
        self.jobs = 0
        self._last_job = 1.0  # seconds
        self._pool = ThreadPoolExecutor(1, "model")

    async def run(self, job: Callable[[Stop], Result], start: float, gone: Callable[[], Awaitable[None]]) -> Result:
        """Return the job's result.

        Args:
            job: function of a :class:`Stop`.
            start: time of the request's arrival, by ``time.monotonic``.
            gone: returns when the client has disconnected.

        Raises:
            Refusal: too many requests are waiting, or the time is over.
            Stopped: the client disconnected first.
        """
        if self.jobs > self.waiting:
            many = "1 request is" if self.jobs == 1 else f"{self.jobs} requests are"
            raise Refusal(503, "busy", f"{many} running or waiting: try again later.", self.delay())
        stop, loop = Stop(), asyncio.get_running_loop()
        future = self._pool.submit(self._timed, job, stop)
        self.jobs += 1
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        result: asyncio.Future[Result] = asyncio.wrap_future(future)
        watch: asyncio.Future[Any] = asyncio.ensure_future(gone())
        try:
            waiting: set[asyncio.Future[Any]] = {result, watch}
            left = max(0.0, start + self.seconds - time.monotonic())
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            if watch.done():
                raise Stopped
            reason = f"The summary was not finished in {self.seconds:g} s: try a shorter document."
            raise Refusal(503, "timeout", reason, self.delay())
        finally:
            stop.set()
            self._abandon(future, result, watch)

    def delay(self) -> int:
        """Return the seconds to wait before trying again, estimated from the last job."""
        return max(1, round(self._last_job * max(1, self.jobs)))

    def close(self) -> None:
        """Wait for the running job; jobs end when their requests end."""
        self._pool.shutdown(wait=True)

    def _timed(self, job: Callable[[Stop], Result], stop: Stop) -> Result:
        start = time.monotonic()
        try:
            stop()
            return job(stop)
        finally:
            self._last_job = time.monotonic() - start

    def _leave(self) -> None:
        self.jobs -= 1

    @staticmethod
    def _abandon(future: Future[Any], *tasks: asyncio.Future[Any]) -> None:
        future.cancel()
        for task in tasks:
            task.cancel()
