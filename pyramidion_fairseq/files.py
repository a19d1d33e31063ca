"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import os
from typing import BinaryIO, Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], temporary: str) -> Iterator[BinaryIO]:
    """Write a file beside its place and rename it when it is done: an older one of that name stays until then.

    Args:
        path: the file's place.
        temporary: in the same folder; overwritten where it is left from a killed run.

    Raises:
        OSError: the folder is missing, not writable or full; nothing is left behind.
    """
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
