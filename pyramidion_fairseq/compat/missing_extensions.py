"""What stands in for fairseq's compiled extensions where they are missing."""

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
    """Stand in for each extension that cannot be imported. Calling it again does nothing."""
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
    """Make batches in Python: without them neither training nor generation starts."""
    import fairseq.data

    from . import data_utils_fast

    sys.modules["fairseq.data.data_utils_fast"] = data_utils_fast
    fairseq.data.data_utils_fast = data_utils_fast
    logger.debug("fairseq's compiled data_utils_fast is missing: batches are made in Python")


def _replace_blocks() -> None:
    """Make blocks of text in Python: BART's pretraining and language models read them."""
    from . import token_block_utils_fast

    sys.modules["fairseq.data.token_block_utils_fast"] = token_block_utils_fast
    logger.debug("fairseq's compiled token_block_utils_fast is missing: blocks are made in Python")


def _score_with_sacrebleu() -> None:
    """Let fairseq-generate score with sacrebleu by default, which needs no compiled code of fairseq.

    ``--scoring bleu`` still asks for the compiled one, and a default that another plugin has set is left alone.
    """
    import fairseq.scoring  # noqa: F401  makes the registry's entry
    from fairseq.registry import REGISTRIES

    if REGISTRIES["scoring"]["default"] == "bleu":
        REGISTRIES["scoring"]["default"] = "sacrebleu"
        logger.debug("fairseq's compiled libbleu is missing: --scoring is sacrebleu unless given")


def _block_ngrams() -> None:
    """Make ``--no-repeat-ngram-size`` work without fairseq's CUDA extension.

    fairseq's own fallback looks for the last n - 1 tokens at the end of the whole buffer, which is padding until the
    summary is as long as it may get, and so blocks nothing; for n = 1 it never does.
    """
    from fairseq.ngram_repeat_block import NGramRepeatBlock

    NGramRepeatBlock._no_repeat_ngram = _no_repeat_ngram


def _no_repeat_ngram(self: Any, tokens: Tensor, lprobs: Tensor, bsz: int, beam_size: int, step: int) -> Tensor:
    generated = tokens[:, 1 : step + 1]  # the first token is the </s> that every summary begins with
    size = self.no_repeat_ngram_size
    if step < size:
        return lprobs
    ngrams = generated.unfold(1, size, 1)  # (hypotheses, step + 1 - size, size)
    begun = generated[:, step + 1 - size :].unsqueeze(1)
    repeated = ngrams[..., :-1].eq(begun).all(dim=-1)
    counts = torch.zeros_like(lprobs).scatter_add_(1, ngrams[..., -1], repeated.to(lprobs))
    return lprobs.masked_fill_(counts > 0, -math.inf)
