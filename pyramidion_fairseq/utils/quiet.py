"""Keeps logging unchanged while fairseq is imported, and hides warnings of other packages that do not help users."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import Iterator, Tuple, Type

#: Logs at level INFO during its import that speech would need tensorboardX.
SPEECH = "fairseq.tasks.text_to_speech"
#: A warning to hide: (message, category, module), as in ``warnings.filterwarnings``.
Kind = Tuple[str, Type[Warning], str]
#: torch's warning about the two masks passed by fairseq's decoder.
OF_THE_DECODER: Kind = ("Support for mismatched key_padding_mask", UserWarning, "")
#: Warnings that do not concern users of a command.
WARNINGS: tuple[Kind, ...] = (
    ("", UserWarning, r"hydra\."),
    (r"\s*'\w+' is validated against ConfigStore schema", UserWarning, ""),
    ("'pin_memory' argument is set as true but no accelerator", UserWarning, ""),
    (r"`torch\.cuda\.amp\.", FutureWarning, ""),
    OF_THE_DECODER,
)


def leave_out(*kinds: Kind) -> None:
    """Hide warnings of these kinds from now on."""
    for message, category, module in kinds:
        warnings.filterwarnings("ignore", message, category, module)


@contextlib.contextmanager
def unconfigured_logging() -> Iterator[None]:
    """Keep imports within the context from configuring the root logger, and from asking for speech packages.

    Several modules of fairseq call ``logging.basicConfig``, one with level DEBUG, and the first one depends on the
    order in which the file system lists them. Programs that import the plugin would see other packages' messages on
    stderr. ``basicConfig`` does nothing if the root logger has a handler, which stock commands have added before.
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
