"""Reliable SIGINT: code that runs during imports can swallow a KeyboardInterrupt or convert it to another error."""

from __future__ import annotations

import contextlib
import signal
import threading
from types import FrameType
from typing import Iterator

#: One entry per received SIGINT.
_received: list[int] = []


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Record SIGINT within the context, and raise KeyboardInterrupt for any error that follows one.

    Use :func:`raise_swallowed` to detect a SIGINT that was swallowed. Nothing changes if the program has its own
    handler, or outside of its main thread.
    """
    _received.clear()
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    except Exception:
        raise_swallowed()
        raise
    finally:
        if ours and signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def raise_swallowed() -> None:
    """Raise KeyboardInterrupt if a SIGINT was received and swallowed."""
    if _received:
        raise KeyboardInterrupt
