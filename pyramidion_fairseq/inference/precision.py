"""Number formats for the weights and states of a summarisation model. Scores and tournament stay in float32."""

from __future__ import annotations

import logging

import torch

from ..errors import PyramidionError
from ..utils.bf16 import multiplies_bf16

logger = logging.getLogger(__name__)

#: Values of ``--dtype`` and ``dtype``.
DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Return a dtype, given a ``torch.dtype`` or a name in :data:`DTYPES`; the choice of "auto" is logged.

    Raises:
        PyramidionError: the name is unknown, or float16 is requested on a CPU, where it is too slow.
    """
    name = str(name).removeprefix("torch.")
    if name not in DTYPES:
        raise PyramidionError(f"dtype {name!r}: it is one of {', '.join(DTYPES)}")
    dtype = DTYPES[name]
    if dtype is None:
        dtype = fastest_dtype(device)
        logger.info(f"dtype auto: {str(dtype).removeprefix('torch.')}, the fastest on this {device.type}")
    if dtype == torch.float16 and device.type == "cpu":
        raise PyramidionError("dtype float16 is for GPUs: take bfloat16 or float32 on a CPU")
    return dtype


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the device multiplies it natively, otherwise float16 on a GPU and float32 on a CPU."""
    if multiplies_bf16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32
