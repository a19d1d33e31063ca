"""Batches of documents of about the same length."""

from __future__ import annotations

from typing import Sequence


def batches_by_length(lengths: Sequence[int], batch_size: int, max_tokens: int | None = None) -> list[list[int]]:
    """Return indices of documents in batches, every one of them once, the longest first.

    The longest come first so that a memory that is too small shows at once, and estimates of the time left are safe.

    Args:
        lengths: in tokens.
        batch_size: documents in a batch, at most.
        max_tokens: documents times the longest one's length, at most; a longer document makes a batch of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        batch = batches[-1] if batches else []
        fits = max_tokens is None or (len(batch) + 1) * lengths[batch[0] if batch else index] <= max_tokens
        if batch and fits and len(batch) < batch_size:
            batch.append(index)
        else:
            batches.append([index])
    return batches


def apart_below(batches: list[list[int]], lengths: Sequence[int], least: int) -> list[list[int]]:
    """Take documents shorter than ``least`` out of their batches, each into a batch of its own at the end.

    A batch's ``min_len`` follows its shortest document: alone in its batch, a short one changes it for no other.

    Args:
        batches: of :func:`batches_by_length`.
        lengths: in tokens.
        least: tokens.
    """
    rest = [[index for index in batch if lengths[index] >= least] for batch in batches]
    short = [[index] for batch in batches for index in batch if lengths[index] < least]
    return [*filter(None, rest), *short]
