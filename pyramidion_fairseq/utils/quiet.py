"""Logging stays as it was while fairseq is imported; warnings of other packages that say nothing to a user."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import Iterator, Tuple, Type

#: Says while it is imported, of level INFO, that speech would need tensorboardX.
SPEECH = "fairseq.tasks.text_to_speech"
#: A warning to leave out: (message, category, module), as of ``warnings.filterwarnings``.
Kind = Tuple[str, Type[Warning], str]
#: Torch's, of the two masks that fairseq's decoder gives it.
OF_THE_DECODER: Kind = ("Support for mismatched key_padding_mask", UserWarning, "")
#: Those that say nothing to who gave a command.
WARNINGS: tuple[Kind, ...] = (
    ("", UserWarning, r"hydra\."),
    (r"\s*'\w+' is validated against ConfigStore schema", UserWarning, ""),
    ("'pin_memory' argument is set as true but no accelerator", UserWarning, ""),
    (r"`torch\.cuda\.amp\.", FutureWarning, ""),
    OF_THE_DECODER,
)


def leave_out(*kinds: Kind) -> None:
    """Show no warning of these kinds from now on."""
    for message, category, module in kinds:
        warnings.filterwarnings("ignore", message, category, module)


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
