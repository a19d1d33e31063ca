"""Counts of the operations that a device would be told to do, by tensors on "meta", which compute nothing."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from typing import Any, Sequence

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

#: Return a tensor, and start nothing on a device.
NO_KERNEL = {"detach", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}


class Operations(TorchDispatchMode):
    """Counts dispatched operations, and kernels: those that are neither views nor mere allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatched, self.kernels = Counter(), Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.dispatched[name] += 1
        if not func.is_view and name not in NO_KERNEL:
            self.kernels[name] += 1
        return func(*args, **(kwargs or {}))


def of_training(monkeypatch: Any, model: nn.Module, lengths: Sequence[int], target: int) -> Operations:
    """Count forward and backward of a model on "meta".

    Args:
        monkeypatch: pytest's.
        model: with its parameters on "meta".
        lengths: of the documents, in tokens.
        target: tokens of every summary.
    """
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # which "meta" does not have
    model.train()
    documents, summaries = (
        torch.zeros(len(lengths), tokens, dtype=torch.long, device="meta") for tokens in (max(lengths), target)
    )
    with Operations() as operations:
        model(documents, None, summaries, document_lengths=list(lengths))[0].float().sum().backward()
    return operations
