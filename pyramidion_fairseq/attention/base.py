"""The base class of the encoder's self-attention."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..functional import block_attention
from ..functional.attention.projections import project_together
from ..registry import Registry

#: Attention weights that :meth:`EncoderAttention.dot_product_column_sums` holds at a time.
CHUNK = 2**24


class EncoderAttention(nn.Module):
    """Multi-head self-attention on (B, T, C).

    Parameters are named and initialised as those of fairseq's ``MultiheadAttention``, so that stock checkpoints
    load. Subclasses implement :meth:`attend`; :meth:`forward` takes the arguments with which fairseq's encoder layer
    calls its attention, batch first.

    Args:
        embed_dim: C, a multiple of ``num_heads``.
        num_heads: H.
        dropout: of the attention weights, in training.

    Raises:
        ValueError: C is no multiple of H.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim ({embed_dim}) must be a multiple of num_heads ({num_heads})")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.reset_parameters()

    @classmethod
    def from_config(cls, cfg: Namespace) -> EncoderAttention:
        """Build from complete options (:func:`~pyramidion_fairseq.config.complete`)."""
        return cls(cfg.encoder_embed_dim, cfg.encoder_attention_heads, cfg.attention_dropout)

    def reset_parameters(self) -> None:
        """Initialise as fairseq's MultiheadAttention with equal widths of query, key and value."""
        for proj in (self.q_proj, self.k_proj, self.v_proj):
            nn.init.xavier_uniform_(proj.weight, gain=2**-0.5)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    @classmethod
    def num_globals(cls, cfg: Namespace) -> int:
        """Return how many global tokens the encoder must put before each document for this attention."""
        return 0

    #: Whether a token needs no more than its block of ``self.block_size`` tokens, or blocks near by: documents may
    #: then lie on several devices, or be read in chunks.
    supports_sequence_parallel = False

    @property
    def halo(self) -> int:
        """Return the tokens that a block sees on each side of it."""
        return 0

    @property
    def active_dropout(self) -> float:
        """Return the dropout probability of the attention weights: 0 in evaluation."""
        return self.dropout if self.training else 0.0

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, (B, T, C) each, of (B, T, C) input."""
        query, key, value = project_together(x, (self.q_proj, self.k_proj, self.v_proj))
        return query, key, value

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        padding_mask: Tensor | None,
        document_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """Attend with projected queries, keys and values.

        Args:
            query, key, value: (B, T, C), projected; heads lie beside each other in C.
            padding_mask: (B, T) bool, True on padding, which is on the right; None where there is none.
            document_lengths: tokens of each document, where the host knows them: what ``padding_mask`` says without
                asking the device.

        Returns:
            (B, T, C); rows of padding are finite and otherwise without meaning.
        """
        raise NotImplementedError(f"{type(self).__name__} has no attend")

    def column_sums(self, query: Tensor, key: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Return how much attention each token receives: column sums over queries and heads.

        Variants that do not override it cannot be combined with scorers that need it.

        Args:
            query, key, padding_mask: as of :meth:`attend`.

        Returns:
            (B, T) float32 (float64 for float64), without dropout; padded queries do not count, padded keys get 0. The
            sums of a document with m tokens add up to m * H.
        """
        raise NotImplementedError(f"{type(self).__name__} has no column_sums")

    @property
    def has_column_sums(self) -> bool:
        """Return whether the variant has :meth:`column_sums`."""
        return type(self).column_sums is not EncoderAttention.column_sums

    def received(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Return :meth:`column_sums` for (B, T, C) input, as of :meth:`forward`; it is projected once more."""
        return self.column_sums(self.q_proj(x), self.k_proj(x), padding_mask)

    def multiplications(self, length: int) -> int:
        """Return the number of multiplications of :meth:`attend` for one document of ``length`` tokens.

        Those of matrix products: projections are not counted, nor what is done once per element. Global tokens do not
        count as tokens of the document, but what is done for them is counted.
        """
        raise NotImplementedError(f"{type(self).__name__} has no multiplications")

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        document_lengths: Sequence[int] | None = None,
        shards: Any = None,
    ) -> tuple[Tensor, None]:
        """Project, attend, and project back.

        Args:
            query: (B, T, C); ``key`` and ``value`` are the same tensor, or None.
            key_padding_mask: (B, T) bool, True on padding, or None.
            document_lengths: see :meth:`attend`.
            need_weights: must be False: block-wise attention has no T x T weights to return.
            attn_mask: must be None: the variant decides which tokens attend to which.
            shards: a :class:`~pyramidion_fairseq.parallel.TokenShards`, of a variant that
                :attr:`supports_sequence_parallel`, where other ranks hold tokens of the documents. Or, where they are
                read in chunks, what a variant needs of all of it: LSG's ``GlobalContext``. None: all are here.

        Returns:
            ((B, T, C), None).

        Raises:
            ValueError: weights, a mask, or another key was given; or :meth:`attend` returned another shape.
        """
        if need_weights or attn_mask is not None or (key is not None and key is not query):
            raise ValueError("encoder attention is self-attention without attn_mask and without returned weights")
        if shards is not None:
            return self.out_proj(self.attend_shard(query, key_padding_mask, document_lengths, shards)), None
        attended = self.attend(*self.project(query), key_padding_mask, document_lengths)
        if attended.shape != query.shape:
            expected = tuple(query.shape)
            raise ValueError(f"{type(self).__name__}.attend must return {expected}, got {tuple(attended.shape)}")
        return self.out_proj(attended), None

    def attend_shard(
        self, x: Tensor, padding_mask: Tensor | None, document_lengths: Sequence[int] | None, shards: Any
    ) -> Tensor:
        """Attend in this rank's part of documents that lie on several ranks; a block needs nothing from elsewhere.

        Args:
            x: (B, W, C), not yet projected.
            padding_mask, document_lengths: of this part, as of :meth:`attend`.
            shards: a :class:`~pyramidion_fairseq.parallel.TokenShards`.

        Returns:
            (B, W, C), as of :meth:`attend`.
        """
        return self.attend(*self.project(x), padding_mask, document_lengths)

    def split_heads(self, x: Tensor) -> Tensor:
        """Split into heads: (N, T, C) -> (N, H, T, C / H)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def attend_in_blocks(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        padding_mask: Tensor | None,
        document_lengths: Sequence[int] | None,
        size: int,
    ) -> Tensor:
        """Attend in blocks of ``size`` tokens, by :func:`~pyramidion_fairseq.functional.block_attention`."""
        query, key, value = (x.unflatten(-1, (self.num_heads, -1)) for x in (query, key, value))
        return block_attention(query, key, value, size, padding_mask, document_lengths, self.active_dropout).flatten(2)

    def dot_product_column_sums(self, query: Tensor, key: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Return :meth:`column_sums` of full attention: (N, T, C) x 2, (N, T) bool or None -> (N, T).

        Works on some sequences and some queries at a time, and recomputes their weights in the backward pass: at no
        time are there more than about :data:`CHUNK` weights.
        """
        count, length = query.shape[:2]
        queries = max(1, min(length, CHUNK // (self.num_heads * length)))
        sequences = max(1, CHUNK // (self.num_heads * length * queries))
        sums = []
        for rows in (slice(start, start + sequences) for start in range(0, count, sequences)):
            mask = None if padding_mask is None else padding_mask[rows]
            parts = [
                checkpoint(
                    self._column_sums, query[rows], key[rows], mask, start, start + queries, use_reentrant=False
                )
                for start in range(0, length, queries)
            ]
            sums.append(torch.stack(parts).sum(dim=0))
        return torch.cat(sums)

    def _column_sums(self, query: Tensor, key: Tensor, padding_mask: Tensor | None, start: int, stop: int) -> Tensor:
        """Sum over the queries from ``start`` to ``stop``."""
        with torch.autocast(query.device.type, enabled=False):
            dtype = query.dtype if query.dtype == torch.float64 else torch.float32
            query = self.split_heads(query[:, start:stop].to(dtype))
            key = self.split_heads(key.to(dtype))
            logits = query @ key.transpose(2, 3) / query.size(3) ** 0.5
            if padding_mask is None:
                return logits.softmax(dim=3).sum(dim=(1, 2))
            # A softmax over nothing is NaN: where there is only padding, it sees itself, and does not count below.
            unseen = padding_mask & ~padding_mask.all(dim=1, keepdim=True)
            weights = logits.masked_fill(unseen[:, None, None, :], float("-inf")).softmax(dim=3)
            return weights.masked_fill(padding_mask[:, None, start:stop, None], 0).sum(dim=(1, 2))


ATTENTIONS: Registry[EncoderAttention] = Registry("attention", EncoderAttention)
