"""Open files as byte streams (plain, gzip or a member of a zip) and read them line by line in bounded memory."""

import contextlib
import gzip
import os
import zipfile
import zlib
from typing import Any, Iterator, List, Optional, Tuple

from ..errors import PyramidionError
from ..text.reading import CR_ENDS, GZIP_MAGIC, MOST_BYTES, SAMPLE_BYTES, check_is_text, ends_in_cr
from ..utils.files import is_pipe_or_device
from .errors import PrepareError

MAX_LINE_BYTES = MOST_BYTES
PASS_OVER_BYTES = 1 << 20
ZIP_MAGIC, PARQUET_MAGIC = b"PK\x03\x04", b"PAR1"


def magic(path: str) -> bytes:
    """Return the first four bytes of a file; raise PrepareError if it cannot be read, or not twice (a pipe)."""
    try:
        if is_pipe_or_device(path):
            raise PrepareError(
                f"{path} is not a regular file (a pipe?) and cannot be read twice: write it to a file first"
            )
        with open(path, "rb") as stream:
            return stream.read(4)
    except IsADirectoryError:
        raise PrepareError(f"{path} is a folder: give the files in it instead") from None
    except OSError as error:
        raise PrepareError(f"cannot read {path}: {error.strerror or error}") from None


def zip_members(path: str) -> List[str]:
    """Return the names of the files in a zip, without folders and the extra files of macOS."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise PrepareError(f"cannot read {path}: {error}; it may be damaged, download it again") from None
    return [n for n in names if not n.startswith("__MACOSX/") and not n.rsplit("/", 1)[-1].startswith("._")]


@contextlib.contextmanager
def open_stream(path: str, member: Optional[str] = None) -> Iterator[Any]:
    """Open ``path``, or ``member`` of the zip ``path``, for reading bytes.

    gzip is detected from the content. Nothing is extracted to disk.

    Raises:
        PrepareError: the file cannot be read, or turns out to be truncated or damaged while it is read.
    """
    name = path if member is None else f"{path}:{member}"
    try:
        with contextlib.ExitStack() as stack:
            if member is not None:
                yield stack.enter_context(stack.enter_context(zipfile.ZipFile(path)).open(member))
            elif magic(path)[:2] == GZIP_MAGIC:
                yield stack.enter_context(gzip.open(path, "rb"))
            else:
                yield stack.enter_context(open(path, "rb"))
    except EOFError:
        raise PrepareError(f"{name} is truncated: download it again") from None
    except (zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, NotImplementedError) as error:
        raise PrepareError(f"{name} is damaged ({error}); download it again") from None
    except RuntimeError as error:  # zipfile raises this for an encrypted member
        if "encrypted" not in str(error):
            raise
        raise PrepareError(f"{name} is encrypted: unpack it first") from None


def bounded_lines(stream: Any, limit: Optional[int] = None) -> Iterator[Tuple[int, Optional[bytes]]]:
    r"""Yield (line number from 1, line with its ``\n``), with None for a line of more than ``limit`` bytes.

    A line that is too long is skipped in pieces, so that memory stays bounded for any file. Lines end only at ``\n``;
    other separators are part of the text. ``limit`` is :data:`MAX_LINE_BYTES` by default.
    """
    limit = MAX_LINE_BYTES if limit is None else limit
    number = 0
    while True:
        line = stream.readline(limit + 1)
        if not line:
            return
        number += 1
        if len(line) <= limit:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(PASS_OVER_BYTES)
        yield number, None


def refuse_other_files(path: str, member: Optional[str] = None) -> None:
    r"""Raise PrepareError for a file that is not UTF-8 text, or whose lines end in ``\r`` alone.

    The latter would be read as a single line.
    """
    name = path if member is None else f"{path}:{member}"
    with open_stream(path, member) as stream:
        start = stream.read(SAMPLE_BYTES)
    try:
        check_is_text(start, name)
    except PyramidionError as error:
        raise PrepareError(str(error)) from None
    with open_stream(path, member) as stream:
        lines = stream.readline(MAX_LINE_BYTES), stream.readline(MAX_LINE_BYTES)
    if ends_in_cr(*lines):
        raise PrepareError(f"{name}: {CR_ENDS}")


def signature(path: str) -> List[object]:
    """Return a fingerprint of a file that does not require reading it.

    Returns:
        Absolute path, size in bytes and modification time in ns.
    """
    state = os.stat(path)
    return [os.path.abspath(path), state.st_size, state.st_mtime_ns]
