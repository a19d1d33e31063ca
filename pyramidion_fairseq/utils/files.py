"""Files that are either whole or not there, and files that somebody else names or puts there."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any, BinaryIO, Iterator

from ..errors import PyramidionError

if sys.platform != "win32":
    import fcntl

#: Folders of devices and of what is open already: written into, since a file in their place would be for everybody.
DEVICES = ("/dev", "/dev/fd", "/proc/self/fd")


def is_same_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Return whether two names are of one file that is there."""
    with contextlib.suppress(OSError):
        return os.path.samefile(path, other)
    return False


def is_pipe_or_device(path: str | os.PathLike[str]) -> bool:
    """Return whether what has this name is there, and neither a file nor a folder."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def is_written_into(path: str | os.PathLike[str]) -> bool:
    """Return whether output goes into what has this name: a pipe, a device, or what is open already."""
    return is_pipe_or_device(path) or os.path.dirname(os.path.abspath(path)) in DEVICES


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], temporary: str | None = None) -> Iterator[BinaryIO]:
    """Write a file under another name and rename it when it is whole: an older one of that name stays until then.

    Args:
        path: the file's name at the end; a pipe or device, such as /dev/null and /dev/stdout, is written into. Where
            it is a link, the file that it leads to is replaced, unless ``temporary`` is given.
        temporary: its name until then, in the same folder; replaced where it is left from a killed run. One that no
            other process takes unless given. Files with a given one are a program's own: a pipe in the place of such a
            file is replaced, since nobody may read from it.

    Raises:
        OSError: the folder is missing, not writable or full; nothing is left behind.
    """
    path = os.path.abspath(path)
    if temporary is None and is_written_into(path):
        with open(path, "ab") as file:
            yield file
        return
    if temporary is None:
        path = os.path.realpath(path)
        temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        with open(temporary, "xb") as file:  # never through a link that somebody put there
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 file, all or nothing: see :func:`atomic_write`.

    Raises:
        OSError: the folder is missing, not writable or full; nothing is left behind.
        UnicodeEncodeError: the text has half of a surrogate pair.
    """
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def lock(path: str | os.PathLike[str]) -> int | None:
    """Return an open file or folder that is locked until it is closed; None if another process holds the lock.

    Nothing is written. Where the system or the file system has no locks, it is open and not locked.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except OSError:  # as of some file systems of several machines
        pass
    return file


def check_plain_name(name: Any, where: object) -> str:
    """Return a name that was read from a file, if it is that of something directly in a folder.

    Raises:
        PyramidionError: it is no text, or leads anywhere else; ``where`` says what it was read from.
    """
    if not isinstance(name, str) or not name.strip(".") or any(character in name for character in "/\\:\0"):
        raise PyramidionError(f"{where} names {name!r:.200}, which is no plain name of a file beside it")
    return name


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what would be read without end, or never: pipes and devices. What is not there passes.

    Raises:
        PyramidionError: it is no regular file, nor a link to one.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise PyramidionError(f"{path} is no regular file")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file; PyramidionError where it is none in UTF-8, or no regular file."""
    check_regular(path)
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise PyramidionError(f"{path} is damaged: it is no text in UTF-8") from None


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        PyramidionError: the file holds none, or is no regular file.
    """
    check_regular(path)
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PyramidionError(f"{path} is no JSON: {error}") from None
    if not isinstance(read, dict):
        raise PyramidionError(f"{path} cannot be read: it is no JSON object")
    return read


def read_json_if_there(path: Path) -> dict[str, Any]:
    """Return a JSON object as :func:`read_json` does, an empty one where there is no file."""
    return read_json(path) if path.is_file() else {}
