"""Bootstrap confidence intervals of a mean over documents (Efron's percentile bootstrap)."""

from __future__ import annotations

import numpy as np

#: Maximum number of counts in memory at once (8 bytes each).
_CHUNK = 2**23


def sorted_rows(rows: np.ndarray) -> np.ndarray:
    """Sort the rows of a (n, c) array lexically, so that results do not depend on the order of the corpus."""
    return rows[np.lexsort(rows.T[::-1])]


def bootstrap_means(rows: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Return the means of ``samples`` resamples, each of n documents drawn with replacement.

    A resample is represented by multinomial counts, so that the means are a matrix product. All columns use the same
    resamples. numpy's ``RandomState`` is frozen: a seed gives the same numbers in every version.

    Args:
        rows: (n, c) float64, one row per document.
        samples: number of resamples, at least 1.
        seed: seed of the random generator.

    Returns:
        (samples, c) float64.

    Raises:
        ValueError: there are no documents or no samples.
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
    """Return (low, high), each (c,): the percentiles that enclose the share ``level`` of (samples, c) means."""
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    return low, high


def two_sided(means: np.ndarray) -> np.ndarray:
    """Return two-sided p-values (c,) of the hypothesis that the mean is 0, from (samples, c) means of resamples.

    This is twice the share of resamples on the other side of zero (Efron and Tibshirani 1993), at least 1 / samples.
    """
    far = np.minimum((means <= 0).mean(axis=0), (means >= 0).mean(axis=0))
    return np.clip(2 * far, 1 / len(means), 1)


def partial_bootstrap(rows: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean of each column over the documents with a value, and the means of resamples.

    All documents are resampled, so that all columns use the same resamples. The mean of a resample is that of its
    documents with a value.

    Args:
        rows: (n, c) float64, NaN for missing values.
        samples: number of resamples, at least 1.
        seed: seed of the random generator.

    Returns:
        The mean, (c,) float64, NaN if no document has a value; the means of the resamples, (samples, c) float64, NaN
        if no drawn document has a value; the number of documents with a value, (c,) int64.
    """
    known = ~np.isnan(rows)
    values = sorted_rows(np.concatenate([np.where(known, rows, 0.0), known], axis=1))
    columns, drawn = rows.shape[1], bootstrap_means(values, samples, seed)
    with np.errstate(invalid="ignore"):
        mean = values[:, :columns].sum(axis=0) / values[:, columns:].sum(axis=0)
        means = drawn[:, :columns] / drawn[:, columns:]
    return mean, means, known.sum(axis=0)
