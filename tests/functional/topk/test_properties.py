"""Property tests of successive_halving_topk: random shapes, padding, ties, infinities and precisions."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from pyramidion_fairseq.functional import successive_halving_topk

pytestmark = pytest.mark.usefixtures("both_ways")

KINDS = {
    "uniform": torch.rand,
    "constant": lambda *shape, **_: torch.full(shape, 0.5),
    "few values": lambda *shape, generator: torch.randint(0, 3, shape, generator=generator) / 2,
    "huge": lambda *shape, generator: torch.randn(*shape, generator=generator) * 1e4,
    "tiny": lambda *shape, generator: torch.rand(*shape, generator=generator) * 1e-30,
    "infinite": lambda *shape, generator: torch.randn(*shape, generator=generator) / torch.zeros(shape),
    "sorted": lambda *shape, generator: torch.linspace(0, 1, shape[1]).expand(shape).clone(),
}


@st.composite
def cases(draw):
    batch, length, dim = draw(st.integers(1, 4)), draw(st.integers(1, 70)), draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
    scores = KINDS[draw(st.sampled_from(list(KINDS)))](batch, length, generator=generator)
    scores = scores.to(draw(st.sampled_from([dtype, torch.float32])))
    padding = None
    if draw(st.booleans()):  # at any positions, and perhaps at all
        padding = torch.rand(batch, length, generator=generator) < draw(st.sampled_from([0.1, 0.5, 1.0]))
    options = {
        "k": draw(st.integers(1, 80)),
        "base": draw(st.sampled_from([None, 2.0, 20.0, 1e6])),
        "sort": draw(st.booleans()),
        "preserve_order": draw(st.booleans()),
        "padding_mask": padding,
    }
    embeddings = torch.randn(batch, length, dim, generator=generator).to(dtype)
    if padding is not None:
        anything = draw(st.sampled_from([0.0, float("nan"), float("inf")]))
        embeddings, scores = (
            embeddings.masked_fill(padding.unsqueeze(2), anything),
            scores.masked_fill(padding, anything),
        )
    return embeddings, scores, options


@settings(max_examples=400, deadline=None, derandomize=True)  # the same cases in every run of `make test`
@given(cases())
def test_successive_halving_keeps_its_properties_on_random_inputs(case):
    embeddings, scores, options = case
    embeddings, scores = embeddings.requires_grad_(), scores.requires_grad_()
    pooled = successive_halving_topk(embeddings, scores, **options)
    batch, length, _ = embeddings.shape
    slots = min(length, options["k"])
    padding = options["padding_mask"]
    padding = torch.zeros(batch, length, dtype=torch.bool) if padding is None else padding
    empty = torch.zeros(batch, slots, dtype=torch.bool) if pooled.padding_mask is None else pooled.padding_mask
    precision = torch.finfo(embeddings.dtype).eps

    assert (
        pooled.embeddings.shape == (batch, slots, embeddings.size(2)) and pooled.embeddings.dtype == embeddings.dtype
    )
    assert pooled.embeddings[~empty].isfinite().all()
    assert length <= options["k"] or (pooled.embeddings[empty] == 0).all()
    assert ((~empty).sum(1) == (~padding).sum(1).clamp(max=slots)).all(), "as many slots are taken as tokens allow"

    # Weights are convex: at least 0, with a sum of 1 for each slot that is taken; padding has none.
    weights = pooled.weights.masked_fill(padding, 0)
    assert (weights >= 0).all() and (pooled.weights[padding] == 0).all()
    sums = torch.zeros(batch, slots, dtype=weights.dtype).scatter_add(1, pooled.slot_of_token, weights)
    assert torch.allclose(sums[~empty], torch.ones(()).to(sums), atol=1e-5)

    # So outputs lie between the smallest and the largest tokens of their slot.
    real = embeddings.detach().masked_fill(padding.unsqueeze(2), 0)
    index = pooled.slot_of_token.unsqueeze(2).expand_as(real)
    bounds = []
    for reduce, fill in (("amin", float("inf")), ("amax", float("-inf"))):
        start = torch.full(pooled.embeddings.shape, fill, dtype=real.dtype)
        bounds.append(start.scatter_reduce(1, index, real.masked_fill(padding.unsqueeze(2), fill), reduce))
    slack = 2 * max(precision, 1e-6) * real.abs().max()
    assert (pooled.embeddings >= bounds[0] - slack)[~empty].all()
    assert (pooled.embeddings <= bounds[1] + slack)[~empty].all()

    # Gradients are finite, and padding gets none.
    pooled.embeddings.masked_fill(empty.unsqueeze(2), 0).float().pow(2).sum().backward()
    assert embeddings.grad.isfinite().all() and (embeddings.grad[padding] == 0).all()
    if scores.grad is not None:
        # Gradients above float16's range (a base of 1e6 has slopes of 1e7) are infinite, as loss scaling expects.
        wide = scores.detach().float().requires_grad_()
        successive_halving_topk(embeddings.detach(), wide, **options).embeddings.masked_fill(
            empty.unsqueeze(2), 0
        ).float().pow(2).sum().backward()
        assert wide.grad.isfinite().all()
        assert torch.equal(scores.grad.isfinite(), wide.grad.to(scores.dtype).isfinite())
        assert (scores.grad[padding] == 0).all()

    # A second call gives the same bits: ties are broken the same way.
    again = successive_halving_topk(embeddings, scores, **options)
    assert torch.equal(again.slot_of_token, pooled.slot_of_token) and torch.equal(again.weights, pooled.weights)
    assert torch.equal(again.embeddings[~empty], pooled.embeddings[~empty])
