"""The differences between rows, document by document, for each pair of their seeds."""

from __future__ import annotations

import json
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.scoring import METRICS as ALL_METRICS
from pyramidion_fairseq.scoring import STATISTICS, RougeScores, RougeSettings, compare, document_scores, summarize
from pyramidion_fairseq.scoring.text_files import read_lines
from pyramidion_fairseq.utils.files import write_text

from .process import logger
from .report import METRICS, collect, measure, more
from .stages import Run

FILE = "differences.md"
#: One line per row and seed: the F1 of each test document, so that rows of several machines can be compared.
SCORES_FILE = "document_scores.jsonl"
F1 = STATISTICS.index("fmeasure")
ABOUT = """# Differences between rows

First row less second, from the lowest to the highest of all pairs of a seed of the first and a seed of the second. In
brackets the lowest and the highest end of their 95% intervals (paired bootstrap over the test documents), which know
nothing of seeds. Bits a token are those of the validation split; fewer are better. Words are the mean length of a
summary.
"""


class Seed(NamedTuple):
    """What is compared of one row trained with one seed."""

    bits: float
    words: float | None
    """Mean length of a summary; None where it was scored without it."""
    scores: RougeScores
    """Only the F1 is known."""


def write(run: Run) -> str:
    """Write ``differences.md`` of the rows whose summaries or scores of documents are there, and return it.

    A pair of rows keeps the line that it has in the file if that is of more pairs of seeds. The scores of documents
    are written to ``document_scores.jsonl``.

    Raises:
        PyramidionError: ``document_scores.jsonl`` is damaged, or of another version of the scorer.
    """
    found = collect(run)
    scores = _score_documents(run, found)
    rows = {row: _seeds(row, about["seeds"], scores) for row, about in found.items() if row != "lead"}
    earlier = _earlier_lines(run)
    lines = []
    for first, second in combinations(rows, 2):
        line = _compare(first, second, rows[first], rows[second]) if rows[first] and rows[second] else None
        known = earlier.get((first, second))
        if known and (line is None or _count(known) > _count(line)):
            line = known
        if line is not None:
            lines.append(line)
    titles = ["first row", "second row", "seeds", "bits/token", *METRICS.values(), "words"]
    text = f"{ABOUT}\n{measure.table(titles, lines)}\n"
    write_text(run.output / FILE, text)
    return text


def _score_documents(run: Run, found: dict[str, Any]) -> dict[tuple[str, int], np.ndarray]:
    """Return (row, seed) -> (n, 4) F1 of the test documents, after adding those of new summaries to the file."""
    references = read_lines(run.corpus / "text" / "test.target")
    scores = _read_scores(run, len(references))
    for row, about in found.items():
        for seed in map(int, about["seeds"] if row != "lead" else ()):
            path = run._replace(seed=seed).folder(row) / "summaries.txt"
            if path.exists():
                documents = document_scores(references, read_lines(path, blank=len(references)))
                scores[row, seed] = documents[:, :, F1].round(3)
    signature = RougeSettings().signature(len(references))
    lines = []
    for (row, seed), f1 in sorted(scores.items()):
        about = {"row": row, "seed": seed, "signature": signature, "f1": dict(zip(ALL_METRICS, f1.T.tolist()))}
        lines.append(json.dumps(about) + "\n")
    write_text(run.output / SCORES_FILE, "".join(lines))
    return scores


def _read_scores(run: Run, documents: int) -> dict[tuple[str, int], np.ndarray]:
    """Return what the file of scores holds: (row, seed) -> (n, 4) F1."""
    path = run.output / SCORES_FILE
    if not path.exists():
        return {}
    scores = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            about = json.loads(line)
            f1 = np.array([about["f1"][metric] for metric in ALL_METRICS], dtype=float).T
            scores[str(about["row"]), int(about["seed"])] = f1
            signature = about["signature"]
        except (KeyError, TypeError, ValueError) as cause:
            raise PyramidionError(f"{path}, line {number}: not the F1 of documents; remove the line") from cause
        if f1.shape != (documents, len(ALL_METRICS)) or signature != RougeSettings().signature(documents):
            raise PyramidionError(
                f"{path}, line {number}: scored as {signature}, "
                f"this program as {RougeSettings().signature(documents)}; remove the line"
            )
    return scores


def _earlier_lines(run: Run) -> dict[tuple[str, str], list[str]]:
    """Return (first row, second row) -> cells of the file that is there."""
    path = run.output / FILE
    if not path.exists():
        return {}
    table = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table[2:]]
    return {(cells[0], cells[1]): cells for cells in lines}


def _count(line: list[Any]) -> int:
    """Return the number of pairs of seeds of a line: 6 for "3 x 2"."""
    first, second = line[2].split(" x ")
    return int(first) * int(second)


def _seeds(row: str, seeds: dict[str, Any], scores: dict[tuple[str, int], np.ndarray]) -> list[Seed]:
    """Return the seeds of a row whose scores of documents are there."""
    out = []
    for seed, stages in seeds.items():
        f1 = scores.get((row, int(seed)))
        if f1 is None:
            logger.warning("%s, seed %s: left out, as its summaries are on another machine", row, seed)
            continue
        documents = np.zeros((*f1.shape, len(STATISTICS)))
        documents[:, :, F1] = f1
        words = (more(stages, "words") or {}).get("mean")
        out.append(Seed(stages["validate"]["bits_per_token"], words, summarize(documents)))
    return out


def _compare(first: str, second: str, ours: list[Seed], others: list[Seed]) -> list[Any]:
    """Return the cells of two rows with their seeds."""
    pairs = list(product(ours, others))
    bits = [one.bits - other.bits for one, other in pairs]
    words = [one.words - other.words for one, other in pairs if one.words is not None and other.words is not None]
    compared = [compare(one.scores, other.scores) for one, other in pairs]
    cells = [_cell([result[metric] for result in compared]) for metric in METRICS]
    counts = f"{len(ours)} x {len(others)}"
    return [first, second, counts, _span(bits, "+.3f"), *cells, _span(words, "+.1f") if words else None]


def _span(values: list[float], form: str) -> str:
    """Return ``+0.1 to +0.3``, or the one value."""
    low, high = (format(value, form) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _cell(results: list[dict[str, float]]) -> str:
    span = _span([result["difference"] for result in results], "+.2f")
    low, high = min(result["low"] for result in results), max(result["high"] for result in results)
    return f"{span} [{low:+.2f}, {high:+.2f}]"
