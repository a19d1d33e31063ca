"""What every registered pooler promises."""

from argparse import Namespace

import pytest
import torch

from pyramidion_fairseq.config import PyramidionConfig, complete
from pyramidion_fairseq.poolers import POOLERS

#: Every pooler, and the ablations of successive halving.
VARIANTS = [(name, {}) for name in POOLERS.names()] + [
    ("successive_halving", {"no_sort": True}),
    ("successive_halving", {"score_order": True}),
    ("successive_halving", {"softmax_base": 0.0}),
]
LENGTHS_AND_K = [(16, 4), (13, 4), (5, 4), (4, 4), (1, 4), (40, 7)]
pytestmark = pytest.mark.parametrize("name, options", VARIANTS, ids=str)


def build(name, options):
    return POOLERS.build(name, complete(Namespace(**{**vars(PyramidionConfig()), "pooler": name, **options})))


def case(batch, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, 3, generator=generator, dtype=torch.float64).requires_grad_()
    return x, torch.rand(batch, length, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("length, k", LENGTHS_AND_K)
def test_batching_with_longer_documents_changes_nothing(name, options, length, k):
    pooler = build(name, options)
    x, scores = case(1, length)
    alone = pooler(x, scores, None, k)
    for longer in (length + 1, 3 * length + 5, 16 * k):
        long_x, long_scores = case(2, longer, seed=1)
        mask = torch.arange(longer) >= torch.tensor([[longer], [length]])
        with torch.no_grad():
            long_x[1, :length], long_scores[1, :length] = x[0], scores[0]
        batched = pooler(long_x, long_scores, mask, k)
        kept = min(length, k)
        torch.testing.assert_close(batched.embeddings[1, :kept], alone.embeddings[0, :kept], rtol=0, atol=1e-12)
        assert torch.equal(batched.padding_mask[1], torch.arange(min(longer, k)) >= kept)


@pytest.mark.parametrize("length, k", LENGTHS_AND_K)
def test_padding_is_never_used(name, options, length, k):
    pooler = build(name, options)
    x, scores = case(2, length + 6)
    mask = torch.arange(length + 6) >= torch.tensor([[length + 6], [length]])
    pooled = pooler(x, scores, mask, k)
    used = ~pooled.padding_mask.unsqueeze(-1)
    grads = torch.autograd.grad((pooled.embeddings * used).square().sum(), [x, scores], allow_unused=True)
    for grad in grads:
        assert grad is None or grad[mask].abs().max() == 0
    assert pooled.weights[mask].abs().max() == 0


@pytest.mark.parametrize("length, k", LENGTHS_AND_K)
def test_shapes_and_short_documents(name, options, length, k):
    x, scores = case(3, length)
    pooled = build(name, options)(x, scores, None, k)
    assert pooled.embeddings.shape == (3, min(length, k), 3) and pooled.padding_mask is None
    assert pooled.slots.shape == pooled.weights.shape == (3, length)
    assert pooled.slots.min() >= 0 and pooled.slots.max() < min(length, k)
    if length <= k:
        assert torch.equal(pooled.embeddings, x)


@pytest.mark.parametrize("length, k", [(8, 2), (7, 3)])
def test_gradients(name, options, length, k):
    pooler = build(name, options)
    x, scores = case(2, length)
    mask = torch.arange(length) >= torch.tensor([[length], [length - 2]])
    assert torch.autograd.gradcheck(lambda a, b: pooler(a, b, mask, k).embeddings, (x, scores))


@pytest.mark.parametrize("length, k", [(64, 8), (50, 8)])
def test_bfloat16(name, options, length, k):
    x, scores = (t.detach() for t in case(2, length))
    pooler = build(name, options)
    exact = pooler(x, scores.float(), None, k).embeddings
    low = pooler(x.bfloat16(), scores.float(), None, k).embeddings
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.double(), exact, rtol=0, atol=0.05)
