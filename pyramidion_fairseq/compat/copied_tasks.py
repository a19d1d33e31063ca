"""Copying and pickling of tasks and of GPT-2's BPE, and therefore of loaded summarisers, which hold both."""

from __future__ import annotations

import copyreg
from typing import Any

from .marks import mark


def install() -> None:
    """Let ``copy.deepcopy`` and ``pickle`` copy a task and GPT-2's BPE. Further calls do nothing.

    A copy has no attributes at first, and fairseq's ``__getattr__`` then recurses without end. The BPE holds a
    reference to a module, which cannot be copied.
    """
    from fairseq.data.encoders.gpt2_bpe_utils import Encoder
    from fairseq.tasks.fairseq_task import StatefulContainer

    copyreg.pickle(Encoder, _parts_of_bpe)

    stock = StatefulContainer.__getattr__
    if getattr(stock, "ends", False):
        return

    def get(self: Any, name: str) -> Any:
        if name in ("_state", "_factories"):
            raise AttributeError(name)
        return stock(self, name)

    StatefulContainer.__getattr__ = mark(get, "ends")


def _parts_of_bpe(encoder: Any) -> tuple[Any, ...]:
    """Return the class and its arguments, as ``__reduce__`` does."""
    return type(encoder), (encoder.encoder, list(encoder.bpe_ranks), encoder.errors)
