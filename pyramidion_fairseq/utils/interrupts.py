"""SIGINT that is not lost: code that is being imported can swallow a KeyboardInterrupt, or make an error of it."""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType
from typing import Iterator

#: One entry for each SIGINT that this command got.
_received: list[int] = []


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Remember SIGINT: any error that follows one is a KeyboardInterrupt. :func:`check` tells of one that was lost.

    Where the program has a handler of its own, or this is not its main thread, nothing is changed.
    """
    _received.clear()
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    except Exception:
        check()
        raise
    finally:
        if ours and signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def check() -> None:
    """Raise KeyboardInterrupt where one came and was swallowed."""
    if _received:
        raise KeyboardInterrupt
