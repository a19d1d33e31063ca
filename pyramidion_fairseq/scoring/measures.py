"""What ROUGE does not tell of a summary: how much it copies, repeats, and says that is not in the document."""

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
#: Measure -> what it is called; shares are in per cent. The order is that of :attr:`MeasureScores.documents`.
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
    """Return a text's words for the settings' tokenizer: in lower case, not stemmed."""
    return unicode_words(text) if settings.any_script else ascii_words(text)


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """Return every n consecutive words, in order."""
    return list(zip(*(words[start:] for start in range(n))))


class Source:
    """A document, ready to be compared with summaries."""

    def __init__(self, text: str, settings: RougeSettings):
        text = text.replace(settings.separator, "\n") if settings.separator else text
        self.words = words_of(text, settings)
        self.positions = word_positions(self.words)
        self.ngrams = {n: set(ngrams(self.words, n)) for n in NOVEL}
        self.numbers = set(numbers(text))


def ratio(part: float, whole: float) -> float:
    """Return ``part`` over ``whole``; NaN where there is no whole."""
    return part / whole if whole else math.nan


def share(part: float, whole: float) -> float:
    """Return ``part`` of ``whole`` in per cent; NaN where there is no whole."""
    return ratio(100 * part, whole)


def measure(source: Source, summary: str, settings: RougeSettings) -> list[float]:
    """Return MEASURES of one summary, in their order; NaN where a summary has nothing that could be measured.

    Args:
        source: the document.
        summary: its text.
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
    source = Source(document, settings)
    return [measure(source, summary, settings) for summary in summaries]


@dataclass(frozen=True)
class MeasureScores:
    """MEASURES of a corpus; shares in per cent."""

    settings: RougeSettings
    documents: np.ndarray
    """(n, 15) float64: each document's MEASURES; NaN where its summary has nothing that could be measured."""
    mean: np.ndarray
    """(15,) the mean over the documents that have a value; NaN where none has."""
    low: np.ndarray
    """(15,) lower end of the 95% interval."""
    high: np.ndarray
    """(15,) its upper end."""
    known: np.ndarray
    """(15,) int64: how many documents have a value."""

    @property
    def signature(self) -> str:
        """One line that two corpora's measures must share to be comparable."""
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
        """Return (mean, low, high, documents that have a value) of one of MEASURES."""
        column = list(MEASURES).index(name)
        return float(self.mean[column]), float(self.low[column]), float(self.high[column]), int(self.known[column])

    def as_dict(self) -> dict[str, dict[str, float | int | None]]:
        """Return everything but the documents' own values, for JSON; None where no document has a value."""
        titles = ("mean", "low", "high", "documents")
        return {name: _known_only(dict(zip(titles, self.get(name)))) for name in MEASURES}


def _known_only(values: Mapping[str, float]) -> dict[str, Any]:
    """Return the values with None for NaN, which JSON has no word for."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}


def _intervals(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (low, high), (c,) each, of (samples, c) means, over the resamples that have one."""
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
    """Return MEASURES of each system's summaries, with 95% bootstrap intervals over documents.

    Args:
        documents: one text each.
        systems: name -> summaries of these documents in the same order.
        settings: tokenizer, separator, and the bootstrap; stemming and backend do not matter here.
        workers: processes to measure with.
        progress: show a bar on a terminal.

    Raises:
        PyramidionError: there is no document, or a system has not as many summaries.
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
    """Return how two systems differ in each of MEASURES: a paired bootstrap over documents.

    Args:
        first: of one system.
        second: of another, on the same documents in the same order.

    Returns:
        Measure -> ``difference``, its 95% interval ``low`` to ``high``, ``p`` as of
        :func:`~pyramidion_fairseq.scoring.rouge.compare`, and in how many ``documents`` both systems have a value;
        None for numbers where there is no such document.

    Raises:
        PyramidionError: not as many documents, or other settings.
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
