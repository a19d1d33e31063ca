"""Confidence intervals of a mean over documents, by resampling the documents (Efron's percentile bootstrap)."""

from __future__ import annotations

import numpy as np

#: Counts that are in memory at once (8 bytes each), whatever the corpus.
_CHUNK = 2**23


def sorted_rows(rows: np.ndarray) -> np.ndarray:
    """The rows of a (n, c) array in lexical order, so that what follows does not depend on the corpus' order."""
    return rows[np.lexsort(rows.T[::-1])]


def bootstrap_means(rows: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Means of ``samples`` resamples, each of n documents drawn with replacement.

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
    """(low, high), (c,) each: the percentiles of (samples, c) means between which ``level`` of them lie."""
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    return low, high
