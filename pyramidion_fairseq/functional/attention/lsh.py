"""Attention inside buckets of locality-sensitive hashing (Kitaev et al. 2020, "Reformer")."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .blocks import join_blocks, split_blocks
from .neighbourhood import key_mask_of, neighbours

#: Logit of a token with itself, as in the paper's Eq. 6. It matters only if the token sees nothing else.
SELF = -1e5
#: Logit of masked keys. Far below SELF, and finite, so that rows at padding stay finite.
NEVER = -1e9


@torch.no_grad()
def lsh_buckets(x: Tensor, rotations: Tensor, bucket_size: int, padding_mask: Tensor | None = None) -> Tensor:
    """Hash vectors by direction: argmax([xR; -xR]) (section 2, "Locality sensitive hashing").

    A document of n tokens uses the first P = ceil(n / (2 * bucket_size)) columns of R, which gives 2 P buckets. The
    number of its buckets depends on its own length, never on the padding of its batch.

    Args:
        x: (B, T, H, D) shared queries and keys; hashed in at least float32.
        rotations: (R, H, D, Pmax) normally distributed numbers, one matrix per hashing round and head. A document that
            would need more than Pmax columns gets 2 * Pmax larger buckets.
        bucket_size: average number of tokens per bucket.
        padding_mask: (B, T) bool, True on padding, on the right only; or None.

    Returns:
        (B, H, R, T) int64 bucket numbers; arbitrary at padding.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    most = min(rotations.size(-1), -(-x.size(1) // (2 * bucket_size)))
    lengths = key_mask_of(x, padding_mask).sum(dim=1)
    columns = ((lengths + 2 * bucket_size - 1) // (2 * bucket_size)).clamp(1, most)[:, None, None, None, None]
    with torch.autocast(x.device.type, enabled=False):
        projected = torch.einsum("bthd,rhdp->bhrtp", x.to(exact), rotations[..., :most].to(exact))
    absent = torch.arange(most, device=x.device) >= columns
    best = projected.abs().masked_fill(absent, -1).argmax(dim=-1, keepdim=True)
    return torch.where(projected.gather(-1, best) < 0, best + columns, best).squeeze(-1)


def lsh_attention(
    query: Tensor,
    value: Tensor,
    buckets: Tensor,
    chunk: int,
    padding_mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attend to tokens with the same hash, over several hashing rounds, with shared queries and keys.

    See section 2, Eq. 4-6, and Appendix A.

    In each round, tokens are sorted by bucket, then by position, and cut into chunks. A token sees its own chunk and
    the previous one. The first chunk has no previous one; nothing wraps around. Keys are the L2-normalised queries,
    and logits are divided by sqrt(D). Rounds are combined with the weights exp(z_r - z) of their log-sum-exps z_r. A
    pair that meets in N rounds gets -log N in each of them (the N_ij of Appendix A), so the result is exactly one
    softmax over the union of what a token sees in all rounds. A token sees itself only if the union is otherwise
    empty.

    Padding is sorted behind the tokens in every round, so a document has the same chunks as without padding.

    Args:
        query: (B, T, H, D) shared queries and keys, before normalisation.
        value: (B, T, H, D).
        buckets: (B, H, R, T) int64 from :func:`lsh_buckets`.
        chunk: number of tokens per chunk, at least 1.
        padding_mask: (B, T) bool, True on padding, on the right only; or None.
        dropout: dropout probability of the attention weights of each round; 0 in evaluation.

    Returns:
        (B, T, H, D), in the dtype of ``value``; rows at padding are finite but arbitrary.

    Raises:
        ValueError: ``chunk`` is below 1.
    """
    length = buckets.size(3)
    size = min(chunk, length)
    padding = ~key_mask_of(query, padding_mask)[:, None, None]
    order = buckets.masked_fill(padding, torch.iinfo(buckets.dtype).max).sort(dim=-1, stable=True).indices
    numbers = torch.arange(length, device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(-1, order, numbers)
    chunks = _Chunks(order, size)

    # (B * H * R * chunks, size, D)
    queries, values = (chunks.split(x.transpose(1, 2).unsqueeze(2)) for x in (query, value))
    keys = F.normalize(queries.to(torch.promote_types(queries.dtype, torch.float32)), dim=-1)
    logits = queries @ chunks.look_back(keys).to(queries.dtype).transpose(1, 2) * query.size(-1) ** -0.5
    logits = _masked_logits(logits, chunks, rank // size, ~padding)
    total = logits.logsumexp(dim=-1, keepdim=True)
    weights = F.dropout((logits - total).exp(), dropout, training=dropout > 0)
    out = weights.to(values.dtype) @ chunks.look_back(values)

    # Restore the document's order, and take one softmax over the rounds: (B, H, R, T, D) -> (B, T, H, D)
    out, total = (chunks.join(x) for x in (out, total))
    rank = rank.unsqueeze(-1)
    share = total.gather(3, rank).softmax(dim=2).to(out.dtype)
    return (share * out.gather(3, rank.expand_as(out))).sum(dim=2).transpose(1, 2)


class _Chunks(NamedTuple):
    """Tokens sorted by bucket and cut into chunks, for each head and round."""

    order: Tensor
    """(B, H, R, T) int64, sorted tokens."""
    size: int
    """Number of tokens per chunk."""

    def split(self, x: Tensor) -> Tensor:
        """Sort and split into chunks: (B, 1 or H, 1 or R, T, ...) -> (B * H * R * chunks, size, ...)."""
        order = self.order
        index = order.reshape(*order.shape, *[1] * (x.dim() - 4)).expand(*order.shape, *x.shape[4:])
        x = x.expand(*order.shape[:3], *x.shape[3:]).gather(3, index)
        return split_blocks(x.flatten(0, 2), self.size)

    def look_back(self, x: Tensor) -> Tensor:
        """Prepend the previous chunk to each chunk: (B * H * R * chunks, size, ...) -> (..., 2 * size, ...)."""
        return neighbours(x, self.order.shape[:3].numel(), before=1, after=0)

    def join(self, x: Tensor) -> Tensor:
        """Join the chunks without undoing the sort: (B * H * R * chunks, size, D) -> (B, H, R, T, D)."""
        sequences = self.order.shape[:3].numel()
        length = self.order.size(3)
        return join_blocks(x, sequences, length).view(*self.order.shape, -1)


def _masked_logits(logits: Tensor, chunks: _Chunks, chunk_of_token: Tensor, key_mask: Tensor) -> Tensor:
    """Subtract log N_ij from the logits, and mask padding and each token's own key.

    Args:
        logits: (N, size, 2 * size).
        chunks: the N chunks.
        chunk_of_token: (B, H, R, T) int64 index of each token's chunk.
        key_mask: (B, 1, 1, T) bool, False on padding.

    Returns:
        Same shape as ``logits``, at least float32.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logits = logits - _shared_rounds(chunk_of_token, chunks).to(logits.dtype).log()
    tokens = split_blocks(chunks.order.flatten(0, 2), chunks.size)
    logits = logits.masked_fill(tokens.unsqueeze(2) == chunks.look_back(tokens).unsqueeze(1), SELF)
    return logits.masked_fill(~chunks.look_back(chunks.split(key_mask)).unsqueeze(1), NEVER)


def _shared_rounds(chunk_of_token: Tensor, chunks: _Chunks) -> Tensor:
    """Return N_ij, in how many rounds query i sees key j, at least 1: (B, H, R, T) -> (N, size, 2 * size)."""
    met = torch.zeros((), dtype=torch.uint8, device=chunk_of_token.device)
    for one_round in chunk_of_token.split(1, dim=2):  # all rounds at once would need R times the memory
        own = chunks.split(one_round)
        behind = own.unsqueeze(2) - chunks.look_back(own).unsqueeze(1)
        met = met + ((behind == 0) | (behind == 1)).to(met.dtype)
    return met.clamp(min=1)
