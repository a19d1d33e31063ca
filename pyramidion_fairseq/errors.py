"""Errors that a user can cause: one clear line that says what is wrong and what to do."""

import os
import sys


class PyramidionError(ValueError):
    """Bad input from the user: options, data or a checkpoint. The message is one line, meant to be read as it is."""


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
