"""Atomic writes, and safe reads of files that somebody else names or creates."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any, BinaryIO, Iterator

from ..errors import PyramidionError

if sys.platform != "win32":
    import fcntl

#: Folders of devices and of open files. Files in them are written to directly, because replacing them would affect all
#: processes.
DEVICES = ("/dev", "/dev/fd", "/proc/self/fd")


def is_same_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Return whether two paths name the same existing file."""
    with contextlib.suppress(OSError):
        return os.path.samefile(path, other)
    return False


def is_pipe_or_device(path: str | os.PathLike[str]) -> bool:
    """Return whether a path exists and is neither a file nor a folder."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def is_written_into(path: str | os.PathLike[str]) -> bool:
    """Return whether output to a path is written to it directly: to a pipe, a device, or an open file."""
    return is_pipe_or_device(path) or os.path.dirname(os.path.abspath(path)) in DEVICES


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], temporary: str | None = None) -> Iterator[BinaryIO]:
    """Write a file under a temporary name, and rename it when it is complete. Until then, an older file is kept.

    Args:
        path: final name of the file. Pipes and devices, such as /dev/null and /dev/stdout, are written to directly. If
            it is a link, its target is replaced, unless ``temporary`` is given.
        temporary: temporary name in the same folder, by default one that no other process uses. A file of this name
            left by a killed run is replaced. If it is given, ``path`` is private to the program, and is replaced even
            if it is a pipe.

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
        with open(temporary, "xb") as file:  # "x": never follows a link that somebody created
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


def check_empty(folder: Path) -> None:
    """Raise PyramidionError if an output folder exists and is not an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PyramidionError(f"{folder} exists: remove it, or choose another name")


@contextlib.contextmanager
def complete_folder(folder: Path) -> Iterator[None]:
    """Create a folder to write to. If an error interrupts the writing, remove all that is in it.

    Args:
        folder: a folder that is empty or does not exist; in the latter case it is removed after an error.

    Raises:
        PyramidionError: the folder is not empty.
        OSError: the folder cannot be created.
    """
    check_empty(folder)
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        if not existed:
            folder.rmdir()
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 file atomically; see :func:`atomic_write`.

    Raises:
        OSError: the folder is missing, not writable or full; nothing is left behind.
        UnicodeEncodeError: the text has half of a surrogate pair.
    """
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def lock(path: str | os.PathLike[str]) -> int | None:
    """Open and lock a file or folder until the descriptor is closed; return None if another process holds the lock.

    Nothing is written. If the system or file system has no locks, the file is opened without a lock.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except OSError:  # for instance on some network file systems
        pass
    return file


def check_plain_name(name: Any, where: object) -> str:
    """Return a name that was read from a file, if it names something directly in a folder.

    Raises:
        PyramidionError: it is not a string, or leads anywhere else. ``where`` describes the file it was read from.
    """
    if not isinstance(name, str) or not name.strip(".") or any(character in name for character in "/\\:\0"):
        raise PyramidionError(f"{where} names {name!r:.200}, which is no plain name of a file beside it")
    return name


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise an error for pipes and devices, which could be read without end or block. Missing files pass.

    Raises:
        PyramidionError: it exists and is neither a regular file nor a link to one.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise PyramidionError(f"{path} is no regular file")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file. Raises PyramidionError unless it is a regular file in UTF-8."""
    check_regular(path)
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise PyramidionError(f"{path} is damaged: it is no text in UTF-8") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        PyramidionError: the file does not hold a JSON object, or is not a regular file.
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
    """Read a JSON object as :func:`read_json` does, or return an empty one if the file does not exist."""
    return read_json(path) if path.is_file() else {}
