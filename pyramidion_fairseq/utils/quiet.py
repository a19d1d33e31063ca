"""Logging stays as it was while fairseq is imported."""

from __future__ import annotations

import contextlib
import logging
from typing import Iterator


@contextlib.contextmanager
def unconfigured_logging() -> Iterator[None]:
    """Keep what is imported inside from configuring the root logger.

    Several modules of fairseq call ``logging.basicConfig``, one with level DEBUG, and which comes first depends on the
    order in which the disk lists them. Whoever imports the plugin would find other packages' messages on stderr. A
    root logger with a handler is left alone by ``basicConfig``; stock commands have given it one before.
    """
    root = logging.getLogger()
    if root.handlers:
        yield
        return
    handler = logging.lastResort or logging.NullHandler()  # warnings to stderr, as without any handler
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
