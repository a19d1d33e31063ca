"""Native bfloat16 support of devices. Without it, every operand is converted, which is far slower."""

from __future__ import annotations

import functools
import logging
from contextlib import nullcontext
from typing import Any, Callable

import torch
from torch import nn

logger = logging.getLogger(__name__)

#: Measured on one core of an AMD EPYC without AVX512-BF16, 2026-11-29: an update of transpooler_2k_512 at a quarter of
#: the paper's lengths and widths took 5.9 s with bf16 products, and 0.5 s without.
SLOW_BF16 = (
    "{option}: this {device} has no instructions for bf16, which can make it ten times as slow as "
    "without it; --autocast auto takes bf16 only where it is fast"
)


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether the device has instructions for bfloat16 products: AVX512-BF16 or AMX on a CPU."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def autocasts_to_bf16(autocast: str, device: torch.device) -> bool:
    """Return whether ``--autocast`` ("none", "bf16" or "auto") selects bfloat16 on the device."""
    return autocast == "bf16" or (autocast == "auto" and multiplies_bf16(device))


@functools.cache
def warn_of_slow_bf16(option: str, device: torch.device) -> None:
    """Warn, once per process, if the device has no instructions for the bf16 that ``option`` requests."""
    if not multiplies_bf16(device):
        logger.warning(SLOW_BF16.format(option=option, device=device.type))


def autocast_criterion(criterion: Callable[..., Any], autocast: str) -> Callable[..., Any]:
    """Wrap a criterion so that its and the model's matrix products use the precision of ``--autocast``.

    Args:
        criterion: called with a model and a sample of fairseq, whose ``src_tokens`` determine the device.
        autocast: "none", "bf16" or "auto".
    """

    def compute(model: nn.Module, sample: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        device = sample["net_input"]["src_tokens"].device
        if autocast == "bf16":  # also for checkpoints read by fairseq-validate
            warn_of_slow_bf16("--autocast bf16", device)
        # Entered inside fairseq's own torch.cuda.amp.autocast, which would otherwise disable it.
        with torch.autocast(device.type, torch.bfloat16) if autocasts_to_bf16(autocast, device) else nullcontext():
            return criterion(model, sample, *args, **kwargs)

    return compute
