"""The tournament of successive halving on scores alone, and the choice between its three implementations.

Start with :mod:`.tournament_torch`. Compiled code and Triton kernels give the same results.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .derivatives import refuse_forward_mode, refuse_torch_func
from .native import compiled_for
from .tournament_ops import kernels, tournament_cpu, tournament_gpu
from .tournament_torch import TournamentResult, tournament_torch


def tournament(
    scores: Tensor, padding_mask: Tensor | None, k: int, base: float | None, sort: bool, preserve_order: bool
) -> TournamentResult:
    """Run the tournament of :func:`~.successive_halving.successive_halving_topk`, with the same arguments.

    Differentiable once with respect to the scores.

    Args:
        scores: (B, n) float32 or float64, n > k.
        padding_mask: (B, n) bool, or None.

    Raises:
        RuntimeError: a second derivative or a forward-mode derivative is requested.
    """
    refuse_forward_mode(scores)
    refuse_torch_func(scores)
    length = scores.size(1)
    padded_length = k << ((length - 1) // k).bit_length()  # k * 2^ceil(log2(n / k)), in integer arithmetic
    scores = bound(scores)
    if compiled_for(scores, padding_mask):
        outputs = tournament_cpu(scores, padding_mask, padded_length, k, base, sort, preserve_order)
    elif scores.dtype == torch.float32 and kernels.supports(scores, padding_mask):
        outputs = tournament_gpu(scores, padding_mask, padded_length, k, base, sort, preserve_order)
    else:
        return tournament_torch(scores, padding_mask, padded_length, k, base, sort, preserve_order)
    slot_scores, slots, weights, members, filled, *_ = outputs  # then the record of compiled code
    all_filled = padding_mask is None and padded_length == length
    return TournamentResult(slot_scores, slots, weights, members, None if all_filled else filled)


def bound(scores: Tensor) -> Tensor:
    """Clamp scores to the range in which their squares are finite.

    The difference of two infinite scores would be NaN, and that of huge scores would overflow in the gradient.
    """
    limit = torch.finfo(scores.dtype).max ** 0.5
    return scores.clamp(-limit, limit)
