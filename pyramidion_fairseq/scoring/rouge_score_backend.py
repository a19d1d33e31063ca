"""ROUGE with the ``rouge-score`` package (pure Python), or with the equivalent in Rust if it is installed."""

from __future__ import annotations

from functools import lru_cache, partial
from importlib import metadata
from types import ModuleType
from typing import Any, Sequence

import numpy as np

from ..errors import PyramidionError
from .processes import for_each
from .unicode_words import unicode_words

#: Versions for which rouge-score-rs was found to give exactly the scores of rouge-score; it is not used with others.
#: ``tests/scoring/test_engines.py`` compares them.
COMPARED = {"rouge-score": "0.1.2", "rouge-score-rs": "0.2.1"}
_KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")

Sentences = Sequence[str]


class _Tokenizer:
    """Tokenizer with rouge-score's tokens, or words of any script; stems are cached."""

    def __init__(self, stemming: bool, name: str):
        from nltk.stem import porter

        self.name = name
        self.stemmer: Any = None
        if stemming:
            self.stemmer = porter.PorterStemmer()
            self.stemmer.stem = lru_cache(maxsize=2**16)(self.stemmer.stem)

    def tokenize(self, text: str) -> list[str]:
        if self.name == "unicode":
            return unicode_words(text, self.stemmer)
        from rouge_score import tokenize

        return tokenize.tokenize(text, self.stemmer)


@lru_cache(maxsize=1)
def fast_engine() -> ModuleType | None:
    """Return the scorer module of rouge-score-rs if the versions of COMPARED are installed, otherwise None."""
    try:
        if any(metadata.version(name) != version for name, version in COMPARED.items()):
            return None
        from rouge_score_rs import rouge_scorer
    except (metadata.PackageNotFoundError, ImportError):
        return None
    return rouge_scorer


@lru_cache(maxsize=8)
def scorer(stemming: bool, tokenizer: str = "rouge-score", engine: ModuleType | None = None) -> Any:
    """Return a scorer with the method ``score(reference, hypothesis)``.

    Args:
        stemming: whether to stem words.
        tokenizer: "rouge-score": words of a-z and 0-9; "unicode": words of any script.
        engine: result of :func:`fast_engine`; None: rouge-score itself.

    Raises:
        PyramidionError: rouge-score is not installed.
    """
    try:
        from rouge_score import rouge_scorer
    except ImportError:
        raise PyramidionError("ROUGE requires the package rouge-score: pip install rouge-score") from None
    if engine is not None and tokenizer == "rouge-score":
        return engine.RougeScorer(list(_KINDS), use_stemmer=stemming)
    return (engine or rouge_scorer).RougeScorer(list(_KINDS), tokenizer=_Tokenizer(stemming, tokenizer))


def version() -> str:
    """Return the name and version of rouge-score; rouge-score-rs gives the same scores.

    Raises:
        PyramidionError: rouge-score is not installed.
    """
    scorer(True)
    return "rouge-score-" + metadata.version("rouge-score")


def score_pair(
    pair: tuple[Sentences, Sentences], stemming: bool, tokenizer: str = "rouge-score"
) -> list[tuple[float, float, float]]:
    """Return (precision, recall, F1) in [0, 1] of ROUGE-1, -2, -L and -Lsum for a pair of texts in sentences."""
    reference, hypothesis = ("\n".join(sentences) for sentences in pair)
    scores = scorer(stemming, tokenizer, fast_engine()).score(reference, hypothesis)
    return [tuple(scores[name]) for name in _KINDS]


def score_documents(
    references: Sequence[Sentences],
    hypotheses: Sequence[Sentences],
    *,
    stemming: bool,
    workers: int,
    progress: bool,
    tokenizer: str = "rouge-score",
) -> np.ndarray:
    """Return (n, 4, 3) float64: ROUGE-1, -2, -L, -Lsum; precision, recall, F1 of each document, in [0, 1].

    Args:
        references: each in sentences.
        hypotheses: likewise.
        stemming: cut words to their stems.
        workers: processes; small corpora are scored in this one.
        progress: show a bar on a terminal.
        tokenizer: "rouge-score": words of a to z and 0 to 9; "unicode": of any script.
    """
    scorer(stemming, tokenizer, fast_engine())
    score, pairs = partial(score_pair, stemming=stemming, tokenizer=tokenizer), list(zip(references, hypotheses))
    # The engine in Rust is done before other processes have started.
    native = fast_engine() is not None and tokenizer == "rouge-score"
    return np.array(for_each(score, pairs, 1 if native else workers, progress), dtype=np.float64)
