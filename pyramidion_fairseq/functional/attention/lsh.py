"""Attention inside buckets of locality-sensitive hashing (Kitaev et al. 2020, "Reformer")."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .blocks import join_blocks, split_blocks
from .neighbourhood import neighbours, visible_tokens

#: Subtracted from a token's logit with itself, as in the paper's Eq. 6: it counts only where nothing else is there.
SELF = -1e5
#: The logit of what must not be seen. Far below SELF, and finite: rows of padding stay finite.
NEVER = -1e9


@torch.no_grad()
def lsh_buckets(x: Tensor, rotations: Tensor, bucket_size: int, padding_mask: Tensor | None = None) -> Tensor:
    """Hash vectors by their direction: argmax([xR; -xR]) (section 2, "Locality sensitive hashing").

    A document of n tokens uses the first P = ceil(n / (2 * bucket_size)) columns of R, thus 2 P buckets: the number
    of its buckets depends on its own length, never on how far its batch pads it.

    Args:
        x: (B, T, H, D) shared queries and keys; hashed in float32 at least.
        rotations: (R, H, D, Pmax) random normal numbers, one matrix per round of hashing and head. A document that
            would need more than Pmax columns gets 2 * Pmax larger buckets.
        bucket_size: tokens that a bucket holds on average.
        padding_mask: (B, T) bool, True on padding, which is on the right, or None.

    Returns:
        (B, H, R, T) int64 bucket numbers; those of padding are without meaning.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    most = min(rotations.size(-1), -(-x.size(1) // (2 * bucket_size)))
    lengths = visible_tokens(x, padding_mask).sum(dim=1)
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
    """Shared-QK attention to what hashes alike, over several rounds of hashing (section 2, Eq. 4-6 and Appendix A).

    Per round, tokens are sorted by bucket, then position, and cut into chunks; a token sees its own chunk and the
    one before it. The first chunk has none before it: nothing wraps around. Keys are the L2-normalised queries;
    logits are divided by sqrt(D). Rounds are joined with the weights exp(z_r - z) of their log-sum-exps z_r. A pair
    that meets in N rounds gets -log N in each of them (the N_ij of Appendix A), so the result is exactly one softmax
    over the union of what a token sees in all rounds. Itself a token sees only where that union holds nothing else.

    Padding is sorted behind the tokens in every round, so that a document's chunks are those it has without padding.

    Args:
        query: (B, T, H, D) shared queries and keys, before normalisation.
        value: (B, T, H, D).
        buckets: (B, H, R, T) int64 from :func:`lsh_buckets`.
        chunk: tokens in a chunk, at least 1.
        padding_mask: (B, T) bool, True on padding, which is on the right, or None.
        dropout: probability for the weights inside a round; 0 in evaluation.

    Returns:
        (B, T, H, D), dtype of ``value``; rows of padding are finite and otherwise without meaning.

    Raises:
        ValueError: ``chunk`` is below 1.
    """
    batch, heads, rounds, length = buckets.shape
    size, sequences = min(chunk, length), batch * heads * rounds
    padding = ~visible_tokens(query, padding_mask)[:, None, None]
    order = buckets.masked_fill(padding, torch.iinfo(buckets.dtype).max).sort(dim=-1, stable=True).indices
    place = torch.empty_like(order).scatter_(-1, order, torch.arange(length, device=order.device).expand_as(order))

    def sort(x: Tensor) -> Tensor:  # (B, H, 1, T, ...) -> (B * H * R * chunks, size, ...)
        index = order.reshape(*order.shape, *[1] * (x.dim() - 4)).expand(*order.shape, *x.shape[4:])
        x = x.expand(batch, heads, rounds, *x.shape[3:]).gather(3, index)
        return split_blocks(x.flatten(0, 2), size)

    def look_back(x: Tensor) -> Tensor:
        return neighbours(x, sequences, before=1, after=0)

    queries, values = (sort(x.transpose(1, 2).unsqueeze(2)) for x in (query, value))
    keys = look_back(F.normalize(queries.to(torch.promote_types(queries.dtype, torch.float32)), dim=-1))
    logits = queries @ keys.to(queries.dtype).transpose(1, 2) * query.size(-1) ** -0.5
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logits = logits - _times_met(place // size, sort, look_back).to(logits.dtype).log()
    tokens, visible = split_blocks(order.flatten(0, 2), size), sort(~padding)
    logits = logits.masked_fill(tokens.unsqueeze(2) == look_back(tokens).unsqueeze(1), SELF)
    logits = logits.masked_fill(~look_back(visible).unsqueeze(1), NEVER)
    total = logits.logsumexp(dim=-1, keepdim=True)
    weights = F.dropout((logits - total).exp(), dropout, training=dropout > 0)
    out = weights.to(values.dtype) @ look_back(values)

    out, total = (join_blocks(x, sequences, length).view(*order.shape, -1) for x in (out, total))
    place = place.unsqueeze(-1)
    share = total.gather(3, place).softmax(dim=2).to(out.dtype)
    return (share * out.gather(3, place.expand_as(out))).sum(dim=2).transpose(1, 2)


def _times_met(chunks: Tensor, sort, look_back) -> Tensor:
    """N_ij: in how many rounds query i sees key j, at least 1; (B, H, R, T) chunk numbers -> (N, size, 2 size)."""
    met = torch.zeros((), dtype=torch.uint8, device=chunks.device)
    for one_round in chunks.split(1, dim=2):  # one round at a time: all at once would need R times the memory
        own = sort(one_round)
        behind = own.unsqueeze(2) - look_back(own).unsqueeze(1)
        met = met + ((behind == 0) | (behind == 1)).to(met.dtype)
    return met.clamp(min=1)
