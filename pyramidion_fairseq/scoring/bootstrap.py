"""Confidence intervals of a mean over documents, by resampling the documents (Efron's percentile bootstrap)."""

from __future__ import annotations

import numpy as np

#: Counts that are in memory at once (8 bytes each), whatever the corpus.
_CHUNK = 2**23


def sorted_rows(rows: np.ndarray) -> np.ndarray:
    """Return the rows of a (n, c) array in lexical order, so that the order of the corpus does not matter."""
    return rows[np.lexsort(rows.T[::-1])]


def bootstrap_means(rows: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Return means of ``samples`` resamples, each of n documents drawn with replacement.

    A resample is how often each document was drawn, multinomial counts, so that all means are one matrix product.
    Every column sees the same resamples. numpy's ``RandomState`` is frozen: the same seed gives the same numbers in
    every version.

    Args:
        rows: (n, c) float64, one row per document.
        samples: how many resamples, at least 1.
        seed: of the generator.

    Returns:
        (samples, c) float64.

    Raises:
        ValueError: there is no document, or no sample.
    """
    count = len(rows)
    if not count or samples < 1:
        raise ValueError(f"{count} documents, {samples} samples: the bootstrap needs at least one of each")
    generator = np.random.RandomState(seed)
    share, step = np.full(count, 1 / count), max(1, _CHUNK // count)
    means = [
        generator.multinomial(count, share, size=min(step, samples - start)) @ rows / count
        for start in range(0, samples, step)
    ]
    return np.concatenate(means)


def interval(means: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return (low, high), (c,) each: the percentiles of (samples, c) means between which ``level`` of them lie."""
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    return low, high


def two_sided(means: np.ndarray) -> np.ndarray:
    """Return p of "the mean is 0", (c,), from (samples, c) means of resamples.

    Twice the share of resamples on the far side of zero (Efron and Tibshirani 1993), at least 1/samples.
    """
    far = np.minimum((means <= 0).mean(axis=0), (means >= 0).mean(axis=0))
    return np.clip(2 * far, 1 / len(means), 1)


def partial_bootstrap(rows: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean of every column over the documents that have a value in it, and those of resamples.

    All documents are resampled, so that columns see the same resamples; of a resample, the mean is that of the drawn
    documents that have a value.

    Args:
        rows: (n, c) float64, NaN where a document has no value.
        samples: how many resamples, at least 1.
        seed: of the generator.

    Returns:
        mean (c,) float64, NaN where no document has a value; the resamples' means (samples, c) float64, NaN where none
        of the drawn documents has one; documents that have a value (c,) int64.
    """
    known = ~np.isnan(rows)
    values = sorted_rows(np.concatenate([np.where(known, rows, 0.0), known], axis=1))
    columns, drawn = rows.shape[1], bootstrap_means(values, samples, seed)
    with np.errstate(invalid="ignore"):
        mean = values[:, :columns].sum(axis=0) / values[:, columns:].sum(axis=0)
        means = drawn[:, :columns] / drawn[:, columns:]
    return mean, means, known.sum(axis=0)
