"""ROUGE-1, -2, -L and -Lsum of a corpus, with confidence intervals and a signature of the settings."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Any, Sequence

import numpy as np

from ..errors import PyramidionError
from ..version import __version__
from . import files2rouge_backend, rouge_score_backend
from .bootstrap import bootstrap_means, interval, sorted_rows, two_sided
from .sentences import VERSION as SPLITTER
from .sentences import split_sentences
from .unicode_words import VERSION as UNICODE_WORDS
from .unicode_words import warn_of_lost_letters, warn_of_no_words

logger = logging.getLogger(__name__)

#: The second and the third axis of :attr:`RougeScores.documents`.
METRICS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
STATISTICS = ("precision", "recall", "fmeasure")
NAMES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum"}
BACKENDS = {"rouge-score": rouge_score_backend, "files2rouge": files2rouge_backend}
TOKENIZERS = ("rouge-score", "unicode")


@dataclass(frozen=True)
class RougeSettings:
    """The settings that a score depends on."""

    backend: str = "rouge-score"
    """A key of BACKENDS."""
    stemming: bool = True
    """Whether to stem words (Porter)."""
    separator: str | None = None
    """Separator of sentences; None: see :func:`~pyramidion_fairseq.scoring.sentences.split_sentences`."""
    samples: int = 1000
    """Number of bootstrap resamples."""
    seed: int = 1
    """Seed of the bootstrap."""
    tokenizer: str = "rouge-score"
    """"rouge-score": words of a-z and 0-9, like ROUGE-1.5.5; "unicode": words of any script, see
    :func:`~pyramidion_fairseq.scoring.unicode_words.unicode_words`, where only words of a-z and 0-9 are stemmed."""

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise PyramidionError(f"unknown ROUGE backend {self.backend!r}; there are: {', '.join(BACKENDS)}")
        if self.tokenizer not in TOKENIZERS:
            raise PyramidionError(f"unknown tokenizer {self.tokenizer!r}; there are: {', '.join(TOKENIZERS)}")
        if self.tokenizer == "unicode" and self.backend != "rouge-score":
            raise PyramidionError(f"the tokenizer unicode requires the backend rouge-score, got {self.backend}")
        if self.separator == "":
            raise PyramidionError("the separator of sentences is empty: leave it out to split at punctuation")
        if self.samples < 1:
            raise PyramidionError(f"the bootstrap needs at least one sample, got {self.samples}")
        if not 0 <= self.seed < 2**32:
            raise PyramidionError(f"the bootstrap's seed must be between 0 and 2**32 - 1, got {self.seed}")

    @property
    def any_script(self) -> bool:
        """Whether words and sentences are those of any script."""
        return self.tokenizer == "unicode"

    @property
    def words_rule(self) -> str:
        """The rule for words, for a signature."""
        return f"unicode.{UNICODE_WORDS}" if self.any_script else "rouge-score"

    @property
    def sentences_rule(self) -> str:
        """How sentences were found, for a signature."""
        return f"auto.{SPLITTER}" if self.separator is None else repr(self.separator)

    def signature(self, documents: int) -> str:
        """Return the settings on one line; scores are comparable only if their signatures are equal."""
        parts = {
            "stem": "yes" if self.stemming else "no",
            "tok": self.words_rule if self.any_script else self.backend,
            "sent": self.sentences_rule,
            "n": documents,
            "samples": self.samples,
            "seed": self.seed,
            "version": f"{BACKENDS[self.backend].version()},pyramidion-{__version__}",
        }
        return "|".join(["rouge", *(f"{name}:{value}" for name, value in parts.items())])


@dataclass(frozen=True)
class RougeScores:
    """The result of :func:`rouge_scores`; all scores are in points, from 0 to 100."""

    settings: RougeSettings
    documents: np.ndarray
    """(n, 4, 3) float64: METRICS x STATISTICS of each document."""
    mean: np.ndarray
    """(4, 3) mean over documents."""
    low: np.ndarray
    """(4, 3) lower end of the 95% interval."""
    high: np.ndarray
    """(4, 3) upper end of the 95% interval."""

    @property
    def signature(self) -> str:
        """The settings on one line."""
        return self.settings.signature(len(self.documents))

    def get(self, metric: str, statistic: str = "fmeasure") -> tuple[float, float, float]:
        """Return (mean, low, high) of a metric, such as ``rouge2``."""
        index = METRICS.index(metric), STATISTICS.index(statistic)
        return float(self.mean[index]), float(self.low[index]), float(self.high[index])

    def __str__(self) -> str:
        """Return the F1 of each metric with its interval, on one line."""
        parts = []
        for metric in METRICS:
            parts.append("{} {:.2f} [{:.2f}, {:.2f}]".format(NAMES[metric], *self.get(metric)))
        return " ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return everything except the scores of single documents, for JSON."""
        scores = {
            metric: {name: dict(zip(("mean", "low", "high"), self.get(metric, name))) for name in STATISTICS}
            for metric in METRICS
        }
        return {
            "documents": len(self.documents),
            "scores": scores,
            "settings": asdict(self.settings),
            "signature": self.signature,
        }


def document_scores(
    references: Sequence[str],
    hypotheses: Sequence[str],
    settings: RougeSettings | None = None,
    *,
    workers: int = 1,
    progress: bool = False,
) -> np.ndarray:
    """Compute ROUGE of each document.

    Args:
        references: one text per document.
        hypotheses: one text per document. A text without words scores 0; the default tokenizer only knows words of
            a-z and 0-9.
        settings: backend, tokenizer, stemming and sentences.
        workers: number of processes.
        progress: whether to show a progress bar on a terminal.

    Returns:
        (n, 4, 3) float64 in points: METRICS x STATISTICS.

    Raises:
        PyramidionError: the numbers of hypotheses and references differ, or the backend is not installed.
    """
    settings = settings or RougeSettings()
    if len(references) != len(hypotheses):
        raise PyramidionError(
            f"{len(references):,} references but {len(hypotheses):,} hypotheses: ROUGE needs one of each per document"
        )
    if not len(references):
        return np.zeros((0, len(METRICS), len(STATISTICS)))
    split = [
        [split_sentences(text, settings.separator, settings.any_script) for text in side]
        for side in (references, hypotheses)
    ]
    score = BACKENDS[settings.backend].score_documents
    if settings.any_script:
        score = partial(score, tokenizer=settings.tokenizer)
    return 100 * score(*split, stemming=settings.stemming, workers=workers, progress=progress)


def summarize(documents: np.ndarray, settings: RougeSettings | None = None) -> RougeScores:
    """Return mean and 95% bootstrap interval of (n, 4, 3) document scores; the order of documents does not matter.

    Raises:
        PyramidionError: there are no documents.
    """
    settings = settings or RougeSettings()
    if not len(documents):
        raise PyramidionError("there are no documents to score")
    shape = documents.shape[1:]
    rows = sorted_rows(documents.reshape(len(documents), -1))
    low, high = interval(bootstrap_means(rows, settings.samples, settings.seed))
    return RougeScores(settings, documents, rows.mean(axis=0).reshape(shape), low.reshape(shape), high.reshape(shape))


def rouge_scores(
    references: Sequence[str],
    hypotheses: Sequence[str],
    settings: RougeSettings | None = None,
    *,
    workers: int = 1,
    progress: bool = False,
) -> RougeScores:
    """Compute ROUGE of a corpus: :func:`document_scores`, then :func:`summarize`.

    For summaries of several sentences, "ROUGE-L" in papers and tools usually means ``rougeLsum``, which is what
    ROUGE-1.5.5 computes from sentences. ``rougeL`` treats each summary as one sentence. Texts without words, and
    texts with letters that the tokenizer does not know, cause warnings.
    """
    settings = settings or RougeSettings()
    warn_of_no_words(chain(references, hypotheses))
    if not settings.any_script:
        warn_of_lost_letters(chain(references, hypotheses), settings.backend)
    return summarize(document_scores(references, hypotheses, settings, workers=workers, progress=progress), settings)


def compare(first: RougeScores, second: RougeScores) -> dict[str, dict[str, float]]:
    """Compare the F1 of two systems by a paired bootstrap over documents.

    Args:
        first: scores of one system.
        second: scores of another system, for the same documents in the same order.

    Returns:
        For each of METRICS the ``difference`` in points, its 95% interval ``low`` to ``high``, and the two-sided ``p``
        (:func:`~pyramidion_fairseq.scoring.bootstrap.two_sided`).

    Raises:
        PyramidionError: the numbers of documents or the settings differ.
    """
    if first.documents.shape != second.documents.shape or first.settings != second.settings:
        raise PyramidionError(f"not comparable: {first.signature} and {second.signature}")
    f1 = STATISTICS.index("fmeasure")
    rows = sorted_rows(first.documents[:, :, f1] - second.documents[:, :, f1])
    means = bootstrap_means(rows, first.settings.samples, first.settings.seed)
    low, high = interval(means)
    columns = zip(METRICS, rows.mean(axis=0), low, high, two_sided(means))
    return {
        metric: {"difference": float(difference), "low": float(a), "high": float(b), "p": float(chance)}
        for metric, difference, a, b, chance in columns
    }
