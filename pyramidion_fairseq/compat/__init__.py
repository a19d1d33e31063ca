"""What lets stock fairseq commands run without compiled extensions or a TPU, and keep what they have written."""

import functools
import importlib
import importlib.util
import logging
import math
import sys
from typing import Any

import torch

from . import continued_runs, matching_data, mistakes, run_log, shards, whole_checkpoints
from .marks import mark

logger = logging.getLogger(__name__)


def install() -> None:
    """Stand in for the compiled parts of fairseq that are missing, mend options, write whole checkpoints.

    Runs that are continued, and checkpoints that meet data, are checked.

    Call it when the plugin is imported: ``--user-dir`` is read before the command's options are, so the default of
    ``--scoring`` can still be changed. Calling it again does nothing.
    """
    if not _importable("fairseq.data.data_utils_fast"):
        _stand_in_for_batching()
    if not _importable("fairseq.data.token_block_utils_fast"):
        _stand_in_for_blocks()
    if not _importable("fairseq.libbleu"):
        _score_with_sacrebleu()
    _block_ngrams_that_are_there()
    whole_checkpoints.install()
    continued_runs.install()
    matching_data.install()
    _bf16_without_tpu()
    shards.install()
    _data_parallel_on_a_cpu()
    mistakes.install()
    run_log.install()


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except (ImportError, ValueError):  # ValueError: compiled for another numpy
        return False
    return True


def _stand_in_for_batching() -> None:
    """Batching is compiled in fairseq: without it neither training nor generation starts."""
    import fairseq.data

    from . import data_utils_fast

    sys.modules["fairseq.data.data_utils_fast"] = data_utils_fast
    fairseq.data.data_utils_fast = data_utils_fast
    logger.debug("fairseq's compiled data_utils_fast is missing: batches are made in Python")


def _stand_in_for_blocks() -> None:
    """Blocks of text are compiled in fairseq: BART's pretraining and language models read them."""
    from . import token_block_utils_fast

    sys.modules["fairseq.data.token_block_utils_fast"] = token_block_utils_fast
    logger.debug("fairseq's compiled token_block_utils_fast is missing: blocks are made in Python")


def _score_with_sacrebleu() -> None:
    """fairseq-generate ends with a score, by default from compiled code: take the default that needs none.

    ``--scoring bleu`` still asks for the compiled one, and a default that another plugin has set is left alone.
    """
    import fairseq.scoring  # noqa: F401  makes the registry's entry
    from fairseq.registry import REGISTRIES

    if REGISTRIES["scoring"]["default"] == "bleu":
        REGISTRIES["scoring"]["default"] = "sacrebleu"
        logger.debug("fairseq's compiled libbleu is missing: --scoring is sacrebleu unless given")


def _block_ngrams_that_are_there() -> None:
    """Make ``--no-repeat-ngram-size`` work without fairseq's CUDA extension.

    fairseq's own fallback looks for the last n - 1 tokens at the end of the whole buffer, which is padding until the
    summary is as long as it may get, and so blocks nothing; for n = 1 it never does.
    """
    from fairseq.ngram_repeat_block import NGramRepeatBlock

    def no_repeat_ngram(
        self: Any, tokens: torch.Tensor, lprobs: torch.Tensor, bsz: int, beam_size: int, step: int
    ) -> torch.Tensor:
        generated = tokens[:, 1 : step + 1]  # the first token is the </s> that every summary begins with
        size = self.no_repeat_ngram_size
        if step < size:
            return lprobs
        ngrams = generated.unfold(1, size, 1)  # (hypotheses, step + 1 - size, size)
        begun = generated[:, step + 1 - size :].unsqueeze(1)
        repeated = ngrams[..., :-1].eq(begun).all(dim=-1)
        counts = torch.zeros_like(lprobs).scatter_add_(1, ngrams[..., -1], repeated.to(lprobs))
        return lprobs.masked_fill_(counts > 0, -math.inf)

    NGramRepeatBlock._no_repeat_ngram = no_repeat_ngram


def _bf16_without_tpu() -> None:
    """Make ``--bf16`` on the command line mean bfloat16 on a GPU or CPU, as ``common.bf16=true`` does in Hydra.

    fairseq takes it for ``--tpu``, and stops where torch_xla is not there: then no TPU can be meant.
    """
    from fairseq import options

    stock = options.parse_args_and_arch
    if getattr(stock, "bf16_without_tpu", False) or importlib.util.find_spec("torch_xla") is not None:
        return

    @functools.wraps(stock)
    def parse_args_and_arch(*args: Any, **kwargs: Any) -> Any:
        parsed = stock(*args, **kwargs)
        options = parsed[0] if isinstance(parsed, tuple) else parsed  # with parse_known=True, what is left comes too
        if getattr(options, "bf16", False):
            options.tpu = False
        return parsed

    options.parse_args_and_arch = mark(parse_args_and_arch, "bf16_without_tpu")


def _data_parallel_on_a_cpu() -> None:
    """Make ``--ddp-backend pytorch_ddp``, fairseq's default, work with ``--cpu``.

    fairseq gives torch's DistributedDataParallel the number of a GPU, which it refuses for a model on a CPU.
    """
    from fairseq.models import distributed_fairseq_model

    stock = distributed_fairseq_model.DistributedDataParallel
    if getattr(stock, "also_on_a_cpu", False):
        return

    class DistributedDataParallel(stock):  # type: ignore[valid-type, misc]  # a class that fairseq names
        also_on_a_cpu = True

        def __init__(
            self, module: torch.nn.Module, device_ids: Any = None, output_device: Any = None, **options: Any
        ) -> None:
            if all(parameter.device.type == "cpu" for parameter in module.parameters()):
                device_ids = output_device = None
            super().__init__(module, device_ids=device_ids, output_device=output_device, **options)

    distributed_fairseq_model.DistributedDataParallel = DistributedDataParallel
