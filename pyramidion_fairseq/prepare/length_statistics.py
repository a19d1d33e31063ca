"""Exact statistics of lengths, computed from their histogram."""

from typing import Dict, Union

Number = Union[int, float]


def percentile(histogram: Dict[int, int], fraction: float) -> float:
    """Return the value below which ``fraction`` of the values lie, interpolated linearly like numpy's default."""
    total = sum(histogram.values())
    position = fraction * (total - 1)
    lower_rank = int(position)
    lower = _value_at(histogram, lower_rank)
    upper = _value_at(histogram, min(lower_rank + 1, total - 1))
    return lower + (upper - lower) * (position - lower_rank)


def _value_at(histogram: Dict[int, int], rank: int) -> int:
    passed = 0
    for value in sorted(histogram):
        passed += histogram[value]
        if rank < passed:
            return value
    raise ValueError(f"rank {rank} of {passed} values")


def summarise(histogram: Dict[int, int], limit: int) -> Dict[str, Number]:
    """Return documents, tokens, mean, median, p90, p99, max, and the share of documents longer than ``limit``.

    Args:
        histogram: tokens of a document -> number of documents; at least one
        limit: the model's maximum length, in tokens
    """
    documents = sum(histogram.values())
    tokens = sum(length * count for length, count in histogram.items())
    longer = sum(count for length, count in histogram.items() if length > limit)
    return {
        "documents": documents,
        "tokens": tokens,
        "mean": tokens / documents,
        "median": percentile(histogram, 0.5),
        "p90": percentile(histogram, 0.9),
        "p99": percentile(histogram, 0.99),
        "max": max(histogram),
        "limit": limit,
        "longer": longer,
        "share_longer": longer / documents,
    }
