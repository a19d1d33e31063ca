"""Attention of a document's hypotheses to the document, and the layout of its keys and values."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from fairseq.modules import MultiheadAttention
from torch import Tensor, nn

#: Number of tokens per chunk. The keys, or the values, of one head and chunk fit into the cache of a core.
CHUNK = 512
#: Numbers of hypotheses per document for which reading in chunks is faster than matrix products.
FEW = range(1, 5)


class CrossAttention:
    """Cross-attention by torch's attention: the reference, and the implementation on a GPU.

    Args:
        tokens: k, number of vectors per document.
    """

    #: Number of padding tokens to add to each document, whose keys and values are arbitrary.
    num_padding = 0

    def __init__(self, tokens: int):
        self.tokens = tokens

    def project(self, attention: MultiheadAttention, states: Tensor) -> tuple[Tensor, Tensor]:
        """Project states: (B, k, C) -> keys for :meth:`scores`, (B, H, k, D) values. Both have B in front."""
        return self._project_heads(attention.k_proj, attention, states), self.values(attention, states)

    def values(self, attention: MultiheadAttention, states: Tensor) -> Tensor:
        """Project states to values: (B, k, C) -> (B, H, k, D)."""
        return self._project_heads(attention.v_proj, attention, states)

    @staticmethod
    def _project_heads(projection: nn.Linear, attention: MultiheadAttention, states: Tensor) -> Tensor:
        x = F.linear(states, projection.weight, projection.bias)
        return x.unflatten(2, (attention.num_heads, attention.head_dim)).transpose(1, 2).contiguous()

    def first_heads(self, keys: Tensor, heads: int | None) -> Tensor:
        """Return the keys of the first ``heads`` heads, or of all heads for None."""
        return keys[:, :heads]

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Multiply scaled queries with keys: (B, H, q, D) -> (B, H, q, k)."""
        return queries @ keys.mT

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor | None) -> Tensor:
        """Attend.

        Args:
            queries: (B, H, q, D).
            keys, values: from :meth:`project`.
            attn_mask: (B, 1, 1, k) added to the scores, or None.

        Returns:
            (B, H, q, D).
        """
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=attn_mask)


class ChunkedCrossAttention(CrossAttention):
    """Cross-attention for few queries on a CPU: weighted sums of rows, chunk by chunk.

    Matrix products with two to four rows leave a processor waiting: torch's attention takes 1.15 to 1.35 times as
        long. ``embedding_bag`` sums weighted rows at memory bandwidth. Values are its rows, weighted by the attention.
    Keys, stored by feature, are its rows too, weighted by the query. All hypotheses of a document read a chunk one
    after the other, so all but the first find it in the cache.
    """

    def __init__(self, tokens: int):
        super().__init__(tokens)
        self.chunks = -(-tokens // CHUNK)
        self.size = -(-tokens // self.chunks)
        self.num_padding = self.chunks * self.size - tokens
        self._rows = functools.lru_cache(maxsize=2)(_rows)

    def project(self, attention: MultiheadAttention, states: Tensor) -> tuple[Tensor, Tensor]:
        """Project states: (B, k, C) -> (B, chunks, H, D, size) keys, (B, H, chunks * size, D) values."""
        if self.num_padding:
            states = F.pad(states, (0, 0, 0, self.num_padding))
        projection, chunks = attention.k_proj, states.unflatten(1, (self.chunks, self.size))
        keys = torch.matmul(projection.weight, chunks.mT)
        if projection.bias is not None:
            keys += projection.bias[:, None]
        return keys.unflatten(2, (attention.num_heads, attention.head_dim)), self.values(attention, states)

    def first_heads(self, keys: Tensor, heads: int | None) -> Tensor:
        return keys[:, :, :heads]

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Multiply scaled queries with keys: (B, H, q, D) -> (B, H, q, chunks * size)."""
        batch, heads, count, dim = queries.shape
        weights = queries.unsqueeze(1).expand(batch, self.chunks, heads, count, dim).reshape(-1, dim)
        out = self._weighted_sums(keys.reshape(-1, self.size), weights, count)
        return out.view(batch, self.chunks, heads, count, self.size).permute(0, 2, 3, 1, 4).flatten(3)

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, attn_mask: Tensor | None) -> Tensor:
        batch, heads, count, dim = queries.shape
        scores = self.scores(queries * dim**-0.5, keys)
        if attn_mask is not None:
            scores += attn_mask
        weights = scores.softmax(dim=3).unflatten(3, (self.chunks, self.size)).transpose(2, 3)
        out = self._weighted_sums(values.reshape(-1, dim), weights.reshape(-1, self.size), count)
        return out.view(batch, heads, self.chunks, count, dim).sum(dim=2)

    def _weighted_sums(self, rows: Tensor, weights: Tensor, count: int) -> Tensor:
        """Sum groups of m rows, each ``count`` times: (G * m, d), (G * count, m) weights -> (G * count, d)."""
        groups = self._rows(len(rows) // weights.size(1), count, weights.size(1), rows.device)
        return F.embedding_bag(groups, rows, mode="sum", per_sample_weights=weights)


def _rows(groups: int, count: int, size: int, device: torch.device) -> Tensor:
    """Return the row indices of each group, ``count`` times: (groups * count, size) int32."""
    numbers = torch.arange(groups * size, dtype=torch.int32, device=device).view(groups, 1, size)
    return numbers.expand(groups, count, size).reshape(-1, size)


def cross_attention_of(states: Tensor, hypotheses: int) -> CrossAttention:
    """Return the faster implementation for (B, k, C) states and the given number of hypotheses per document."""
    chunked = (
        hypotheses in FEW
        and states.device.type == "cpu"
        and states.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )
    return (ChunkedCrossAttention if chunked else CrossAttention)(states.size(1))
