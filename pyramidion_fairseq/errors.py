"""Errors that a user can cause: one clear line that says what is wrong and what to do."""

import os
import sys
from contextlib import contextmanager
from typing import Iterator


class PyramidionError(ValueError):
    """Bad input from the user: options, data or a checkpoint. The message is one line, meant to be read as it is."""


@contextmanager
def reading(what: object, verb: str = "read") -> Iterator[None]:
    """Around what reads a file that somebody else made, whose content may be anything: its errors in one line.

    Raises:
        PyramidionError: "WHAT cannot be VERB: ..." of any error but OSError, MemoryError and PyramidionError itself.
    """
    try:
        yield
    except (PyramidionError, OSError, MemoryError):
        raise
    except Exception as error:
        raise PyramidionError(f"{what} cannot be {verb}: {type(error).__name__}: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """Its message on one line, cut after 300 characters; its type where it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."


def install_excepthook() -> None:
    """Make fairseq's commands end with the one line of a :class:`PyramidionError`, without its traceback.

    Applies to processes that were started as a ``fairseq-*`` command and to no other program that imports the
    package. Exit status is 1, as for any uncaught exception. ``PYRAMIDION_TRACEBACK=1`` keeps the traceback.
    """
    is_fairseq_command = os.path.basename(sys.argv[0] if sys.argv else "").startswith("fairseq-")
    if not is_fairseq_command or os.environ.get("PYRAMIDION_TRACEBACK"):
        return
    previous = sys.excepthook

    def hook(kind, error, traceback):
        if issubclass(kind, PyramidionError):
            sys.stderr.write(f"error: {error}\n")
        else:
            previous(kind, error, traceback)

    sys.excepthook = hook
