"""Files with one text a line, and the mistakes that are made with them."""

from __future__ import annotations

import io
import json
import logging
import os
import re
from pathlib import Path
from typing import Iterable, Sequence

from ..errors import PyramidionError
from ..text.reading import CR_ENDS, GZIP_MAGIC, SAMPLE_BYTES, check_is_text, ends_in_cr, starts_as_array
from ..utils.files import is_same_file, write_text

logger = logging.getLogger(__name__)

_REFERENCE = re.compile(r"(?<![a-z])(refs?|references?|gold|targets?|tgt)(?![a-z])")
_HYPOTHESIS = re.compile(
    r"(?<![a-z])(hyps?|hypothes[ei]s|generated?|pred|predictions?|system|outputs?|summary|summaries)(?![a-z])"
)
_GENERATE_LOG = re.compile(r"[STHDP]-\d+\t")
# Every character at which some tool ends a line: what str.splitlines() does, and the tabulator of tables.
_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


def without_line_breaks(text: str) -> str:
    """Return the text with a space for everything that could be taken for the end of a line."""
    return _BREAKS.sub(" ", text).strip()


def read_lines(path: str | os.PathLike[str], blank: int | None = None) -> list[str]:
    """Return lines of a UTF-8 file, split at newlines only, without the carriage returns of Windows.

    Args:
        path: the file.
        blank: lines that the file may have without any text in it, as summaries that are all empty are.

    Raises:
        PyramidionError: there is no such file, it is empty or not UTF-8, or it is fairseq-generate's output, JSON
            lines, a JSON array, a table or an archive.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise PyramidionError(f"cannot read {path}: {error.strerror}") from None
    if not content.strip() and content.count(b"\n") != blank:
        raise PyramidionError(f"{path} is empty")
    _refuse_other_formats(content, str(path))
    start = io.BytesIO(content)
    if ends_in_cr(start.readline(), start.readline()):
        raise PyramidionError(f"{path}: {CR_ENDS}")
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    texts = []
    for number, line in enumerate(lines, start=1):
        try:
            texts.append(line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r"))
        except UnicodeDecodeError as error:
            raise PyramidionError(
                f"{path}, line {number}: not UTF-8 ({error.reason} at byte {error.start}); convert it with iconv"
            ) from None
    if sum(bool(_GENERATE_LOG.match(text)) for text in texts) > len(texts) / 2:
        raise PyramidionError(f"{path} is output of fairseq-generate: make it summaries with pyramidion-summaries")
    if sum(map(_is_object, texts)) > len(texts) / 2:
        raise PyramidionError(f"{path} is JSON lines: write one text a line instead (jq -r .FIELD)")
    return texts


def _refuse_other_formats(content: bytes, name: str) -> None:
    """Raise PyramidionError for what has no text a line: an archive, UTF-16, a JSON array, a table by its name."""
    if content.startswith(GZIP_MAGIC):
        raise PyramidionError(f"{name} is compressed: unpack it first (gunzip)")
    check_is_text(content[:SAMPLE_BYTES], name)
    if name.lower().endswith((".csv", ".tsv")):
        raise PyramidionError(f"{name} is a table (CSV or TSV) by its name: write one text a line, to a .txt")
    if starts_as_array(content[:SAMPLE_BYTES].decode("utf-8-sig", errors="replace")):
        try:
            json.loads(content)
        except (ValueError, RecursionError):  # a text that begins so
            return
        raise PyramidionError(f"{name} is one JSON array: write one text a line instead (jq -r '.[]')")


def _is_object(text: str) -> bool:
    """Return whether a line is a JSON object."""
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def write_lines(path: str | os.PathLike[str], texts: Iterable[str]) -> None:
    """Write one text a line, as :func:`write_text` does."""
    write_text(path, "".join(f"{without_line_breaks(text)}\n" for text in texts))


def check_roles(references: str | os.PathLike[str], hypotheses: str | os.PathLike[str]) -> None:
    """Refuse files whose names say that they stand in each other's place, and one file in both places.

    Raises:
        PyramidionError: so it is.
    """
    if is_same_file(references, hypotheses):
        raise PyramidionError(f"{references} and {hypotheses} are the same file: its score would be 100")
    first, second = Path(references).name.lower(), Path(hypotheses).name.lower()
    looks_swapped = _HYPOTHESIS.search(first) and _REFERENCE.search(second)
    if looks_swapped and not (_REFERENCE.search(first) or _HYPOTHESIS.search(second)):
        raise PyramidionError(
            f"references come first, hypotheses second: {references} looks like hypotheses and {hypotheses} like "
            "references; if they are not, rename them"
        )


def check_texts(references: Sequence[str], hypotheses: Sequence[str], names: tuple[object, object]) -> None:
    """Refuse texts that do not belong together, and warn of empty ones.

    Raises:
        PyramidionError: not as many hypotheses as references.
    """
    if len(references) != len(hypotheses):
        raise PyramidionError(
            f"{names[0]} has {len(references):,} lines and {names[1]} has {len(hypotheses):,}: they must stand for "
            "the same documents in the same order (pyramidion-summaries keeps a line for each)"
        )
    for name, texts in zip(names, (references, hypotheses)):
        empty = [number for number, text in enumerate(texts, start=1) if not text.strip()]
        if empty:
            lines = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
            logger.warning(f"{name}: {len(empty):,} of {len(texts):,} lines are empty and score 0 (line {lines})")
    if list(references) == list(hypotheses):
        logger.warning(f"{names[0]} and {names[1]} hold the same texts")
