"""Copies and pickles of tasks and of GPT-2's BPE, and so of loaded summarisers, which hold both."""

from __future__ import annotations

import copyreg
from typing import Any

from .marks import mark


def install() -> None:
    """Let ``copy.deepcopy`` and ``pickle`` copy a task and GPT-2's BPE. Calling it again does nothing.

    Of an object that is still empty, as that of a copy is at first, fairseq looks up attributes without end. The BPE
    holds a module, of which there is no copy.
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
    """Return fairseq's class, and what this object of it was made of."""
    return type(encoder), (encoder.encoder, list(encoder.bpe_ranks), encoder.errors)
