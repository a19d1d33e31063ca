"""Full attention: every token attends to every token (Vaswani et al. 2017; the paper's "Vanilla")."""

from __future__ import annotations

from typing import Sequence

from torch import Tensor

from .base import ATTENTIONS, EncoderAttention


@ATTENTIONS.register("full")
class FullAttention(EncoderAttention):
    """softmax(q k^T / sqrt(d)) v over the whole document."""

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        padding_mask: Tensor | None,
        document_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        return self.attend_in_blocks(query, key, value, padding_mask, document_lengths, query.size(1))

    def column_sums(self, query: Tensor, key: Tensor, padding_mask: Tensor | None) -> Tensor:
        return self.dot_product_column_sums(query, key, padding_mask)

    def multiplications(self, length: int) -> int:
        return 2 * length * length * self.embed_dim
