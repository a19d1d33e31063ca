"""Locality-sensitive hashing attention (Kitaev et al. 2020, "Reformer"), one of the paper's baselines."""

from __future__ import annotations

import math
from argparse import Namespace

from torch import Tensor, nn

from ..errors import PyramidionError
from ..functional import lsh_attention, lsh_buckets
from ..functional.attention.projections import project_together
from .base import ATTENTIONS
from .local_heads import LocalHeadsAttention
from .rotations import RandomRotations


@ATTENTIONS.register("lsh")
class LSHAttention(LocalHeadsAttention):
    """Tokens attend to those with the same hash, next to heads with a local window.

    The hashing heads use one projection as query and key. ``k_proj`` therefore only has the keys of the local heads,
    and is None without local heads. See :func:`~pyramidion_fairseq.functional.lsh_attention` for the rest.

    The encoding of a document does not depend on its batch. The number of its buckets follows from its own length.
    Padding is sorted behind its tokens, so its chunks are the same as without padding. Its first chunk does not look
    back (published implementations wrap around, to what is padding in a batch). The hash functions of evaluation are
    sampled once from a fixed seed, and a document with fewer buckets uses the first columns of the same matrix. In
    training, new hash functions are sampled in every call, the same for all documents of a batch.

    Args:
        embed_dim, num_heads, dropout, local_heads, local_window: see :class:`LocalHeadsAttention`.
        bucket_size: number of tokens per chunk, and average number per bucket; at least 1.
        hashes: number of hashing rounds, from 1 to 255.
        max_length: number of tokens of the longest document. Longer ones get larger buckets.
        seed: seed of the hash functions of evaluation.

    Raises:
        PyramidionError: an option is out of range.
    """

    k_proj: nn.Linear | None  # type: ignore[assignment]  # the hashing heads have no keys of their own

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        local_heads: int = 2,
        local_window: int = 128,
        bucket_size: int = 64,
        hashes: int = 4,
        max_length: int = 8192,
        seed: int = 1,
    ):
        super().__init__(embed_dim, num_heads, dropout, local_heads, local_window)
        if bucket_size < 1 or not 1 <= hashes <= 255:
            raise PyramidionError(
                f"--lsh-bucket-size must be at least 1 and --lsh-hashes from 1 to 255, got {bucket_size} and {hashes}"
            )
        self.bucket_size = bucket_size
        self.k_proj = nn.Linear(embed_dim, local_heads * self.head_dim) if local_heads else None
        if self.k_proj is not None:
            nn.init.xavier_uniform_(self.k_proj.weight, gain=2**-0.5)
        columns = math.ceil(max_length / (2 * bucket_size))
        self.rotations = RandomRotations(hashes, num_heads - local_heads, self.head_dim, columns, seed=seed)

    @classmethod
    def from_config(cls, cfg: Namespace) -> LSHAttention:
        return cls(
            cfg.encoder_embed_dim,
            cfg.encoder_attention_heads,
            cfg.attention_dropout,
            cfg.local_heads,
            cfg.local_window,
            cfg.lsh_bucket_size,
            cfg.lsh_hashes,
            cfg.max_source_positions,
            cfg.hash_seed,
        )

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.k_proj is None:
            query, value = project_together(x, (self.q_proj, self.v_proj))
            return query, query, value
        return super().project(x)

    def attend_far(self, query: Tensor, key: Tensor, value: Tensor, padding_mask: Tensor | None) -> Tensor:
        buckets = lsh_buckets(query, self.rotations(), self.bucket_size, padding_mask)
        return lsh_attention(query, value, buckets, self.bucket_size, padding_mask, self.active_dropout)

    def multiplications_far(self, length: int, heads: int) -> int:
        rounds, _, _, most = self.rotations.fixed.shape
        size = min(self.bucket_size, length)
        cells = -(-length // size) * size * 2 * size
        hashing = length * min(most, -(-length // (2 * self.bucket_size)))
        return rounds * heads * self.head_dim * (hashing + 2 * cells)
