"""The differences between rows, document by document, for each pair of their seeds."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

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


def write(run: Run) -> str:
    """Write ``differences.md`` of the rows whose summaries are there, and return it."""
    found = collect(run)
    scores = {row: _scores(run, row, about["seeds"]) for row, about in found.items() if row != "lead"}
    lines = []
    for first, second in combinations([row for row, seeds in scores.items() if seeds], 2):
        pairs = list(product(scores[first].items(), scores[second].items()))
        stages = [(found[first]["seeds"][one], found[second]["seeds"][other]) for (one, _), (other, _) in pairs]
        bits = [_bits(one) - _bits(other) for one, other in stages]
        words = [_words(one) - _words(other) for one, other in stages if more(one, "words") and more(other, "words")]
        compared = [compare(one, other) for (_, one), (_, other) in pairs]
        cells = [_cell([result[metric] for result in compared]) for metric in METRICS]
        counts = f"{len(scores[first])} x {len(scores[second])}"
        lines.append([first, second, counts, _span(bits, "+.3f"), *cells, _span(words, "+.1f") if words else None])
    titles = ["first row", "second row", "seeds", "bits/token", *METRICS.values(), "words"]
    text = f"{ABOUT}\n{measure.table(titles, lines)}\n"
    write_text(run.output / FILE, text)
    return text


def _scores(run: Run, row: str, seeds: dict[str, Any]) -> dict[str, RougeScores]:
    """Return the scores of every seed of a row whose summaries are there."""
    references, out = read_lines(run.corpus / "text" / "test.target"), {}
    for seed in seeds:
        path = run._replace(seed=int(seed)).folder(row) / "summaries.txt"
        if path.exists():
            out[seed] = rouge_scores(references, read_lines(path, blank=len(references)))
        else:
            logger.warning("%s, seed %s: left out, as its summaries are on another machine", row, seed)
    return out


def _bits(stages: dict[str, Any]) -> float:
    return float(stages["validate"]["bits_per_token"])


def _words(stages: dict[str, Any]) -> float:
    return float(stages["rouge"]["more"]["words"]["mean"])


def _span(values: list[float], form: str) -> str:
    """Return ``+0.1 to +0.3``, or the one value."""
    low, high = (format(value, form) for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _cell(results: list[dict[str, float]]) -> str:
    span = _span([result["difference"] for result in results], "+.2f")
    low, high = min(result["low"] for result in results), max(result["high"] for result in results)
    return f"{span} [{low:+.2f}, {high:+.2f}]"
