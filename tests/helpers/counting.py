"""Count the operations that a device would run, by tensors on "meta", which compute nothing."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from typing import Any, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pyramidion_fairseq.functional.attention import block_attention

#: Operations that return a tensor but start no kernel.
NO_KERNEL = {"detach", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}


class Operations(TorchDispatchMode):
    """A counter of dispatched operations, and of kernels: operations that are neither views nor allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatched, self.kernels = Counter(), Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.dispatched[name] += 1
        if not func.is_view and name not in NO_KERNEL:
            self.kernels[name] += 1
        return func(*args, **(kwargs or {}))


def fuse_as_a_gpu(monkeypatch: Any) -> None:
    """Make dropout and attention one kernel each on "meta", as on CUDA; otherwise they are several."""

    def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return torch.native_dropout(x, p, True)[0] if training and p else x

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
    ) -> Tensor:
        if attn_mask is not None:
            if attn_mask.dtype == torch.bool:  # as torch does
                attn_mask = torch.where(attn_mask, 0.0, -torch.inf)
            attn_mask = attn_mask.expand(*query.shape[:3], key.size(2))
        return torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, attn_mask, query.requires_grad, dropout_p, is_causal
        )[0]

    monkeypatch.setattr(F, "dropout", dropout)
    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)


def of_training(monkeypatch: Any, model: nn.Module, lengths: Sequence[int], target: int) -> Operations:
    """Count the operations of a forward and a backward pass of a model on "meta".

    Args:
        monkeypatch: pytest's.
        model: with its parameters on "meta".
        lengths: of the documents, in tokens.
        target: tokens of every summary.
    """
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # "meta" has no autocast
    block_attention._block_index.cache_clear()  # cached operations would not be counted
    model.train()
    documents, summaries = (
        torch.zeros(len(lengths), tokens, dtype=torch.long, device="meta") for tokens in (max(lengths), target)
    )
    with Operations() as operations:
        model(documents, None, summaries, document_lengths=list(lengths))[0].float().sum().backward()
    return operations
