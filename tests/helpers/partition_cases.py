"""Random partitions of tokens, for the tests of every implementation of sums over them."""

import torch

#: batch, n, k, d, share of padding: groups of one, groups over the tile of 8, columns over the tile of 256, odd n / k.
SHAPES = [
    (2, 8, 8, 64, 0),
    (2, 16, 4, 5, 0),
    (1, 40, 2, 33, 0.3),
    (3, 24, 5, 300, 0.4),
    (2, 33, 1, 17, 1.0),
    (4, 90, 30, 1, 0),
]


def case(batch, n, k, d, padded, seed=0):
    """Return (embeddings, weights, gradient) in float64 and (slots, members, filled) of a random partition."""
    generator = torch.Generator().manual_seed(seed)
    embeddings, grad = (torch.randn(batch, size, d, generator=generator, dtype=torch.float64) for size in (n, k))
    weights = torch.rand(batch, n, generator=generator, dtype=torch.float64)
    group = -(-n // k)
    order = torch.rand(batch, k * group, generator=generator).argsort(dim=1)  # the last k * group - n are byes
    members = order.view(batch, k, group)
    filled = members < n
    if padded:
        padding = torch.rand(batch, n, generator=generator) < padded
        weights = weights.masked_fill(padding, 0)
        filled = filled & ~torch.nn.functional.pad(padding, (0, k * group - n)).gather(1, order).view_as(members)
    slot_numbers = torch.arange(k).view(1, k, 1).expand_as(members).flatten(1)
    slots = torch.empty_like(order).scatter(1, order, slot_numbers)[:, :n]
    filled = None if filled.all() else filled
    return (embeddings, weights, grad), (slots, members.clamp(max=n - 1), filled)
