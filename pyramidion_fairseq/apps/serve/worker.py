"""The one thread that runs the model: a bounded number of requests waits for it, each has a deadline."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Awaitable, Callable, TypeVar

from .limits import Refusal

Result = TypeVar("Result")


class Stopped(Exception):
    """Raised inside a job whose result nobody waits for any more."""


class Stop:
    """Called by a job every now and then; raises :class:`Stopped` once the job is to end."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """End the job at its next call."""
        self._event.set()

    def __call__(self) -> None:
        if self._event.is_set():
            raise Stopped


class Worker:
    """Runs jobs one after the other.

    A thread cannot be killed: a job ends early only where it calls its :class:`Stop`. Until then it keeps its place,
    while its request has long been answered.

    Args:
        waiting: jobs that may wait while one runs.
        seconds: from a request's arrival to its job's end, waiting included.
    """

    def __init__(self, waiting: int, seconds: float):
        self.waiting, self.seconds = waiting, seconds
        self.jobs = 0
        self._last_job = 1.0  # seconds
        self._pool = ThreadPoolExecutor(1, "model")

    async def run(self, job: Callable[[Stop], Result], start: float, gone: Callable[[], Awaitable[None]]) -> Result:
        """Return the job's result.

        Args:
            job: gets a :class:`Stop`.
            start: when the request arrived, by ``time.monotonic``.
            gone: returns when nobody wants the result any more.

        Raises:
            Refusal: too many wait, or time is up.
            Stopped: ``gone`` came first.
        """
        if self.jobs > self.waiting:
            many = "1 request is" if self.jobs == 1 else f"{self.jobs} requests are"
            raise Refusal(503, "busy", f"{many} being served or waiting: try later.", self.delay())
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
        """Return seconds after which there may be room, going by the last job."""
        return max(1, round(self._last_job * max(1, self.jobs)))

    def close(self) -> None:
        """Wait for the job that runs; jobs end with the requests that wait for them."""
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
