"""ROUGE by the ``rouge-score`` package: pure Python, always works."""

from __future__ import annotations

import multiprocessing
import sys
from functools import lru_cache, partial
from typing import Sequence

import numpy as np
from tqdm import tqdm

from ..errors import PyramidionError
from .unicode_words import unicode_words

#: Below this many documents, starting processes takes longer than it saves.
_WORTH_A_POOL = 64

Sentences = Sequence[str]


class _Tokenizer:
    """rouge-score's own tokens, or words of any script; each word is stemmed once."""

    def __init__(self, stemming: bool, name: str):
        from nltk.stem import porter

        self.name = name
        self.stemmer = porter.PorterStemmer() if stemming else None
        if stemming:
            self.stemmer.stem = lru_cache(maxsize=2**16)(self.stemmer.stem)

    def tokenize(self, text: str) -> list[str]:
        if self.name == "unicode":
            return unicode_words(text, self.stemmer)
        from rouge_score import tokenize

        return tokenize.tokenize(text, self.stemmer)


@lru_cache(maxsize=4)
def _scorer(stemming: bool, tokenizer: str = "rouge-score"):
    try:
        from rouge_score import rouge_scorer
    except ImportError:
        raise PyramidionError("ROUGE needs the package rouge-score: pip install rouge-score") from None
    return rouge_scorer.RougeScorer(
        ["rouge1", "rouge2", "rougeL", "rougeLsum"], tokenizer=_Tokenizer(stemming, tokenizer)
    )


def version() -> str:
    """Of the installed package.

    Raises:
        PyramidionError: it is not installed.
    """
    _scorer(True)
    from importlib import metadata

    return "rouge-score-" + metadata.version("rouge-score")


def score_pair(
    pair: tuple[Sentences, Sentences], stemming: bool, tokenizer: str = "rouge-score"
) -> list[tuple[float, float, float]]:
    """(reference, hypothesis), in sentences -> (precision, recall, F1) of ROUGE-1, -2, -L and -Lsum, in [0, 1]."""
    reference, hypothesis = ("\n".join(sentences) for sentences in pair)
    scores = _scorer(stemming, tokenizer).score(reference, hypothesis)
    return [tuple(scores[name]) for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")]


def score_documents(
    references: Sequence[Sentences],
    hypotheses: Sequence[Sentences],
    *,
    stemming: bool,
    workers: int,
    progress: bool,
    tokenizer: str = "rouge-score",
) -> np.ndarray:
    """(n, 4, 3) float64: ROUGE-1, -2, -L, -Lsum; precision, recall, F1 of each document, in [0, 1].

    Args:
        references: each in sentences.
        hypotheses: likewise.
        stemming: cut words to their stems.
        workers: processes; small corpora are scored in this one.
        progress: show a bar on a terminal.
        tokenizer: "rouge-score": words of a to z and 0 to 9; "unicode": of any script.
    """
    _scorer(stemming, tokenizer)
    score, pairs = partial(score_pair, stemming=stemming, tokenizer=tokenizer), list(zip(references, hypotheses))
    bar = partial(tqdm, total=len(pairs), unit="documents", disable=None if progress else True, leave=False)
    if workers <= 1 or len(pairs) < _WORTH_A_POOL:
        return np.array(list(bar(map(score, pairs))), dtype=np.float64)
    start = "fork" if sys.platform == "linux" else None
    with multiprocessing.get_context(start).Pool(workers) as pool:
        return np.array(list(bar(pool.imap(score, pairs, chunksize=16))), dtype=np.float64)
