"""Contract tests of every registered pooler."""

import re
from argparse import Namespace

import pytest
import torch

from pyramidion_fairseq.config import PyramidionConfig, complete
from pyramidion_fairseq.poolers import POOLERS

#: Every pooler, the ablations of successive halving, and options of other poolers.
VARIANTS = [(name, {}) for name in POOLERS.names()] + [
    ("successive_halving", {"no_sort": True}),
    ("successive_halving", {"score_order": True}),
    ("successive_halving", {"softmax_base": 0.0}),
    *(("threshold_topk", {"threshold_link": link}) for link in ("clip", "exp", "sigmoid")),
    ("mean_window", {"pooling_schedule": "2:7,3:4", "max_source_positions": 55}),
    ("max_window", {"pooling_schedule": "2:7,3:4", "max_source_positions": 55}),
    ("funnel", {"pooling_schedule": "2:7,3:4", "max_source_positions": 55, "no_upsampling": True}),
]
LENGTHS_AND_K = [(16, 4), (13, 4), (5, 4), (4, 4), (1, 4), (40, 7)]
pytestmark = pytest.mark.parametrize("name, options", VARIANTS, ids=str)


def build(name, options):
    cfg = complete(Namespace(**{**vars(PyramidionConfig()), "sinkhorn_iterations": 20, "pooler": name, **options}))
    return POOLERS.build(name, cfg).eval()


def case(batch, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, 3, generator=generator, dtype=torch.float64).requires_grad_()
    return x, torch.rand(batch, length, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("length, k", LENGTHS_AND_K)
def test_longer_documents_in_the_batch_do_not_change_the_result(name, options, length, k):
    pooler = build(name, options)
    x, scores = case(1, length)
    alone = pooler(x, scores, None, k)
    for longer in (length + 1, 3 * length + 5, 16 * k):
        long_x, long_scores = case(2, longer, seed=1)
        mask = torch.arange(longer) >= torch.tensor([[longer], [length]])
        with torch.no_grad():
            long_x[1, :length], long_scores[1, :length] = x[0], scores[0]
        batched = pooler(long_x, long_scores, mask, k)
        kept = pooler.output_length(length, k)
        torch.testing.assert_close(batched.embeddings[1, :kept], alone.embeddings[0, :kept], rtol=0, atol=1e-12)
        assert torch.equal(batched.padding_mask[1], torch.arange(min(longer, k)) >= kept)
        torch.testing.assert_close(batched.scores[1, :kept], alone.scores[0, :kept], rtol=0, atol=1e-12)
        torch.testing.assert_close(batched.weights[1, :length], alone.weights[0], rtol=0, atol=1e-12)
        assert torch.equal(batched.slot_of_token[1, :length], alone.slot_of_token[0])


@torch.no_grad()
@pytest.mark.parametrize("length, k", LENGTHS_AND_K)
def test_other_documents_and_padding_do_not_change_training(name, options, length, k):
    """Check, with the same random numbers, that only the document's own embeddings and scores matter."""
    pooler = build(name, options).train()
    (x, scores), (other_x, other_scores) = case(2, length + 6), case(2, length + 6, seed=1)
    mask = torch.arange(length + 6) >= torch.tensor([[length + 6], [length]])
    other_x[1, :length], other_scores[1, :length] = x[1, :length], scores[1, :length]
    results = []
    for batch in ((x, scores), (other_x, other_scores), (x, scores.flip(1))):
        torch.manual_seed(1)
        results.append(pooler(*batch, mask, k))
    for one, other in zip(results[0], results[1]):
        assert torch.equal(one[1], other[1])
    if pooler.uses_scores:
        assert not torch.equal(results[0].embeddings[0], results[2].embeddings[0])


@pytest.mark.parametrize("length, k", LENGTHS_AND_K)
def test_padding_gets_no_weight_and_no_gradient(name, options, length, k):
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
def test_nan_and_infinity_on_padding_do_not_change_the_result(name, options, length, k):
    """Check NaN and infinity on padding, in documents of only padding, and in the gradients of empty slots."""
    pooler = build(name, options)
    x, scores = case(4, length + 6)
    mask = torch.arange(length + 6) >= torch.tensor([[length + 6], [length], [0], [1]])
    results = []
    for fill in (0.0, float("nan"), float("inf")):
        with torch.no_grad():
            x[mask], scores[mask] = fill, fill
        pooled = pooler(x, scores, mask, k)
        grad = torch.ones_like(pooled.embeddings).masked_fill(pooled.padding_mask.unsqueeze(2), fill)
        of_x, of_scores = torch.autograd.grad(pooled.embeddings, [x, scores], grad, allow_unused=True)
        assert pooled.embeddings[pooled.padding_mask].abs().sum() == 0
        assert of_x[mask].abs().sum() == 0 and (of_scores is None or of_scores[mask].abs().sum() == 0)
        results.append([pooled.embeddings, pooled.scores, pooled.weights, of_x, of_scores])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0)


@pytest.mark.parametrize("length, k", LENGTHS_AND_K)
def test_shapes_are_right_and_short_documents_are_unchanged(name, options, length, k):
    x, scores = case(3, length)
    pooler = build(name, options)
    pooled, kept = pooler(x, scores, None, k), pooler.output_length(length, k)
    assert pooled.embeddings.shape == (3, min(length, k), 3) and pooled.scores.shape == (3, min(length, k))
    assert kept == min(length, k) or (not pooler.uses_scores and 1 <= kept < min(length, k))
    if pooled.padding_mask is None:
        assert kept == min(length, k)
    else:
        assert torch.equal(pooled.padding_mask, (torch.arange(min(length, k)) >= kept).expand(3, -1))
        assert kept < min(length, k) and pooled.embeddings[:, kept:].abs().max() == 0
    assert pooled.slot_of_token.shape == pooled.weights.shape == (3, length)
    assert pooled.slot_of_token.min() >= 0 and pooled.slot_of_token.max() < kept
    if length <= k:
        assert torch.equal(pooled.embeddings, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("high, low", [((3,), ()), ((1, 6), (4,)), ((), range(7)), (range(9), ()), ((), range(9))])
def test_infinite_scores_rank_first_and_last_and_stay_finite(name, options, high, low, dtype):
    """Check that representations and gradients stay finite and that other documents do not change."""
    pooler = build(name, options)
    x, scores = (values.detach().to(dtype).requires_grad_() for values in case(2, 9))
    with torch.no_grad():
        scores[0, list(high)], scores[0, list(low)] = float("inf"), -float("inf")
    pooled, alone = pooler(x, scores, None, 4), pooler(x[1:], scores[1:], None, 4)
    grads = torch.autograd.grad(pooled.embeddings.square().sum(), [x, scores], allow_unused=True)
    assert all(values is None or values.isfinite().all() for values in (pooled.embeddings, pooled.weights, *grads))
    torch.testing.assert_close(pooled.embeddings[1:], alone.embeddings, rtol=0, atol=1e-6)
    if pooler.uses_scores and len(high) < 4:
        assert all(pooled.weights[0, list(high)] >= 0.3)
    if pooler.uses_scores and len(low) == 1 and not options.get("no_sort"):
        assert pooled.weights[0, 4] < 1e-3


def test_k_may_be_a_float_with_an_integer_value(name, options):
    x, scores = case(2, 9)
    expected, found = (build(name, options)(x, scores, None, k).embeddings for k in (4, 4.0))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("what", ["x", "scores", "both"])
def test_torch_func_derivatives_are_right_or_refused(name, options, what):
    pooler = build(name, options)
    inputs = [values.detach() for values in case(2, 9)]
    chosen = {"x": (0,), "scores": (1,), "both": (0, 1)}[what]

    def pool(*given):
        values = list(inputs)
        for position, value in zip(chosen, given):
            values[position] = value
        return pooler(*values, None, 4).embeddings.square().sum()

    given = [inputs[position].clone().requires_grad_() for position in chosen]
    total = pool(*given)
    zeros = [torch.zeros_like(value) for value in given]
    found = torch.autograd.grad(total, given, allow_unused=True) if total.requires_grad else zeros
    expected = [zero if grad is None else grad for grad, zero in zip(found, zeros)]
    given = [value.detach() for value in given]
    try:
        torch.testing.assert_close(torch.func.grad(pool, tuple(range(len(given))))(*given), tuple(expected))
    except RuntimeError as error:
        assert re.search(r"^pooling has no gradient by torch.func|saved tensor hooks", str(error))
    tangents = tuple(torch.ones_like(value) for value in given)
    try:
        slope = torch.func.jvp(pool, tuple(given), tangents)[1]
    except RuntimeError as error:
        assert str(error).startswith("pooling has no derivative in forward mode")
    else:
        torch.testing.assert_close(slope, sum(grad.sum() for grad in expected))


@pytest.mark.parametrize("length, k", [(8, 2), (7, 3)])
def test_second_derivatives_by_scores_are_right_or_refused(name, options, length, k):
    pooler = build(name, options)
    x, scores = case(2, length)

    def gradient(given):
        total = pooler(x.detach(), given, None, k).embeddings.sin().sum()
        found = (
            torch.autograd.grad(total, given, create_graph=True, allow_unused=True)[0] if total.requires_grad else None
        )
        return torch.zeros_like(given) if found is None else found

    try:
        assert torch.autograd.gradcheck(gradient, scores)
    except RuntimeError as error:
        assert str(error).startswith("pooling is differentiable once")


@pytest.mark.parametrize("length, k", [(8, 2), (7, 3)])
def test_gradients_agree_with_finite_differences(name, options, length, k):
    pooler = build(name, options)
    x, scores = case(2, length)
    mask = torch.arange(length) >= torch.tensor([[length], [length - 2]])
    assert torch.autograd.gradcheck(lambda a, b: pooler(a, b, mask, k).embeddings, (x, scores))


@pytest.mark.parametrize("length, k", [(64, 8), (50, 8)])
def test_bfloat16_embeddings_are_close_to_float64(name, options, length, k):
    x, scores = (t.detach() for t in case(2, length))
    pooler = build(name, options)
    exact = pooler(x.bfloat16().double(), scores.float(), None, k).embeddings
    low = pooler(x.bfloat16(), scores.float(), None, k).embeddings
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.double(), exact, rtol=0, atol=0.05)


@pytest.mark.parametrize("length, k", [(50, 8), (8, 50)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_record_of_half_precision_scores_is_in_float32(name, options, length, k, dtype):
    x, scores = (t.detach().to(dtype) for t in case(2, length))
    pooler = build(name, options)
    found, expected = pooler(x, scores, None, k), pooler(x, scores.float(), None, k)
    assert found.scores.dtype == found.weights.dtype == torch.float32
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.weights, expected.weights)


@pytest.mark.paper("related-power", "hard-no-gradient", "eq-4")
@pytest.mark.parametrize("length, k", [(16, 4), (13, 4), (40, 7)])
def test_scores_get_a_gradient_if_differentiable_in_scores(name, options, length, k):
    pooler = build(name, options)
    x, scores = case(2, length)
    probe = torch.randn(2, k, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (grad,) = torch.autograd.grad((pooler(x, scores, None, k).embeddings * probe).sum(), [scores], allow_unused=True)
    if pooler.differentiable_in_scores:
        assert grad.abs().max() > 1e-6
    else:
        assert grad is None or grad.abs().max() == 0
    if not pooler.uses_scores:
        assert torch.equal(pooler(x, scores.flip(1), None, k).embeddings, pooler(x, scores, None, k).embeddings)


@pytest.mark.parametrize("length, k", [(16, 4), (13, 4), (40, 7)])
def test_record_rebuilds_the_output_if_exact_record(name, options, length, k):
    pooler = build(name, options)
    x, scores = case(2, length)
    mask = torch.arange(length) >= torch.tensor([[length], [length - 3]])
    pooled = pooler(x, scores, mask, k)
    parts = pooled.weights.unsqueeze(-1) * x
    rebuilt = torch.zeros_like(pooled.embeddings).scatter_add(
        1, pooled.slot_of_token.unsqueeze(-1).expand_as(parts), parts
    )
    error = (rebuilt - pooled.embeddings)[~pooled.padding_mask].abs().max()
    assert (error < 1e-12) == pooler.exact_record
    of_slots = torch.zeros_like(pooled.scores).scatter_add(1, pooled.slot_of_token, pooled.weights * scores)
    if pooler.uses_scores and pooler.exact_record:
        assert (of_slots - pooled.scores)[~pooled.padding_mask].abs().max() < 1e-9, "scores of slots are weighted, too"
    sums = torch.zeros_like(pooled.scores).scatter_add(1, pooled.slot_of_token, pooled.weights)[~pooled.padding_mask]
    assert (sums - 1).abs().max() < 1e-9 or not (pooler.exact_record and pooler.convex)
    assert pooled.weights.min() >= 0 and pooled.weights.max() <= 1 + 1e-9


#: Relaxations select sharply only if scores differ by more than these.
SHARP = {
    "gumbel_topk": {"gumbel_temperature": 1e-3},
    "sinkhorn_topk": {"sinkhorn_epsilon": 1e-3},
    "threshold_topk": {"threshold_epsilon": 1e-2},
}


@pytest.mark.paper("order")
@pytest.mark.parametrize("length, k", [(16, 4), (13, 4), (40, 7)])
def test_slots_keep_the_order_of_the_document(name, options, length, k):
    """Check with k tokens of far higher scores, which every selection must take; embeddings are positions."""
    pooler = build(name, {**SHARP.get(name, {}), **options})
    positions = torch.arange(length, dtype=torch.float64)
    chosen = torch.randperm(length, generator=torch.Generator().manual_seed(length))[:k]
    high = torch.linspace(1, 0.99, k) if pooler.exact_record else torch.linspace(1, 1 / k, k)
    scores = torch.full((1, length), 1e-5, dtype=torch.float64).scatter(1, chosen[None], high[None].double())
    pooled = pooler(positions.view(1, -1, 1), scores, None, k)
    places, slots = pooled.embeddings[0, :, 0], pooled.slot_of_token[0].tolist()
    in_document_order = bool((places[: pooler.output_length(length, k)].diff() > 0).all())
    if options.get("score_order"):  # as in Algorithm 1: by score, which is another order here
        assert not in_document_order
    elif options.get("no_sort"):  # pairs and slots depend on positions only: a slot counts as its first token
        assert [slots.index(slot) for slot in range(k)] == list(range(k))
    elif options.get("softmax_base") == 0:  # each vector has much of other tokens, too, but most of one of these
        shares = torch.zeros(k, length, dtype=torch.float64).scatter(0, pooled.slot_of_token, pooled.weights)
        assert torch.equal(shares.argmax(dim=1), chosen.sort().values)
    else:
        assert in_document_order
        if pooler.uses_scores:
            torch.testing.assert_close(places, chosen.sort().values.double(), rtol=0, atol=0.15)


@pytest.mark.paper("soft-everywhere")
def test_evaluation_is_deterministic(name, options):
    pooler, (x, scores) = build(name, options), case(2, 40)
    first, second = pooler(x, scores, None, 7), pooler(x, scores, None, 7)
    assert torch.equal(first.embeddings, second.embeddings) and torch.equal(first.slot_of_token, second.slot_of_token)
