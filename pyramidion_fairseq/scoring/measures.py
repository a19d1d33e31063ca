"""Measures of summaries besides ROUGE: copied and repeated text, and words that are not in the document."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Mapping, Sequence

import numpy as np

from ..errors import PyramidionError
from ..version import __version__
from .bootstrap import interval, partial_bootstrap, two_sided
from .facts import VERSION as FACTS
from .facts import capitalised_names, numbers
from .fragments import fragment_lengths, word_positions
from .processes import for_each
from .rouge import RougeSettings
from .sentences import split_sentences
from .unicode_words import ascii_words, unicode_words

NOVEL = (1, 2, 3, 4)
REPEATED = 3
#: Measure -> its title; shares are in per cent. The order is that of :attr:`MeasureScores.documents`.
MEASURES = {
    "coverage": "coverage, %",
    "density": "density, words",
    "compression": "compression, times",
    **{f"novel_{n}": f"novel {n}-grams, %" for n in NOVEL},
    f"repeated_{REPEATED}": f"repeated {REPEATED}-grams, %",
    "unsupported_words": "unsupported words",
    "unsupported_numbers": "unsupported numbers",
    "unsupported_numbers_share": "unsupported numbers, %",
    "unsupported_names": "unsupported names",
    "unsupported_names_share": "unsupported names, %",
    "words": "length, words",
    "sentences": "length, sentences",
}


def words_of(text: str, settings: RougeSettings) -> list[str]:
    """Split a text into words with the settings' tokenizer: in lower case, not stemmed."""
    return unicode_words(text) if settings.any_script else ascii_words(text)


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """Return the n-grams of words, in order."""
    return list(zip(*(words[start:] for start in range(n))))


class PreparedDocument:
    """A document, preprocessed for the comparison with summaries."""

    def __init__(self, text: str, settings: RougeSettings):
        text = text.replace(settings.separator, "\n") if settings.separator else text
        self.words = words_of(text, settings)
        self.positions = word_positions(self.words)
        self.ngrams = {n: set(ngrams(self.words, n)) for n in NOVEL}
        self.numbers = set(numbers(text))


def ratio(part: float, whole: float) -> float:
    """Return ``part / whole``, or NaN if ``whole`` is 0."""
    return part / whole if whole else math.nan


def share(part: float, whole: float) -> float:
    """Return ``part / whole`` in per cent, or NaN if ``whole`` is 0."""
    return ratio(100 * part, whole)


def measure(source: PreparedDocument, summary: str, settings: RougeSettings) -> list[float]:
    """Return the MEASURES of one summary, in order; NaN for a measure that is not defined for this summary.

    Args:
        source: the document.
        summary: text of the summary.
        settings: tokenizer and separator.
    """
    sentences = split_sentences(summary, settings.separator, settings.any_script)
    text = "\n".join(sentences)
    words, found = words_of(text, settings), numbers(text)
    names = [words_of(name, settings) for name in capitalised_names(sentences, settings.any_script)]
    fragments = fragment_lengths(words, source.words, source.positions)
    grams = {n: ngrams(words, n) for n in NOVEL}
    novel = {n: sum(gram not in source.ngrams[n] for gram in grams[n]) for n in NOVEL}
    repeated = len(grams[REPEATED]) - len(set(grams[REPEATED]))
    lost_numbers = sum(number not in source.numbers for number in found)
    lost_names = sum(any(word not in source.positions for word in name) for name in names)
    values = {
        "coverage": share(sum(fragments), len(words)),
        "density": ratio(sum(length**2 for length in fragments), len(words)),
        "compression": ratio(len(source.words), len(words)),
        **{f"novel_{n}": share(novel[n], len(grams[n])) for n in NOVEL},
        f"repeated_{REPEATED}": share(repeated, len(grams[REPEATED])),
        "unsupported_words": novel[1],
        "unsupported_numbers": lost_numbers,
        "unsupported_numbers_share": share(lost_numbers, len(found)),
        "unsupported_names": lost_names,
        "unsupported_names_share": share(lost_names, len(names)),
        "words": len(words),
        "sentences": len(sentences),
    }
    return [float(values[name]) for name in MEASURES]


def measure_document(texts: tuple[str, Sequence[str]], settings: RougeSettings) -> list[list[float]]:
    """Return :func:`measure` of each summary of one document: (document, summaries) -> (summaries, MEASURES)."""
    document, summaries = texts
    source = PreparedDocument(document, settings)
    return [measure(source, summary, settings) for summary in summaries]


@dataclass(frozen=True)
class MeasureScores:
    """The MEASURES of a corpus; shares are in per cent."""

    settings: RougeSettings
    documents: np.ndarray
    """(n, 15) float64: the MEASURES of each document; NaN where a measure is not defined."""
    mean: np.ndarray
    """(15,) mean over the documents with a value; NaN if there is none."""
    low: np.ndarray
    """(15,) lower end of the 95% interval."""
    high: np.ndarray
    """(15,) upper end of the 95% interval."""
    known: np.ndarray
    """(15,) int64: number of documents with a value."""

    @property
    def signature(self) -> str:
        """The settings on one line; results are comparable only if their signatures are equal."""
        settings = self.settings
        parts = {
            "tok": settings.words_rule,
            "case": "lower",
            "stem": "no",
            "sent": settings.sentences_rule,
            "facts": FACTS,
            "n": len(self.documents),
            "samples": settings.samples,
            "seed": settings.seed,
            "version": f"pyramidion-{__version__}",
        }
        return "|".join(["more", *(f"{name}:{value}" for name, value in parts.items())])

    def get(self, name: str) -> tuple[float, float, float, int]:
        """Return (mean, low, high, documents with a value) of one of MEASURES."""
        column = list(MEASURES).index(name)
        return float(self.mean[column]), float(self.low[column]), float(self.high[column]), int(self.known[column])

    def as_dict(self) -> dict[str, dict[str, float | int | None]]:
        """Return everything except the values of single documents, for JSON; None if no document has a value."""
        titles = ("mean", "low", "high", "documents")
        return {name: _known_only(dict(zip(titles, self.get(name)))) for name in MEASURES}


def _known_only(values: Mapping[str, float]) -> dict[str, Any]:
    """Replace NaN, which JSON does not support, by None."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}


def _intervals(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (low, high), each (c,), of (samples, c) means, ignoring NaN."""
    ends = np.full((2, means.shape[1]), np.nan)
    for column, values in enumerate(means.T):
        values = values[~np.isnan(values)]
        if len(values):
            ends[:, column] = [float(end[0]) for end in interval(values[:, None])]
    return ends[0], ends[1]


def measure_scores(
    documents: Sequence[str],
    systems: Mapping[str, Sequence[str]],
    settings: RougeSettings | None = None,
    *,
    workers: int = 1,
    progress: bool = False,
) -> dict[str, MeasureScores]:
    """Compute the MEASURES of each system's summaries, with 95% bootstrap intervals over documents.

    Args:
        documents: texts of the documents.
        systems: name -> summaries of these documents in the same order.
        settings: tokenizer, separator and bootstrap; stemming and backend are not used.
        workers: number of processes.
        progress: whether to show a progress bar on a terminal.

    Raises:
        PyramidionError: there are no documents, or a system's number of summaries differs from theirs.
    """
    settings = settings or RougeSettings()
    if not len(documents):
        raise PyramidionError("there are no documents to compare summaries with")
    for name, summaries in systems.items():
        if len(summaries) != len(documents):
            raise PyramidionError(f"{len(documents):,} documents, but {len(summaries):,} summaries of {name}")
    pairs = list(zip(documents, zip(*systems.values())))
    values = np.array(for_each(partial(measure_document, settings=settings), pairs, workers, progress))
    out = {}
    for column, name in enumerate(systems):
        mean, means, known = partial_bootstrap(values[:, column], settings.samples, settings.seed)
        out[name] = MeasureScores(settings, values[:, column], mean, *_intervals(means), known)
    return out


def compare_measures(first: MeasureScores, second: MeasureScores) -> dict[str, dict[str, float | int | None]]:
    """Compare two systems in each of MEASURES by a paired bootstrap over documents.

    Args:
        first: measures of one system.
        second: measures of another system, for the same documents in the same order.

    Returns:
        Measure -> ``difference``, its 95% interval ``low`` to ``high``, ``p`` as in
        :func:`~pyramidion_fairseq.scoring.rouge.compare`, and ``documents``, the number of documents for which both
        systems have a value. If there is none, the other values are None.

    Raises:
        PyramidionError: the numbers of documents or the settings differ.
    """
    if first.documents.shape != second.documents.shape or first.settings != second.settings:
        raise PyramidionError(f"not comparable: {first.signature} and {second.signature}")
    settings = first.settings
    differences = first.documents - second.documents
    mean, means, known = partial_bootstrap(differences, settings.samples, settings.seed)
    low, high = _intervals(means)
    out = {}
    for column, name in enumerate(MEASURES):
        drawn = means[~np.isnan(means[:, column]), column]
        p = float(two_sided(drawn[:, None])[0]) if len(drawn) else math.nan
        row = {"difference": float(mean[column]), "low": float(low[column]), "high": float(high[column]), "p": p}
        out[name] = {**_known_only(row), "documents": int(known[column])}
    return out
