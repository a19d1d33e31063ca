"""Replacements for fairseq's compiled extensions if they are missing."""

from __future__ import annotations

import importlib
import logging
import math
import sys
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def install() -> None:
    """Replace each extension that cannot be imported. Further calls do nothing."""
    if not _importable("fairseq.data.data_utils_fast"):
        _replace_batching()
    if not _importable("fairseq.data.token_block_utils_fast"):
        _replace_blocks()
    if not _importable("fairseq.libbleu"):
        _score_with_sacrebleu()
    _block_ngrams()


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except (ImportError, ValueError):  # ValueError: compiled for another numpy
        return False
    return True


def _replace_batching() -> None:
    """Make batches in Python, without which neither training nor generation can start."""
    import fairseq.data

    from . import data_utils_fast

    sys.modules["fairseq.data.data_utils_fast"] = data_utils_fast
    fairseq.data.data_utils_fast = data_utils_fast
    logger.debug("fairseq's compiled data_utils_fast is missing: batches are made in Python")


def _replace_blocks() -> None:
    """Make blocks of text in Python, which BART's pretraining and language models read."""
    from . import token_block_utils_fast

    sys.modules["fairseq.data.token_block_utils_fast"] = token_block_utils_fast
    logger.debug("fairseq's compiled token_block_utils_fast is missing: blocks are made in Python")


def _score_with_sacrebleu() -> None:
    """Make sacrebleu, which needs no compiled code of fairseq, the default metric of ``fairseq-generate``.

    ``--scoring bleu`` still needs the extension. A default that another plugin has set is not changed.
    """
    import fairseq.scoring  # noqa: F401  adds the entry to the registry
    from fairseq.registry import REGISTRIES

    if REGISTRIES["scoring"]["default"] == "bleu":
        REGISTRIES["scoring"]["default"] = "sacrebleu"
        logger.debug("fairseq's compiled libbleu is missing: --scoring is sacrebleu unless given")


def _block_ngrams() -> None:
    """Make ``--no-repeat-ngram-size`` work without fairseq's CUDA extension.

    fairseq's own fallback reads the last n - 1 tokens at the end of the whole buffer. This is padding until the
    summary has its maximum length, so that nothing is blocked. With n = 1 it never blocks anything.
    """
    from fairseq.ngram_repeat_block import NGramRepeatBlock

    NGramRepeatBlock._no_repeat_ngram = _no_repeat_ngram


def _no_repeat_ngram(self: Any, tokens: Tensor, lprobs: Tensor, bsz: int, beam_size: int, step: int) -> Tensor:
    generated = tokens[:, 1 : step + 1]  # the first token is </s>, with which generation starts
    size = self.no_repeat_ngram_size
    if step < size:
        return lprobs
    ngrams = generated.unfold(1, size, 1)  # (hypotheses, step + 1 - size, size)
    prefix = generated[:, step + 1 - size :].unsqueeze(1)
    repeated = ngrams[..., :-1].eq(prefix).all(dim=-1)
    counts = torch.zeros_like(lprobs).scatter_add_(1, ngrams[..., -1], repeated.to(lprobs))
    return lprobs.masked_fill_(counts > 0, -math.inf)
