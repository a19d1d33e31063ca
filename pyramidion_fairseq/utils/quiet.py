"""Logging stays as it was while fairseq is imported, and fairseq's speech tasks do not ask for tensorboardX."""

from __future__ import annotations

import contextlib
import logging
from typing import Iterator

#: Says while it is imported, of level INFO, that speech would need tensorboardX.
SPEECH = "fairseq.tasks.text_to_speech"


@contextlib.contextmanager
def unconfigured_logging() -> Iterator[None]:
    """Keep what is imported inside from configuring the root logger, and from asking for packages of speech.

    Several modules of fairseq call ``logging.basicConfig``, one with level DEBUG, and which comes first depends on the
    order in which the disk lists them. Whoever imports the plugin would find other packages' messages on stderr. A
    root logger with a handler is left alone by ``basicConfig``; stock commands have given it one before.
    """
    root, speech = logging.getLogger(), logging.getLogger(SPEECH)
    handler = logging.lastResort or logging.NullHandler()  # warnings to stderr, as without any handler
    configured, level = bool(root.handlers), speech.level
    if not configured:
        root.addHandler(handler)
    speech.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        speech.setLevel(level)
        if not configured:
            root.removeHandler(handler)
