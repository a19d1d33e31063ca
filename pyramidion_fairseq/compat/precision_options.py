"""Checks of options of half precision that a command cannot use, or silently ignores."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import PyramidionError


def missing_gpu(options: Any) -> str:
    """Return why no GPU is used, as a clause of an error message."""
    return "--cpu is given" if options.cpu else "none is available"


def check_device(common: Any) -> None:
    """Refuse ``--fp16`` and ``--amp`` without a GPU. fairseq would fail, or silently train in float32.

    Args:
        common: the options that all commands have.

    Raises:
        PyramidionError: there is no GPU; the message says which option to omit.
    """
    flag = "--amp" if common.amp else "--fp16"
    given = common.amp or (common.fp16 and not (common.memory_efficient_fp16 or common.tpu))
    if given and (common.cpu or not torch.cuda.is_available()):
        raise PyramidionError(
            f"{flag} needs a GPU, and {missing_gpu(common)}: omit the option (PRECISION=full of a recipe), or use "
            "--autocast auto"
        )


def check_generation(options: Any) -> None:
    """Refuse ``--bf16`` and ``--amp`` in commands that do not train. fairseq would ignore them.

    Args:
        options: options of the command line.

    Raises:
        PyramidionError: such an option is given; the message says what to use instead.
    """
    if hasattr(options, "update_freq") or not hasattr(options, "path"):
        return
    flag = next((name for name in ("bf16", "amp") if getattr(options, name, False)), None)
    if flag:
        raise PyramidionError(
            f"--{flag} is for training, and this command would compute in float32: use --fp16 (on a GPU), or "
            "pyramidion-summarize --dtype bfloat16"
        )
