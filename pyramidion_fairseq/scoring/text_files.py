"""Read and write files with one text per line, and detect files of other kinds."""

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
# All characters at which some tool splits lines: those of str.splitlines(), and the tab of tables.
_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


def without_line_breaks(text: str) -> str:
    """Replace tabs and everything that may be read as the end of a line by a space."""
    return _BREAKS.sub(" ", text).strip()


def read_lines(path: str | os.PathLike[str], blank: int | None = None) -> list[str]:
    """Return the lines of a UTF-8 file, split only at LF, without the CR of Windows.

    Args:
        path: the file.
        blank: number of lines for which a file without any text is accepted, for summaries that are all empty.

    Raises:
        PyramidionError: the file does not exist, is empty or not UTF-8, or is output of fairseq-generate, JSON lines,
            a JSON array, a table or an archive.
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
        raise PyramidionError(f"{path} is output of fairseq-generate: extract the summaries with pyramidion-summaries")
    if sum(map(_is_object, texts)) > len(texts) / 2:
        raise PyramidionError(f"{path} is JSON lines: write one text per line instead (jq -r .FIELD)")
    return texts


def _refuse_other_formats(content: bytes, name: str) -> None:
    """Raise PyramidionError for a compressed file, UTF-16, a JSON array, or a table (by its name)."""
    if content.startswith(GZIP_MAGIC):
        raise PyramidionError(f"{name} is compressed: unpack it first (gunzip)")
    check_is_text(content[:SAMPLE_BYTES], name)
    if name.lower().endswith((".csv", ".tsv")):
        raise PyramidionError(
            f"{name} is a table (CSV or TSV), judging by its name: write one text per line to a .txt file"
        )
    if starts_as_array(content[:SAMPLE_BYTES].decode("utf-8-sig", errors="replace")):
        try:
            json.loads(content)
        except (ValueError, RecursionError):  # plain text that only begins like an array
            return
        raise PyramidionError(f"{name} is one JSON array: write one text per line instead (jq -r '.[]')")


def _is_object(text: str) -> bool:
    """Return whether a line is a JSON object."""
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def write_lines(path: str | os.PathLike[str], texts: Iterable[str]) -> None:
    """Write one text per line with :func:`write_text`; lone surrogates, which JSON may contain, become escapes."""
    content = "".join(f"{without_line_breaks(text)}\n" for text in texts)
    write_text(path, content.encode("utf-8", "backslashreplace").decode("utf-8"))


def check_roles(references: str | os.PathLike[str], hypotheses: str | os.PathLike[str]) -> None:
    """Check that references and hypotheses are not the same file, and not swapped, judging by their names.

    Raises:
        PyramidionError: they are the same file, or seem to be swapped.
    """
    if is_same_file(references, hypotheses):
        raise PyramidionError(f"{references} and {hypotheses} are the same file: its score would be 100")
    first, second = Path(references).name.lower(), Path(hypotheses).name.lower()
    looks_swapped = _HYPOTHESIS.search(first) and _REFERENCE.search(second)
    if looks_swapped and not (_REFERENCE.search(first) or _HYPOTHESIS.search(second)):
        raise PyramidionError(
            f"the files seem to be swapped (references come first): {references} looks like hypotheses and "
            f"{hypotheses} like references; if this is wrong, rename them"
        )


def check_texts(references: Sequence[str], hypotheses: Sequence[str], names: tuple[object, object]) -> None:
    """Check that there are as many hypotheses as references, and warn of empty or identical texts.

    Raises:
        PyramidionError: the numbers of hypotheses and references differ.
    """
    if len(references) != len(hypotheses):
        raise PyramidionError(
            f"{names[0]} has {len(references):,} lines and {names[1]} has {len(hypotheses):,}: both must have one "
            "line per document, in the same order (pyramidion-summaries writes one line per document)"
        )
    for name, texts in zip(names, (references, hypotheses)):
        empty = [number for number, text in enumerate(texts, start=1) if not text.strip()]
        if empty:
            lines = ", ".join(map(str, empty[:5])) + (", ..." if len(empty) > 5 else "")
            logger.warning(f"{name}: {len(empty):,} of {len(texts):,} lines are empty and score 0 (line {lines})")
    if list(references) == list(hypotheses):
        logger.warning(f"{names[0]} and {names[1]} contain the same texts")
