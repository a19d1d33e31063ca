"""Make explanations of given texts with random weights, for tests of the page."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from pyramidion_fairseq.apps.explain import (
    DocumentWords,
    Explanation,
    Length,
    ModelFacts,
    RankedSentence,
    Stage,
    SummaryWords,
)
from pyramidion_fairseq.text import Document, split_document


def explain_text(text: str, summary: str, seed: int = 0, truncated: int = 0, **changes) -> Explanation:
    """Return an explanation with random numbers that are consistent like those of a model.

    Args:
        text: the document.
        summary: words with white space between them.
        seed: seed of the numbers.
        truncated: number of words at the document's end that were not read.
        changes: fields of the explanation to replace.
    """
    draw = random.Random(seed)
    document = split_document(Document.from_text(text), limit=10**9).document
    words, read = document.words, len(document.words) - truncated
    kept = [_kept(draw, word) if i < read else 0.0 for i, word in enumerate(words)]
    second = [weight * _kept(draw, word) for weight, word in zip(kept, words)]
    sources = tuple(_sources(draw, second, words, word) for word in summary.split())
    used = [0.0] * len(words)
    for word, weight in (pair for row in sources for pair in row):
        used[word] += weight
    most = max(used, default=0.0) or 1.0
    fields = {
        "title": "A document",
        "document": document,
        "lengths": (
            Length("document", read),
            Length("after layer 2", -(-read // 4)),
            Length("after layer 3", -(-read // 16)),
        ),
        "stages": (
            Stage("after layer 2", "pooling", tuple(kept)),
            Stage("after layer 3", "pooling", tuple(second)),
            Stage("seen by the decoder", "decoder", tuple(second)),
            Stage("used by the summary", "used", tuple(weight / most for weight in used)),
        ),
        "summary": SummaryWords(tuple(summary.split()), (True,) * len(summary.split()), -1.25, sources),
        "ranking": _ranking(document, used),
        "model": ModelFacts("deeppyramidion", "successive_halving", "linear", True, "The encoder mixes, too."),
        "truncated": truncated,
    }
    return Explanation(**{**fields, **changes})


def with_copies(explanation: Explanation, copied: dict[int, tuple[float, dict[int, float]]]) -> Explanation:
    """Add copies to an explanation; ``copied`` is {summary word: (probability, {document word: weight})}."""
    rows = [copied.get(number, (0.0, {})) for number in range(len(explanation.summary.words))]
    places = tuple(tuple(sorted(row.items(), key=lambda pair: -pair[1])) for _, row in rows)
    summary = replace(explanation.summary, copied=tuple(share for share, _ in rows), places=places)
    return replace(explanation, summary=summary, model=replace(explanation.model, points=True))


def _kept(draw: random.Random, word: str) -> float:
    """Return a random weight that is large more often for longer words."""
    odds = 1 / (1 + math.exp(4 - len(word) / 2))
    return round(draw.uniform(0.5, 1.0) if draw.random() < odds else draw.uniform(0.0, 0.12), 4)


def _sources(draw: random.Random, left: list[float], words: tuple[str, ...], word: str) -> tuple:
    weights = {i: weight * draw.random() ** 6 for i, weight in enumerate(left) if weight > 0}
    for i in weights:
        if words[i].lower().strip(".,;:") == word.lower().strip(".,;:"):
            weights[i] += 2
    total = sum(weights.values()) or 1.0
    largest = sorted(weights.items(), key=lambda pair: -pair[1])[:24]
    return tuple((i, weight / total) for i, weight in largest)


def _ranking(document: DocumentWords, used: list[float]) -> tuple[RankedSentence, ...]:
    total = sum(used) or 1.0
    shares = [sum(used[start:end]) / total for start, end in document.sentences]
    order = sorted(range(len(shares)), key=lambda i: -shares[i])
    return tuple(RankedSentence(i, shares[i]) for i in order if shares[i] > 0)
