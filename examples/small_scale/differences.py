"""The differences between rows, document by document, for each pair of their seeds."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any, NamedTuple

from pyramidion_fairseq.scoring import RougeScores, compare, rouge_scores
from pyramidion_fairseq.scoring.text_files import read_lines
from pyramidion_fairseq.utils.files import write_text

from .process import logger
from .report import METRICS, collect, measure, more
from .stages import Run

FILE = "differences.md"
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


def write(run: Run) -> str:
    """Write ``differences.md`` of the rows whose summaries are there, and return it."""
    found = collect(run)
    references = read_lines(run.corpus / "text" / "test.target")
    rows = {row: _seeds(run, row, about["seeds"], references) for row, about in found.items() if row != "lead"}
    lines = []
    for first, second in combinations([row for row, seeds in rows.items() if seeds], 2):
        pairs = list(product(rows[first], rows[second]))
        bits = [one.bits - other.bits for one, other in pairs]
        words = [one.words - other.words for one, other in pairs if None not in (one.words, other.words)]
        compared = [compare(one.scores, other.scores) for one, other in pairs]
        cells = [_cell([result[metric] for result in compared]) for metric in METRICS]
        counts = f"{len(rows[first])} x {len(rows[second])}"
        lines.append([first, second, counts, _span(bits, "+.3f"), *cells, _span(words, "+.1f") if words else None])
    titles = ["first row", "second row", "seeds", "bits/token", *METRICS.values(), "words"]
    text = f"{ABOUT}\n{measure.table(titles, lines)}\n"
    write_text(run.output / FILE, text)
    return text


def _seeds(run: Run, row: str, seeds: dict[str, Any], references: list[str]) -> list[Seed]:
    """Return the seeds of a row whose summaries are there."""
    out = []
    for seed, stages in seeds.items():
        path = run._replace(seed=int(seed)).folder(row) / "summaries.txt"
        if path.exists():
            scores = rouge_scores(references, read_lines(path, blank=len(references)))
            words = (more(stages, "words") or {}).get("mean")
            out.append(Seed(stages["validate"]["bits_per_token"], words, scores))
        else:
            logger.warning("%s, seed %s: left out, as its summaries are on another machine", row, seed)
    return out


def _span(values: list[float], form: str) -> str:
    """Return ``+0.1 to +0.3``, or the one value."""
    low, high = (format(value, form) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _cell(results: list[dict[str, float]]) -> str:
    span = _span([result["difference"] for result in results], "+.2f")
    low, high = min(result["low"] for result in results), max(result["high"] for result in results)
    return f"{span} [{low:+.2f}, {high:+.2f}]"
