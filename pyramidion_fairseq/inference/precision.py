"""The number format of a model that summarises: its weights and states; scores and tournament stay in float32."""

from __future__ import annotations

import logging

import torch

from ..errors import PyramidionError
from ..utils.bf16 import multiplies_bf16

logger = logging.getLogger(__name__)

#: What ``--dtype`` and ``dtype`` take.
DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Return the format by its name in :data:`DTYPES`, or as torch's; "auto" is the fastest of the device, and logged.

    Raises:
        PyramidionError: there is no such name, or the device is too slow in that format.
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
    """Return bfloat16 where the device multiplies it, else float16 on a GPU and float32 on a CPU."""
    if multiplies_bf16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32
