"""Batches of documents of similar length."""

from __future__ import annotations

import logging
from typing import Callable, Sequence, TypeVar

import torch

from ..errors import PyramidionError
from ..utils.memory import is_out_of_memory

logger = logging.getLogger(__name__)

#: Number of documents that a stream reads ahead to batch them by length.
BUFFER = 256
_Document = TypeVar("_Document")
_Result = TypeVar("_Result")


def batches_by_length(lengths: Sequence[int], batch_size: int, max_tokens: int | None = None) -> list[list[int]]:
    """Return the indices of all documents in batches, the longest documents first.

    With the longest first, too little memory shows at once, and estimates of the remaining time are upper bounds.

    Args:
        lengths: lengths of the documents in tokens.
        batch_size: maximum number of documents per batch.
        max_tokens: maximum number of padded tokens per batch. A longer document is a batch of its own.
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
    """Run a function on a batch of documents; if memory is too small, run it on each half of the batch.

    Args:
        run: function that returns one result per document.
        documents: the batch, which may be empty.
        tokens: function that returns the length of a document.
        device: device used by ``run``.

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
    """Move documents shorter than ``least`` out of their batches, each to its own batch at the end.

    The ``min_len`` of a batch depends on its shortest document. In its own batch, a short document changes it for no
    other document.

    Args:
        batches: batches from :func:`batches_by_length`.
        lengths: lengths of the documents in tokens.
        least: minimum length in tokens.
    """
    rest = [[index for index in batch if lengths[index] >= least] for batch in batches]
    short = [[index] for batch in batches for index in batch if lengths[index] < least]
    return [*filter(None, rest), *short]
