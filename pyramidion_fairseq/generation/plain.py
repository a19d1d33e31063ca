"""The reference: the same model generating with fairseq's own caches."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

from torch import nn


def set_plain_generation(model: nn.Module, plain: bool) -> None:
    """Let the model generate as stock fairseq does, document and caches repeated for every hypothesis, or not."""
    for module in model.modules():
        if hasattr(module, "plain_generation"):
            module.plain_generation = plain


@contextmanager
def plain_generation(*models: nn.Module) -> Iterator[None]:
    """What generates inside does so as stock fairseq does: same tokens and scores, slower."""
    for model in models:
        set_plain_generation(model, True)
    try:
        yield
    finally:
        for model in models:
            set_plain_generation(model, False)
