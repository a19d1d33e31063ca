"""Weighted sums over a partition of the tokens: the operation by which every pooling combines representations.

Start with :mod:`.partition_torch`, which computes the sums and their gradients with torch. :mod:`.partition_ops` wraps
them in custom operators that use compiled code or Triton kernels if available.
"""

from __future__ import annotations

from torch import Tensor

from .derivatives import refuse_forward_mode, refuse_torch_func
from .partition_ops import partition_sum_op


def partition_sum(
    embeddings: Tensor, weights: Tensor, slots: Tensor, members: Tensor, filled: Tensor | None = None
) -> Tensor:
    """Sum the weighted tokens of each slot.

    ``out[b, j] = sum of weights[b, i] * embeddings[b, i] over the tokens i with slots[b, i] == j``.

    The forward pass reads each embedding once and writes the k sums. The backward pass writes each gradient once. Both
    are deterministic. Differentiable once with respect to ``embeddings`` and ``weights``. The sum of a slot without
    members is 0. The gradient of a token with weight 0 is 0, even if other tokens hold NaN.

    Args:
        embeddings: (B, n, d), float64, float32, float16 or bfloat16.
        weights: (B, n), any floating dtype; 0 for tokens that contribute to no slot.
        slots: (B, n) int64 in [0, k), the slot of each token.
        members: (B, k, g) int64 in [0, n), the tokens of each slot: the inverse of ``slots``.
        filled: (B, k, g) bool, False where ``members`` is a placeholder; None if there are no placeholders.

    Returns:
        (B, k, d) in the dtype of ``embeddings``.

    Raises:
        RuntimeError: a second derivative or a forward-mode derivative is requested.
    """
    refuse_forward_mode(embeddings, weights)
    refuse_torch_func(embeddings, weights)
    return partition_sum_op(embeddings, weights, slots, members, filled)
