"""Handle rows that run out of memory: record it as their result, and continue with the other rows."""

from __future__ import annotations

import gc
import re
from typing import Any, Callable

import torch

from pyramidion_fairseq.utils.memory import is_out_of_memory


def attempt(call: Callable[[], Any]) -> tuple[Any, str]:
    """Return (result of the call, ""), or (None, message) if it ran out of memory.

    Whatever else goes wrong is raised. What the call had taken is free again afterwards.
    """
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    try:
        return call(), ""
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        failure = _needs(str(error))
    gc.collect()  # outside of the handler, whose error keeps the tensors of the call
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return None, failure


def _needs(message: str) -> str:
    """Return the message for an out-of-memory error: the peak memory, and the allocation that failed."""
    asked = re.search(r"tried to allocate ([\d.]+) ?([KMG]i)?B?", message, re.IGNORECASE)
    if asked is None:
        return "out of memory"
    there = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0
    unit = {None: 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[asked[2]]
    return f"out of memory, needs more than {(there + float(asked[1]) * unit) / 2**30:.3g} GiB"
