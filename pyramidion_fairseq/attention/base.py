"""Base class of the encoder's self-attention."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..functional import block_attention
from ..functional.attention.projections import project_together
from ..registry import Registry

#: Number of attention weights that :meth:`EncoderAttention.dot_product_column_sums` holds at a time.
CHUNK = 2**24
#: Access to tokens of the documents that are not in the input: a :class:`~pyramidion_fairseq.parallel.TokenShards` if
#: other ranks hold them, LSG's ``GlobalContext`` if documents are read in chunks. Any, because this file is part of
#: exported models, which have no ``parallel``, and because ``lsg`` imports it.
OtherTokens = Any


class EncoderAttention(nn.Module):
    """Multi-head self-attention on (B, T, C).

    Parameters have the names and initialisation of fairseq's ``MultiheadAttention``, so stock checkpoints load.
    Subclasses implement :meth:`attend`. :meth:`forward` takes the arguments with which fairseq's encoder layer calls
    its attention, batch first.

    Args:
        embed_dim: C, a multiple of ``num_heads``.
        num_heads: H, number of heads.
        dropout: dropout probability of the attention weights in training.

    Raises:
        ValueError: C is not a multiple of H.
    """

    #: Whether tokens attend only to their block of ``self.block_size`` tokens, or blocks near by, so that documents
    #: can be sharded over several devices, or read in chunks.
    supports_sequence_parallel = False

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
        """Initialise parameters like fairseq's MultiheadAttention with equal query, key and value dimensions."""
        for proj in (self.q_proj, self.k_proj, self.v_proj):
            nn.init.xavier_uniform_(proj.weight, gain=2**-0.5)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    @classmethod
    def num_globals(cls, cfg: Namespace) -> int:
        """Return the number of global tokens that the encoder must prepend to each document for this attention."""
        return 0

    @property
    def halo(self) -> int:
        """Return the number of tokens on each side of a block that the block attends to."""
        return 0

    @property
    def active_dropout(self) -> float:
        """Return the current dropout probability of the attention weights: 0 in evaluation."""
        return self.dropout if self.training else 0.0

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project (B, T, C) input to query, key and value, (B, T, C) each."""
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
            query, key, value: (B, T, C), projected, with the heads concatenated in C.
            padding_mask: (B, T) bool, True on padding, on the right only; None if there is no padding.
            document_lengths: number of tokens of each document, if known on the host, so that ``padding_mask`` need
                not be read from the device.

        Returns:
            (B, T, C); rows at padding are finite but arbitrary.
        """
        raise NotImplementedError(f"{type(self).__name__} has no attend")

    def column_sums(self, query: Tensor, key: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Return the attention received by each token: column sums over queries and heads.

        Variants that do not override this method cannot be combined with scorers that need it.

        Args:
            query, key, padding_mask: see :meth:`attend`.

        Returns:
            (B, T) float32 (float64 for float64 input), without dropout. Padded queries do not count, and padded keys
            get 0. The sums of a document of m tokens add up to m * H.
        """
        raise NotImplementedError(f"{type(self).__name__} has no column_sums")

    @property
    def has_column_sums(self) -> bool:
        """Return whether the variant implements :meth:`column_sums`."""
        return type(self).column_sums is not EncoderAttention.column_sums

    def received(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Compute :meth:`column_sums` from the (B, T, C) input of :meth:`forward`, which is projected again."""
        return self.column_sums(self.q_proj(x), self.k_proj(x), padding_mask)

    def multiplications(self, length: int) -> int:
        """Return the number of multiplications of :meth:`attend` for one document of ``length`` tokens.

        Counts matrix products, but neither projections nor elementwise operations. ``length`` does not include global
        tokens, but the operations on them are counted.
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
        shards: OtherTokens = None,
    ) -> tuple[Tensor, None]:
        """Project, attend, and apply the output projection.

        Args:
            query: (B, T, C); ``key`` and ``value`` must be the same tensor or None.
            key_padding_mask: (B, T) bool, True on padding, or None.
            document_lengths: see :meth:`attend`.
            need_weights: must be False, because block-wise attention has no T x T weights to return.
            attn_mask: must be None, because the variant determines which tokens attend to which.
            shards: None if all tokens of the documents are in ``query``, otherwise see :meth:`attend_shard`; requires
                :attr:`supports_sequence_parallel`.

        Returns:
            ((B, T, C), None).

        Raises:
            ValueError: weights were requested, a mask or another key was given, or :meth:`attend` returned a wrong
                shape.
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
        self, x: Tensor, padding_mask: Tensor | None, document_lengths: Sequence[int] | None, shards: OtherTokens
    ) -> Tensor:
        """Attend within a shard or a chunk of the documents. The default needs no other tokens.

        Args:
            x: (B, W, C), before projection.
            padding_mask, document_lengths: those of this shard or chunk, see :meth:`attend`.
            shards: see :data:`OtherTokens`.

        Returns:
            (B, W, C), as returned by :meth:`attend`.
        """
        return self.attend(*self.project(x), padding_mask, document_lengths)

    def split_heads(self, x: Tensor) -> Tensor:
        """Split heads: (N, T, C) -> (N, H, T, C / H)."""
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
        """Attend within blocks of ``size`` tokens; see :func:`~pyramidion_fairseq.functional.block_attention`."""
        query, key, value = (x.unflatten(-1, (self.num_heads, -1)) for x in (query, key, value))
        return block_attention(query, key, value, size, padding_mask, document_lengths, self.active_dropout).flatten(2)

    def dot_product_column_sums(self, query: Tensor, key: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Compute :meth:`column_sums` of full attention: (N, T, C) x 2, (N, T) bool or None -> (N, T).

        Processes sequences and queries in chunks, and recomputes their weights in the backward pass. Holds about
        :data:`CHUNK` attention weights at a time.
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
            # A softmax over no keys is NaN. Sequences of padding alone attend to themselves, and are zeroed below.
            unseen = padding_mask & ~padding_mask.all(dim=1, keepdim=True)
            weights = logits.masked_fill(unseen[:, None, None, :], float("-inf")).softmax(dim=3)
            return weights.masked_fill(padding_mask[:, None, start:stop, None], 0).sum(dim=(1, 2))


ATTENTIONS: Registry[EncoderAttention] = Registry("attention", EncoderAttention)
