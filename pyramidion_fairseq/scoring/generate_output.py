"""Extract summaries from the output of fairseq-generate or pyramidion-summarize: one per document, in corpus order."""

from __future__ import annotations

import json
import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import Iterator, Mapping, Sequence

from ..errors import PyramidionError
from ..text.pieces import WORD_START
from ..utils.shards import Shard, parse_shard
from .text_files import without_line_breaks

logger = logging.getLogger(__name__)

# A record on a line: kind, document, rest. There may be log lines between records.
_RECORD = re.compile(rb"([STHDPAI])-(\d+)\t(.*)", re.S)
_HISTORY = re.compile(rb"E-\d+_\d+\t")
_LOG_LINE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| |Generate \S+ with beam=|\S*Warning: |  warnings\.warn")
# A progress bar of tqdm, which may occur anywhere if standard error went to the same file.
_BAR = re.compile(rb"\r[^\r\n]{0,200}?\d+%\|[^\r\n]*?\|[^\r\n]*?\[[^\r\n\]]*\](?: *\r)?|\r +\r|\x1b\[A")


def find_outputs(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the output files among the given files and folders.

    In a folder these are fairseq-generate's ``generate-*.txt`` (``--results-path``) or pyramidion-summarize's
    ``*.jsonl``.

    Raises:
        PyramidionError: a file does not exist, or a folder has no output, or that of both commands or several splits.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(path.glob("generate-*.txt")) or sorted(path.glob("*/generate-*.txt"))
            rows = sorted(path.glob("*.jsonl"))
            if inside and rows:
                raise PyramidionError(f"{path} contains {inside[0].name} and {rows[0].name}: give the files instead")
            if rows:
                found += rows
                continue
            if not inside:
                raise PyramidionError(f"no generate-*.txt and no *.jsonl in {path}")
            if len({file.name for file in inside}) > 1:
                names = ", ".join(sorted({file.name for file in inside}))
                raise PyramidionError(f"{path} contains the output of several splits ({names}): give the file instead")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise PyramidionError(f"no such file: {path}")
    return found


def read_summaries(paths: Sequence[str | os.PathLike[str]]) -> dict[int, str]:
    """Return the best summary of each document, on one line, from the files (the shards of one run).

    The detokenised lines (``D-``) are used. If there are none, or they are not detokenised, sentencepiece's pieces are
    joined. With ``--nbest`` a document's first summary is the best one.

    Raises:
        PyramidionError: there are no summaries, a file is not UTF-8, two runs are mixed, or a shard is missing.
    """
    summaries: dict[int, str] = {}
    origin: dict[int, Path] = {}
    shards: dict[str, Path] = {}
    for path in map(Path, paths):
        found = _read_rows(path, shards) if _is_rows(path) else _read_one(path)
        for number, text in found.items():
            if summaries.get(number, text) != text:
                raise PyramidionError(
                    f"document {number} has different summaries in {origin[number]} and {path}: they are not shards "
                    "of one run"
                )
            summaries[number], origin[number] = text, path
    _check_shards(shards)
    if not summaries:
        raise PyramidionError(f"no summaries (lines D-0, H-0, ...) in {', '.join(map(str, paths))}")
    return summaries


def in_order(summaries: Mapping[int, str], count: int | None = None) -> list[str]:
    """Return one summary per document. Documents without a summary get an empty one, with a warning.

    Args:
        summaries: document number, from 0, to its summary.
        count: number of documents in the corpus. If None, the highest number determines it, and missing summaries at
            the end are not detected.

    Raises:
        PyramidionError: there are summaries of documents that the corpus does not have.
    """
    highest = max(summaries, default=-1)
    if count is None:
        count = highest + 1
        logger.warning(
            f"assuming that the corpus has {count:,} documents: give --references or --expected to check it"
        )
    if highest >= count:
        raise PyramidionError(
            f"there is a summary of document {highest}, but the corpus has only {count:,} documents (0 to "
            f"{count - 1}): is this the output of another split?"
        )
    missing = [number for number in range(count) if number not in summaries]
    if missing:
        numbers = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        logger.warning(f"{len(missing):,} of {count:,} documents have no summary; their lines are empty: {numbers}")
    return [summaries.get(number, "") for number in range(count)]


def _is_rows(path: Path) -> bool:
    """Return whether a file begins like the JSON lines of pyramidion-summarize."""
    try:
        with open(path, "rb") as file:
            return file.read(1) == b"{"
    except OSError as error:
        raise PyramidionError(f"cannot read {path}: {error.strerror}") from None


def _read_rows(path: Path, shards: dict[str, Path]) -> dict[int, str]:
    """Return the summaries of a file of ``pyramidion-summarize --format jsonl``, and add its shards to ``shards``.

    An incomplete last line, as left by a killed run, is ignored.
    """
    summaries: dict[int, str] = {}
    with open(path, "rb") as file:
        for count, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                number, text, shard = row["index"], row["summary"], row.get("shard")
                sound = type(number) is int and 0 <= number < 2**48 and isinstance(text, str)
            except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
                sound = False
            if not sound and not line.endswith(b"\n"):
                logger.warning(f"{path}, line {count}: ignored an incomplete last line")
                break
            if not sound or not isinstance(shard, (str, type(None))):
                raise PyramidionError(
                    f"{path}, line {count}: not a row of pyramidion-summarize --format jsonl with index and summary"
                )
            if number in summaries:
                raise PyramidionError(f"{path} holds more than one run (document {number} comes twice): split it")
            summaries[number] = without_line_breaks(text)
            if shard is not None:
                shards.setdefault(shard, path)
    return summaries


def _check_shards(shards: Mapping[str, Path]) -> None:
    """Raise PyramidionError if shards are missing or belong to different numbers of shards."""
    if not shards:
        return
    parsed = {parse_shard(text): path for text, path in shards.items()}
    counts = {shard.total: path for shard, path in parsed.items()}
    if len(counts) > 1:
        found = " and ".join(f"{path} ({count})" for count, path in sorted(counts.items()))
        raise PyramidionError(f"the files belong to runs with different numbers of shards: {found}")
    (count,) = counts
    missing = [f"{n}/{count}" for n in range(1, count + 1) if Shard(n, count) not in parsed]
    if missing:
        raise PyramidionError(f"shards are missing: {', '.join(missing[:10])}: give the files of all {count}")


def _read_one(path: Path) -> dict[int, str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PyramidionError(f"cannot read {path}: {error.strerror}") from None
    best: dict[str, dict[int, str]] = {"H": {}, "D": {}}
    sources: Counter[int] = Counter()
    others: list[str] = []
    for kind, number, rest in _records(content):
        if kind == "S":
            sources[number] += 1
        if kind in "ST":
            others.append(rest.decode("utf-8", errors="replace"))
        if kind not in best or number in best[kind]:
            continue
        _, tab, text = rest.partition(b"\t")
        if tab:
            try:
                best[kind][number] = text.decode("utf-8")
            except UnicodeDecodeError:
                raise PyramidionError(f"{path}: the summary of document {number} is not UTF-8") from None
    twice = [number for number, times in sources.items() if times > 1]
    if twice:
        raise PyramidionError(f"{path} holds more than one run (document {twice[0]} comes twice): split it")
    return {
        number: without_line_breaks(text) for number, text in _detokenised(best["D"], best["H"], others, path).items()
    }


def _records(content: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Yield (kind, document, rest). The text of a record continues on lines that are neither records nor log lines."""
    lines = _BAR.sub(b"", content).split(b"\n")
    whole = not lines[-1]  # otherwise the run was stopped in the middle of the last line
    open_record = None
    for line in lines[:-1]:
        match = _RECORD.fullmatch(line)
        if match or _HISTORY.match(line) or _LOG_LINE.match(line):
            if open_record:
                yield open_record
            open_record = (match[1].decode(), int(match[2]), match[3]) if match else None
        elif open_record:
            open_record = (*open_record[:2], open_record[2] + b"\n" + line)
    if open_record and (whole or open_record[0] not in "HD"):
        yield open_record


def _detokenised(
    detokenised: Mapping[int, str], hypotheses: Mapping[int, str], others: Sequence[str], path: Path
) -> dict[int, str]:
    """Return the D- lines, or text restored from the H- lines if the D- lines cannot be used.

    Args:
        detokenised: the D- lines: the H- lines after ``--bpe``.
        hypotheses: the H- lines: the pieces after ``--remove-bpe``.
        others: the S- and T- lines, documents and references, which are processed in the same way. They show which
            options were given; generated text does not, as a model may repeat a single piece.
        path: path of the log, for messages.
    """
    if _lost_spaces(detokenised, hypotheses, others):
        logger.warning(
            f"{path}: the D- lines have lost their spaces (--bpe sentencepiece and --remove-bpe sentencepiece were "
            "both given); using the H- lines"
        )
        return dict(hypotheses)
    if not detokenised and hypotheses:
        logger.warning(f"{path}: there are no D- lines; using the H- lines")
        detokenised, others = hypotheses, ()
    if _in_pieces(list(detokenised.values())) or _in_pieces(others):
        logger.warning(f"{path}: the summaries are sentencepiece pieces (--bpe was not given); joining the pieces")
        return {n: text.replace(" ", "").replace(WORD_START, " ").strip() for n, text in detokenised.items()}
    return dict(detokenised)


def _lost_spaces(detokenised: Mapping[int, str], hypotheses: Mapping[int, str], others: Sequence[str]) -> bool:
    """Return whether pieces were joined twice, which removes the spaces from all lines except H-."""
    if any(" " in text for text in others) or any(WORD_START in text for text in hypotheses.values()):
        return False
    spaceless = [n for n, text in detokenised.items() if " " not in text and " " in hypotheses.get(n, "")]
    joined = all(text == hypotheses[n].replace(" ", "") for n, text in detokenised.items() if n in hypotheses)
    return bool(spaceless) and joined


def _in_pieces(texts: Sequence[str]) -> bool:
    """Return whether most texts contain sentencepiece's mark of a word's start; a few may contain the character."""
    return 2 * sum(WORD_START in text for text in texts) > len(texts)
