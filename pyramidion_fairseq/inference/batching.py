"""Batches of documents of about the same length."""

from __future__ import annotations

import logging
from typing import Callable, Sequence, TypeVar

import torch

from ..errors import PyramidionError
from ..utils.memory import is_out_of_memory

logger = logging.getLogger(__name__)

#: Documents that a stream reads ahead, to batch them by length.
BUFFER = 256
_Document = TypeVar("_Document")
_Result = TypeVar("_Result")


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


def run_or_halve(
    run: Callable[[list[_Document]], list[_Result]],
    documents: list[_Document],
    tokens: Callable[[_Document], int],
    device: torch.device,
) -> list[_Result]:
    """Return what ``run`` gives for a batch of documents; where memory is too small, for each half of it.

    Args:
        run: returns a result for each document.
        documents: the batch; may be empty.
        tokens: returns a document's length.
        device: that ``run`` works on.

    Raises:
        PyramidionError: memory is too small for one document.
    """
    if not documents:
        return []
    try:
        return run(documents)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        if len(documents) == 1:
            raise PyramidionError(
                f"memory on {device} is too small for a document of {tokens(documents[0])} tokens"
            ) from None
    if device.type == "cuda":
        torch.cuda.empty_cache()
    logger.warning(f"out of memory with {len(documents)} documents in a batch: going on with half as many")
    half = len(documents) // 2
    return [
        *run_or_halve(run, documents[:half], tokens, device),
        *run_or_halve(run, documents[half:], tokens, device),
    ]


def separate_short_documents(batches: list[list[int]], lengths: Sequence[int], least: int) -> list[list[int]]:
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
