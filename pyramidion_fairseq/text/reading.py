"""Read documents from files: plain text, JSON lines or arXiv/PubMed JSON lines, optionally gzipped."""

from __future__ import annotations

import codecs
import gzip
import io
import logging
import re
import sys
import zlib
from typing import Any, BinaryIO, Iterator

from ..errors import PyramidionError
from .documents import TEXT_FIELDS, Document
from .json_records import describe, parse_record

logger = logging.getLogger(__name__)

FORMATS = ("auto", "text", "document", "jsonl")
MOST_BYTES = 64 << 20
#: Message for a file of which :func:`ends_in_cr` is true.
CR_ENDS = "its lines end in CR alone: convert the line ends to LF first (tr '\\r' '\\n')"
#: Bytes at the start of a file that are checked to be text; fewer of a pipe, see :class:`_Sampled`.
SAMPLE_BYTES = 1 << 16
#: Share of characters that are not UTF-8 above which a file is refused.
MOST_INVALID = 0.1
#: First bytes of a gzipped file.
GZIP_MAGIC = b"\x1f\x8b"
_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BINARY = (b"%PDF", b"PK\x03\x04", b"PAR1", b"ARROW1")
# bzip2, xz and zstd: their bytes may have as few control characters as text.
_COMPRESSED = (*(b"BZh%d1AY&SY" % level for level in range(1, 10)), b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
# A JSON array of objects, strings or such arrays. Plain text may begin with "[1]", "[CLS]" or "[[File:".
_ARRAY = re.compile(r'\s*(?:\[\s*)+(?:[{"]|\]\s*$)')
_COLUMN = re.compile(r"[^\W\d][\w.-]{0,39}")
_BLANK = codecs.BOM_UTF8 + b" \t\r\n"
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\v\x1b")) + b"\x7f"


def read_documents(path: str, kind: str = "auto", field: str | None = None, whole: bool = False) -> Iterator[Document]:
    """Yield the documents of a file.

    Invalid UTF-8 is replaced by U+FFFD, with a warning.

    Args:
        path: the file; "-" is standard input.
        kind: "text": one document per line; "document": the whole file is one document; "jsonl": one JSON object per
            line; "auto": "jsonl" if the file starts with a brace, otherwise "text", which is logged. "auto" refuses
            JSON arrays and tables, "jsonl" JSON arrays.
        field: field of the JSON objects that contains the text.
        whole: whether "auto" means "document" instead of "text".

    Raises:
        PyramidionError: the file cannot be read or is not text, a line is not a document, or ``field`` is given for
            plain text.
    """
    name = "standard input" if path == "-" else path
    try:
        with _open(path) as stream:
            start = stream.peek(SAMPLE_BYTES)
            check_is_text(start, name)
            if kind in ("auto", "jsonl"):
                _refuse_other_formats(start, kind, field, name)
            if kind == "auto":
                brace = start.lstrip(_BLANK).startswith(b"{")
                kind = "jsonl" if brace else ("document" if whole else "text")
                if kind == "text" and b"\n" in start.strip():
                    logger.info(f"{name}: each line is a document; --input-format document reads the file as one")
            if field is not None and kind != "jsonl" and start.strip(_BLANK):
                raise PyramidionError(f"--field requires JSON lines, but {name} is read as plain text: leave it out")
            yield from _documents(stream, kind, field, name)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PyramidionError(f"{name} is damaged: {error}") from None
    except OSError as error:
        raise PyramidionError(f"cannot read {name}: {error.strerror or error}") from None


class _Sampled(io.RawIOBase):
    """A stream whose first read fills the buffer; of a pipe or terminal, until there is a line that is not blank."""

    def __init__(self, stream: Any, waits: bool):
        self.stream, self.waits, self.first = stream, waits, True

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer; return their number."""
        start = self.stream.read1(len(buffer))
        if self.first:
            self.first, piece = False, start
            while piece and not (self.waits and b"\n" in start.lstrip(_BLANK)):
                piece = self.stream.read1(len(buffer) - len(start))
                start += piece
        buffer[: len(start)] = start
        return len(start)

    def close(self) -> None:
        """Close the stream."""
        self.stream.close()
        super().close()


def _open(path: str) -> io.BufferedReader:
    """Open a file, unpacked if it is gzipped; the first ``peek`` returns enough to judge the format by."""
    if path == "-" and sys.stdin is None:
        raise PyramidionError("standard input is closed: give a file with --input")
    raw: Any = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115 - closed by the caller
    stream, waits = raw, not raw.seekable()
    if raw.peek(2)[:2] == GZIP_MAGIC:
        stream = gzip.GzipFile(fileobj=raw)
        stream.myfileobj = raw  # closed with it
    return io.BufferedReader(_Sampled(stream, waits), SAMPLE_BYTES)


def check_is_text(start: bytes, name: str) -> None:
    """Raise PyramidionError if bytes are not UTF-8 text but a PDF, archive, image, Parquet file or UTF-16."""
    if start.startswith(_BOMS):
        raise PyramidionError(f"{name} is UTF-16: save it as UTF-8")
    strange = len(start) - len(start.translate(None, _CONTROL))
    if start.startswith(_BINARY + _COMPRESSED) or 10 * strange > len(start):
        raise PyramidionError(f"{name} is not a text file (a PDF, archive or image?): extract its text first")
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(start)  # the last character may be incomplete
    if text.count("\N{REPLACEMENT CHARACTER}") > MOST_INVALID * len(text):
        raise PyramidionError(f"{name} is not UTF-8 text: convert it first (iconv -f ENCODING -t UTF-8)")


def starts_as_array(text: str) -> bool:
    """Return whether a text begins like a JSON array of objects or strings."""
    return _ARRAY.match(text) is not None


def starts_as_table(text: str, field: str | None = None) -> bool:
    """Return whether the first line is a table header with the column ``field``, by default a usual text field."""
    header = text.lstrip().split("\n", 1)[0]
    wanted = {name.casefold() for name in ([field] if field else TEXT_FIELDS)}
    for delimiter in ",;\t":
        columns = [column.strip().strip('"').casefold() for column in header.split(delimiter)]
        if len(columns) > 1 and wanted & set(columns) and all(map(_COLUMN.fullmatch, columns)):
            return True
    return False


def _refuse_other_formats(start: bytes, kind: str, field: str | None, name: str) -> None:
    """Raise PyramidionError for a JSON array or a table, whose lines are not documents."""
    text = start.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="replace")
    what = instead = None
    if starts_as_array(text):
        what, instead = "one JSON array", "one object per line instead (jq -c '.[]')"
    elif kind == "auto" and (name.lower().endswith(_TABLES) or starts_as_table(text, field)):
        what, instead = "a table (CSV or TSV)", "each row as a JSON object on its own line instead"
    if what:
        raise PyramidionError(f"{name} is {what}: write {instead}; for plain text use --input-format text")


def _documents(stream: BinaryIO, kind: str, field: str | None, name: str) -> Iterator[Document]:
    if kind == "document":
        content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise PyramidionError(f"{name} is larger than {MOST_BYTES >> 20} MB")
        yield Document.from_text(decode(content, name))
        return
    for where, text in decoded_lines(stream, name):
        if kind == "text":
            yield Document.from_text(text)
        elif text.strip():
            yield _record(text, field, where)


def decoded_lines(stream: BinaryIO, name: str) -> Iterator[tuple[str, str]]:
    """Yield (location, text) of each line. Only LF ends a line, and the text includes it.

    Invalid UTF-8 is replaced by U+FFFD, with a warning.

    Raises:
        PyramidionError: a line is longer than :data:`MOST_BYTES`, or the lines end in CR alone.
    """
    for number, line in enumerate(_lines(stream, name), start=1):
        where = f"{name}, line {number}"
        if len(line) > MOST_BYTES:
            raise PyramidionError(f"{where} is longer than {MOST_BYTES >> 20} MB")
        yield where, decode(line, where)


def _lines(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield lines with their LF, split after :data:`MOST_BYTES` + 1; raise PyramidionError if they end in CR alone."""
    ahead = [stream.readline(MOST_BYTES + 1)]
    if b"\r" in ahead[0].rstrip(b"\r\n"):
        ahead.append(stream.readline(MOST_BYTES + 1))
    if ends_in_cr(*ahead):
        raise PyramidionError(f"{name}: {CR_ENDS}")
    while line := ahead.pop(0) if ahead else stream.readline(MOST_BYTES + 1):
        yield line


def ends_in_cr(first: bytes, second: bytes = b"") -> bool:
    """Return whether a file's lines end in CR alone, judging by its first two lines; the second may be empty.

    A single LF, at the end of the file or between two concatenated files, does not count. If two lines end in LF, a
    CR is part of the text.
    """
    if b"\r" in first and not first.endswith(b"\n"):
        return True
    return b"\r" in first.rstrip(b"\r\n") and not second.endswith(b"\n")


def decode(content: bytes, where: str) -> str:
    """Decode UTF-8 without its byte order mark; invalid bytes become U+FFFD, with a warning."""
    content = content[3:] if content.startswith(codecs.BOM_UTF8) else content
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        logger.warning(f"{where}: replaced invalid UTF-8 by U+FFFD")
        return content.decode("utf-8", errors="replace")


def _record(text: str, field: str | None, where: str) -> Document:
    try:
        record = parse_record(text)
    except (ValueError, RecursionError) as error:
        raise PyramidionError(f"{where} {describe(error)}; for plain text use --input-format text") from None
    try:
        return Document.from_record(record, field)
    except PyramidionError as error:
        raise PyramidionError(f"{where}: {error}; give the name of the text field with --field") from None
