"""Weighted sums over the parts of a partition: what every pooling does to representations, in one read of them.

:mod:`.partition_torch` is the file to read first: it computes the sums and their gradients in operations of torch.
:mod:`.partition_ops` makes custom operators of them, which take compiled code or Triton kernels where there are some.
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

    Forward reads each embedding once and writes the k sums; backward writes each gradient once. Both are
    deterministic. Differentiable (once) in ``embeddings`` and ``weights``. The sum of a slot without members is 0.
    The gradient of a token with weight 0 is 0, too, even where other tokens hold NaN.

    Args:
        embeddings: (B, n, d), float64, float32, float16 or bfloat16.
        weights: (B, n), any floating dtype; 0 for tokens that contribute to no slot.
        slots: (B, n) int64 in [0, k), the slot of every token.
        members: (B, k, g) int64 in [0, n), the tokens of every slot: the inverse of ``slots``.
        filled: (B, k, g) bool, False where ``members`` is only a placeholder; None where it nowhere is.

    Returns:
        (B, k, d) in the dtype of ``embeddings``.

    Raises:
        RuntimeError: a second derivative, or one in forward mode, is asked for.
    """
    refuse_forward_mode(embeddings, weights)
    refuse_torch_func(embeddings, weights)
    return partition_sum_op(embeddings, weights, slots, members, filled)
