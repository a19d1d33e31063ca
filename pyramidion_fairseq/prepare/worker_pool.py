"""Map a function in worker processes: ordered results, few items in flight, no worker outlives the main process."""

import collections
import os
import signal
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Callable, Deque, Generator, Iterable, Optional, Tuple

from .errors import PrepareError

IN_FLIGHT_PER_WORKER = 3


def ordered_map(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    workers: int,
    initializer: Optional[Callable[..., None]] = None,
    initargs: Tuple[Any, ...] = (),
) -> Generator[Any, None, None]:
    """Yield ``function(item)`` for each item, in order, computed by ``workers`` processes (1: in this process).

    ``items`` is consumed only a few items ahead of the results.

    Raises:
        PrepareError: a worker process died, for instance because it ran out of memory.
    """
    if workers <= 1:
        if initializer is not None:
            initializer(*initargs)
        yield from map(function, items)
        return
    pool = ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(os.getpid(), initializer, initargs))
    pending: Deque[Future[Any]] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= workers * IN_FLIGHT_PER_WORKER:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise PrepareError("a worker process died (out of memory?): run again with fewer --workers") from None
    finally:
        for future in pending:
            future.cancel()
        pool.shutdown(wait=True)


def _start_worker(parent: int, initializer: Optional[Callable[..., None]], initargs: Tuple[Any, ...]) -> None:
    # Ctrl-C reaches the whole process group, but only the main process handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    if initializer is not None:
        initializer(*initargs)


def _exit_with_parent(parent: int) -> None:
    # After SIGKILL the main process cannot stop its workers, which would wait for work for ever.
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
