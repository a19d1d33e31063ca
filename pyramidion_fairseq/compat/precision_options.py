"""Half precision that a command cannot have, or takes and leaves out without a word."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import PyramidionError


def missing_gpu(options: Any) -> str:
    """Return why there is no GPU, as the end of a sentence."""
    return "--cpu is given" if options.cpu else "none is there"


def check_device(common: Any) -> None:
    """Refuse half precision that needs a GPU without one: fairseq fails, or trains in float32 without a word.

    Args:
        common: options of every command.

    Raises:
        PyramidionError: says which option to leave out.
    """
    flag = "--amp" if common.amp else "--fp16"
    given = common.amp or (common.fp16 and not (common.memory_efficient_fp16 or common.tpu))
    if given and (common.cpu or not torch.cuda.is_available()):
        raise PyramidionError(
            f"{flag} needs a GPU, and {missing_gpu(common)}: leave it out (PRECISION=full of a recipe), or use "
            "--autocast auto"
        )


def check_generation(options: Any) -> None:
    """Refuse half precision that commands without training take and ignore: they compute in float32.

    Args:
        options: of the command line.

    Raises:
        PyramidionError: says what they read instead.
    """
    if hasattr(options, "update_freq") or not hasattr(options, "path"):
        return
    flag = next((name for name in ("bf16", "amp") if getattr(options, name, False)), None)
    if flag:
        raise PyramidionError(
            f"--{flag} is for training, and here the model would compute in float32: --fp16 (on a GPU), or "
            "pyramidion-summarize --dtype bfloat16"
        )
