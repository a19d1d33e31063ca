"""LSG: local, sparse and global attention (Condevaux and Harispe 2022)."""

from __future__ import annotations

from argparse import Namespace
from typing import NamedTuple, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import PyramidionError
from ..functional.attention.lsg import attend_beside_globals, lsg_attention
from ..functional.attention.neighbourhood import key_mask_of
from ..functional.attention.sparse_tokens import (
    SparseTokens,
    mean_of_buckets,
    mean_of_groups,
    select_block_strided,
    select_by_norm,
    select_strided,
    weigh_groups_by_first,
)
from ..functional.dropout import dropout
from .base import ATTENTIONS, EncoderAttention, OtherTokens
from .rotations import RandomRotations

#: Values of ``--lsg-sparsity-type``.
SPARSITY_TYPES = ["none", "norm", "pooling", "lsh", "stride", "block_stride", "bos_pooling"]
#: Number of rows of the embedding of global tokens, and thus their maximum number.
MAX_GLOBALS = 512


class PartialAttention(NamedTuple):
    """Attention of the global tokens to a part of the tokens, to be combined by :func:`combine_partial_attention`."""

    log_sum_exp: Tensor
    """(..., B, G, H) log-sum-exp of the logits, at least float32."""
    outputs: Tensor
    """(..., B, G, H, D) sum of the values, weighted by the softmax over the part."""


class GlobalContext(NamedTuple):
    """Information about the whole document for tokens of a chunk, besides the tokens that its blocks attend to."""

    global_outputs: Tensor
    """(B, G, H, D) outputs of the global tokens."""
    first_query: Tensor
    """(B, H, D) query of the document's first token."""


def combine_partial_attention(parts: PartialAttention) -> Tensor:
    """Combine attention to P parts into attention to all tokens: (P, B, G, H), (P, B, G, H, D) -> (B, G, H, D)."""
    return (parts.log_sum_exp.softmax(dim=0).unsqueeze(-1) * parts.outputs).sum(dim=0)


@ATTENTIONS.register("lsg")
class LSGAttention(EncoderAttention):
    """Each token attends, in one softmax, to global tokens, to a local window and to sparse tokens beside it.

    The window is the token's own block and the two adjacent ones. The document is reduced by ``sparsity_factor`` to
    sparse tokens, of which ``sparse_block_size`` are seen on each side of the window. Global tokens, which the encoder
    prepends to the document, attend to everything. Queries, keys and values have one projection each.

    In a document of at most two blocks, windows and global tokens cover all tokens, which is full attention. Padding
    is never attended to, so documents do not depend on their batch.

    Differences from the published code (lsg-converter 0.1.9): sparse ranges lie beside the window for every block size
    and factor; groups of padding are never attended to, not by ``bos_pooling`` either; the caller's mask is not
    modified; the hash functions of evaluation are fixed by a seed; a bucket or group is divided by its count, not by
    its count plus 1e-6; if the hashing of ``lsh`` would leave a single bucket, ``bos_pooling`` is used instead
    (published: if factor = sparse block size). See ``docs/comparisons.md`` for numbers.

    Args:
        embed_dim, num_heads, dropout: see :class:`EncoderAttention`.
        block_size: number of tokens per block, at least 1.
        sparse_block_size: number of sparse tokens on each side of the window; 0 for none. Types norm and lsh select
            within chunks of min(block_size, sparse_block_size) tokens, which must divide ``block_size``.
        sparsity_factor: number of tokens per sparse token; must divide ``block_size`` and the chunk. With factor 1
            every token is a sparse token, whatever the type.
        sparsity_type: one of :data:`SPARSITY_TYPES`, see ``functional.attention.sparse_tokens``.
        num_globals: number of global tokens, from 1 to 512.
        lsh_pre_rounds: number of hashing rounds before the reducing one, for type ``lsh``.
        seed: seed of the hash functions of evaluation, for type ``lsh``.

    Raises:
        PyramidionError: an option is out of range, or a size does not divide another one as required.
    """

    supports_sequence_parallel = True

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        block_size: int = 128,
        sparse_block_size: int = 128,
        sparsity_factor: int = 2,
        sparsity_type: str = "norm",
        num_globals: int = 1,
        lsh_pre_rounds: int = 1,
        seed: int = 1,
    ):
        super().__init__(embed_dim, num_heads, dropout)
        _check_sizes(block_size, sparse_block_size, sparsity_factor, sparsity_type, num_globals, lsh_pre_rounds)
        self.block_size = block_size
        self.sparse_reach = sparse_block_size
        self.sparsity_factor = sparsity_factor
        self.num_global_tokens = num_globals
        self.sparsity_type = sparsity_type if sparse_block_size else "none"
        self.sparse_chunk = min(block_size, sparse_block_size)
        if self.sparsity_type == "lsh" and self.sparse_chunk // sparsity_factor < 2:
            self.sparsity_type = "bos_pooling"
        if self.sparsity_type == "lsh" and sparsity_factor > 1:
            buckets = [self.sparse_chunk] * lsh_pre_rounds + [self.sparse_chunk // sparsity_factor]
            dim = embed_dim // num_heads
            self.rotations = nn.ModuleList(
                RandomRotations(num_heads, dim, count // 2, seed=seed + i) for i, count in enumerate(buckets)
            )

    @classmethod
    def from_config(cls, cfg: Namespace) -> LSGAttention:
        return cls(
            cfg.encoder_embed_dim,
            cfg.encoder_attention_heads,
            cfg.attention_dropout,
            cfg.lsg_block_size,
            cfg.lsg_sparse_block_size,
            cfg.lsg_sparsity_factor,
            cfg.lsg_sparsity_type,
            cfg.lsg_global_tokens,
            cfg.lsg_lsh_pre_rounds,
            cfg.hash_seed,
        )

    @classmethod
    def num_globals(cls, cfg: Namespace) -> int:
        return cfg.lsg_global_tokens

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        padding_mask: Tensor | None,
        document_lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """Attend; see :meth:`EncoderAttention.attend`. The first ``num_globals`` of the T rows are the global tokens.

        ``padding_mask`` may be True at any position, for instance on the document's first token.
        """
        return self._attend(query, key, value, padding_mask, self.active_dropout)

    def column_sums(self, query: Tensor, key: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Return the column sums over all queries, for global and other tokens; see the base class.

        The attention received by a sparse token is distributed to its tokens by their shares. The sums are computed as
        the derivative of the output with respect to the values, which costs as much as attending again. They are
        detached: no gradient reaches queries and keys. In training, type ``lsh`` uses other hash functions than the
        layer did.
        """
        # out[q, h, c] = sum_j a[q, h, j] v[j, h, c], with the weights a of query q, key j and head h. Therefore the
        # derivative of sum_q out[q, h, 0] with respect to v[j, h, 0] is sum_q a[q, h, j], the column sum of j. One
        # channel c per head is enough, and the values do not matter: here zeros.
        exact = torch.promote_types(query.dtype, torch.float32)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(query.device.type, enabled=False):
            # A backward pass does not accept inference tensors, but it accepts copies of them.
            query, key = (x.detach().to(exact, copy=x.is_inference()) for x in (query, key))
            value = torch.zeros_like(key, requires_grad=True)
            out = self._attend(query, key, value, padding_mask, 0.0)
            out = out.unflatten(-1, (self.num_heads, -1))[..., 0] * key_mask_of(query, padding_mask).unsqueeze(-1)
            (sums,) = torch.autograd.grad(out.sum(), value)
        return sums.unflatten(-1, (self.num_heads, -1))[..., 0].sum(dim=-1)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, padding_mask: Tensor | None, dropout_p: float
    ) -> Tensor:
        num_globals = self.num_global_tokens
        length = query.size(1)
        missing = (num_globals - length) % self.block_size
        key_mask = F.pad(key_mask_of(query, padding_mask), (0, missing))
        query, key, value = (
            F.pad(x, (0, 0, 0, missing)).unflatten(-1, (self.num_heads, -1)) for x in (query, key, value)
        )
        sparse = self.reduce(*(x[:, num_globals:] for x in (query, key, value, key_mask)))
        out = lsg_attention(
            query, key, value, key_mask, num_globals, self.block_size, sparse, self.sparse_reach, dropout_p
        )
        return out[:, :length].flatten(2)

    def attend_shard(
        self, x: Tensor, padding_mask: Tensor | None, document_lengths: Sequence[int] | None, shards: OtherTokens
    ) -> Tensor:
        if isinstance(shards, GlobalContext):
            return self._attend_chunk(x, padding_mask, shards)
        return self._attend_part(x, padding_mask, shards)

    def _attend_part(self, x: Tensor, padding_mask: Tensor | None, shards: OtherTokens) -> Tensor:
        """Attend within this rank's part, and to its halo, which other ranks send.

        For the global tokens, which attend to everything, the ranks exchange partial softmax sums and weighted values.
        """
        num_globals = self.num_global_tokens
        tokens, key_mask, left = self._with_halo(x, padding_mask, shards)
        start = num_globals + left  # first of this rank's tokens
        stop = x.size(1) + left
        query, key, value = self._with_heads(tokens)
        first_query = query[:, start]
        if self.sparsity_type == "bos_pooling":  # the first rank holds the document's first token
            first_query = shards.group.gather(first_query, "the first query")[0]
        # Each rank contributes its own tokens; the first rank also contributes the global tokens.
        own = key_mask.clone()
        own[:, :start] = False
        own[:, stop:] = False
        if shards.group.rank == 0:
            own[:, :num_globals] = True
        partial = self.attention_of_globals(query[:, :num_globals], key, value, own)
        parts = PartialAttention(*(shards.group.gather(part, "what global tokens see") for part in partial))
        global_outputs = combine_partial_attention(parts)
        out = self._attend_beside_globals(query, key, value, key_mask, first_query)[:, left : stop - num_globals]
        return torch.cat([global_outputs.to(out.dtype), out], dim=1).flatten(2)

    def _with_halo(self, x: Tensor, padding_mask: Tensor | None, shards: OtherTokens) -> tuple[Tensor, Tensor, int]:
        """Add l tokens before and r tokens behind this rank's part: (B, G + W, C) -> (B, G + l + W + r, C).

        Returns the tokens, their (B, G + l + W + r) key mask, which is sent as one more channel, and l.
        """
        tokens = torch.cat([x, key_mask_of(x, padding_mask).unsqueeze(2).to(x.dtype)], dim=2)
        first = self.num_global_tokens  # index of this rank's first token
        left, right = shards.group.beside(tokens[:, first:], shards.parts, self.halo, "the neighbouring blocks")
        tokens = torch.cat([tokens[:, :first], left, tokens[:, first:], right], dim=1)
        return tokens[..., :-1], tokens[..., -1] > 0.5, left.size(1)

    def _attend_chunk(self, x: Tensor, padding_mask: Tensor | None, context: GlobalContext) -> Tensor:
        """Attend within a chunk that includes all tokens seen by its blocks, given the rest in ``context``."""
        query, key, value = self._with_heads(x)
        out = self._attend_beside_globals(query, key, value, key_mask_of(x, padding_mask), context.first_query)
        return torch.cat([context.global_outputs.to(out.dtype), out], dim=1).flatten(2)

    @property
    def halo(self) -> int:
        """Return the number of tokens on each side of a block that it attends to, directly or as sparse tokens."""
        far = 0 if self.sparsity_type == "none" else -(-self.sparse_reach * self.sparsity_factor // self.block_size)
        return self.block_size * (1 + far)

    def attention_of_globals(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor) -> PartialAttention:
        """Let global tokens attend to some tokens: (B, G, H, D), (B, T, H, D) x 2, (B, T) bool, False on padding."""
        exact = torch.promote_types(query.dtype, torch.float32)
        with torch.autocast(query.device.type, enabled=False):
            logits = torch.einsum("bghd,bkhd->bghk", query.to(exact), key.to(exact)) * query.size(-1) ** -0.5
            logits = logits.masked_fill(~key_mask[:, None, None], torch.finfo(exact).min)
            weights = dropout(logits.softmax(dim=3), self.active_dropout)
            outputs = torch.einsum("bghk,bkhd->bghd", weights, value.to(exact))
        return PartialAttention(logits.logsumexp(dim=3), outputs)

    def attention_of_globals_in_chunk(
        self, x: Tensor, padding_mask: Tensor | None, with_globals: bool
    ) -> tuple[PartialAttention, Tensor]:
        """Return the attention of the global tokens to one chunk, and the query of the chunk's first token.

        Args:
            x: (B, G + T, C), before projection, global tokens first.
            padding_mask: (B, G + T) bool or None.
            with_globals: whether the global tokens also attend to themselves; True for exactly one chunk.
        """
        num_globals = self.num_global_tokens
        query, key, value = self._with_heads(x)
        key_mask = key_mask_of(x, padding_mask).clone()
        key_mask[:, :num_globals] &= with_globals
        return self.attention_of_globals(query[:, :num_globals], key, value, key_mask), query[:, num_globals]

    @staticmethod
    def global_context(chunks: Sequence[tuple[PartialAttention, Tensor]]) -> GlobalContext:
        """Combine the results of :meth:`attention_of_globals_in_chunk` for all chunks of a document."""
        partial = PartialAttention(*(torch.stack(parts) for parts in zip(*(found for found, _ in chunks))))
        return GlobalContext(combine_partial_attention(partial), chunks[0][1])

    def _with_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project to query, key and value, and split heads: (B, T, C) -> (B, T, H, D) each."""
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)) for part in self.project(x))
        return query, key, value

    def _attend_beside_globals(
        self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, first_query: Tensor
    ) -> Tensor:
        """Attend with all tokens except the global ones: (B, G + T, H, D) x 3, (B, G + T) -> (B, T, H, D)."""
        first = self.num_global_tokens  # index of the document's first token
        length = query.size(1) - first
        missing = -length % self.block_size
        query, key, value = (F.pad(part, (0, 0, 0, 0, 0, missing)) for part in (query, key, value))
        key_mask = F.pad(key_mask, (0, missing))
        sparse = self.reduce(query[:, first:], key[:, first:], value[:, first:], key_mask[:, first:], first_query)
        out = attend_beside_globals(
            query, key, value, key_mask, first, self.block_size, sparse, self.sparse_reach, self.active_dropout
        )
        return out[:, :length]

    def multiplications(self, length: int) -> int:
        length += -length % self.block_size
        far = 0 if self.sparsity_type == "none" else 2 * self.sparse_reach
        num_globals = self.num_global_tokens
        cells = num_globals * (num_globals + length) + length * (num_globals + far + 3 * self.block_size)
        hashing = length * sum(rotation.fixed.size(-1) for rotation in getattr(self, "rotations", []))
        return self.embed_dim * (2 * cells + hashing)

    def reduce(
        self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor, first_query: Tensor | None = None
    ) -> SparseTokens | None:
        """Return the sparse tokens of documents of whole blocks: (B, T, H, D) x 3, (B, T).

        ``first_query`` (B, H, D) is the query of the document's first token, if that is not the first of these tokens.
        """
        tokens = (key, value, key_mask)
        factor = self.sparsity_factor
        if self.sparsity_type == "none":
            return None
        if factor == 1:
            return select_strided(*tokens, 1)
        if self.sparsity_type == "norm":
            return select_by_norm(*tokens, self.sparse_chunk, factor)
        if self.sparsity_type == "pooling":
            return mean_of_groups(*tokens, factor)
        if self.sparsity_type == "stride":
            return select_strided(*tokens, factor)
        if self.sparsity_type == "block_stride":
            return select_block_strided(*tokens, self.block_size, factor)
        if self.sparsity_type == "bos_pooling":
            return weigh_groups_by_first(*tokens, factor, query[:, 0] if first_query is None else first_query)
        return mean_of_buckets(*tokens, self.sparse_chunk, factor, [rotation() for rotation in self.rotations])


def _check_sizes(block: int, sparse_block: int, factor: int, kind: str, num_globals: int, pre_rounds: int) -> None:
    """Raise an error for options out of range, or sizes that do not divide each other."""
    if kind not in SPARSITY_TYPES:
        raise PyramidionError(
            "--lsg-sparsity-type must be one of {}, got {!r}".format(", ".join(SPARSITY_TYPES), kind)
        )
    if block < 1 or sparse_block < 0 or factor < 1 or pre_rounds < 0:
        raise PyramidionError("sizes, factor and rounds of LSG attention must not be negative, nor --lsg-block-size 0")
    if block % factor:
        raise PyramidionError(f"--lsg-sparsity-factor ({factor}) must divide --lsg-block-size ({block})")
    chunk = min(block, sparse_block)
    if kind in ("norm", "lsh") and chunk and (block % chunk or chunk % factor):
        raise PyramidionError(
            f"--lsg-sparse-block-size ({sparse_block}) must be a multiple of --lsg-sparsity-factor ({factor}), and "
            f"divide --lsg-block-size ({block}) or be larger, with --lsg-sparsity-type {kind}"
        )
    if not 1 <= num_globals <= MAX_GLOBALS:
        raise PyramidionError(f"--lsg-global-tokens must be from 1 to {MAX_GLOBALS}, got {num_globals}")
