"""Tests of successive_halving_topk: against the published code and a slow reference, and documented properties."""

from functools import partial

import numpy as np
import pytest
import torch

from pyramidion_fairseq.functional import hard_topk, successive_halving_topk
from pyramidion_fairseq.functional.reference import topk as reference
from pyramidion_fairseq.functional.topk import native, successive_halving
from tests.helpers.paths import DATA
from tests.helpers.topk import outputs_and_gradients, random_case

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.mark.paper("gamma", "convex", "peaked-softmax", "alg-1")
@pytest.mark.parametrize("case", range(4))
def test_successive_halving_equals_the_published_code(case):
    golden = np.load(DATA / "successive_halving.npz")

    def load(name):
        return torch.from_numpy(golden[f"{case}_{name}"])

    _, _, k, _, base, sort_back = (int(v) for v in golden[f"{case}_cfg"])
    embeddings, scores = load("E").requires_grad_(), load("s").squeeze(-1).requires_grad_()
    pooled = successive_halving_topk(embeddings, scores, k, base=float(base), preserve_order=bool(sort_back))
    pooled.embeddings.backward(load("g"))
    for ours, published in (
        (pooled.embeddings, load("o")),
        (pooled.scores, load("v")),
        (embeddings.grad, load("dE")),
        (scores.grad, load("ds").squeeze(-1)),
    ):
        torch.testing.assert_close(ours, published, rtol=0, atol=1e-9)


@pytest.mark.paper("gamma", "pairs", "b2-sort-cost", "powers-of-two", "rounds")
@pytest.mark.parametrize("padding", [None, "right", "left", "anywhere"])
@pytest.mark.parametrize(  # base follows from the others, so that any three options meet in all combinations
    "base, preserve_order, sort, ties",
    [((20.0, None)[(a + b + c) % 2], bool(a), bool(b), bool(c)) for a in (1, 0) for b in (1, 0) for c in (0, 1)],
)
@pytest.mark.parametrize("length, k", [(1, 1), (2, 1), (7, 7), (8, 2), (13, 3), (16, 1), (31, 6), (40, 39)])
def test_successive_halving_equals_the_slow_reference(length, k, base, preserve_order, sort, ties, padding):
    embeddings, scores, mask = random_case(4, length, 3, seed=length * 50 + k, ties=ties, padding=padding)
    options = {"base": base, "sort": sort, "preserve_order": preserve_order, "padding_mask": mask}
    fast, fast_grads = outputs_and_gradients(successive_halving_topk, embeddings, scores, k, **options)
    slow, slow_grads = outputs_and_gradients(reference.successive_halving_topk, embeddings, scores, k, **options)
    kept = torch.ones_like(slow.scores, dtype=torch.bool) if slow.padding_mask is None else ~slow.padding_mask
    torch.testing.assert_close(fast.embeddings[kept], slow.embeddings[kept], rtol=0, atol=1e-12)
    torch.testing.assert_close(fast.scores[kept], slow.scores[kept], rtol=0, atol=1e-12)
    torch.testing.assert_close(fast.weights, slow.weights, rtol=0, atol=1e-12)
    assert (fast.padding_mask is None) == (slow.padding_mask is None)
    assert slow.padding_mask is None or torch.equal(fast.padding_mask, slow.padding_mask)
    real = torch.ones_like(scores, dtype=torch.bool) if mask is None else ~mask
    assert torch.equal(fast.slot_of_token[real], slow.slot_of_token[real])
    if padding is None or length > k:  # with n <= k padding passes, too, and gets a gradient
        for ours, theirs in zip(fast_grads, slow_grads):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.paper("eq-8")
@pytest.mark.parametrize("base", [20.0, None])
@pytest.mark.parametrize("length, k", [(8, 2), (11, 3), (5, 4)])
def test_successive_halving_passes_gradcheck(length, k, base):
    embeddings, scores, mask = random_case(3, length, 2, seed=k, padding="right")

    def pool(e, s):
        pooled = successive_halving_topk(e, s, k, base=base, padding_mask=mask)
        return pooled.embeddings, pooled.scores, pooled.weights

    assert torch.autograd.gradcheck(pool, (embeddings, scores))


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("preserve_order", [True, False])
@pytest.mark.parametrize("length", [3, 5, 6, 20, 33])
def test_padding_does_not_change_outputs_and_gets_no_gradient(length, preserve_order, sort):
    k, longer = 5, 97
    embeddings, scores, _ = random_case(1, length, 4, seed=length)
    alone = successive_halving_topk(embeddings, scores, k, sort=sort, preserve_order=preserve_order)
    for left in (0, longer - length, 7):
        garbage, more_scores, _ = random_case(1, longer, 4, seed=3)
        mask = torch.ones(1, longer, dtype=torch.bool)
        mask[:, left : left + length] = False
        with torch.no_grad():
            garbage[:, left : left + length], more_scores[:, left : left + length] = embeddings, scores
            more_scores[mask] = 7.0  # not even a high score lets padding win
        padded = successive_halving_topk(
            garbage, more_scores, k, sort=sort, preserve_order=preserve_order, padding_mask=mask
        )
        kept = min(length, k)
        assert (~padded.padding_mask).sum() == kept and not padded.padding_mask[0, :kept].any()
        assert torch.equal(padded.embeddings[:, :kept], alone.embeddings[:, :kept])
        assert torch.equal(padded.weights[:, left : left + length], alone.weights)
        assert padded.weights[mask].abs().max() == 0
        grad = torch.autograd.grad(padded.embeddings[:, :kept].square().sum(), [garbage, more_scores])
        assert all(g[mask].abs().max() == 0 for g in grad)


@pytest.mark.paper("short-sequences")
def test_documents_of_at_most_k_tokens_pass_unchanged():
    embeddings, scores, _ = random_case(2, 6, 3, seed=0)
    for k in (6, 7, 100):
        pooled = successive_halving_topk(embeddings, scores, k, preserve_order=False)
        assert torch.equal(pooled.embeddings, embeddings)
        assert torch.equal(pooled.slot_of_token, torch.arange(6).expand(2, 6)) and (pooled.weights == 1).all()


def test_pooled_slots_is_an_alias_of_slot_of_token():
    pooled = successive_halving_topk(*random_case(2, 16, 3, seed=0)[:2], 4)
    assert pooled.slots is pooled.slot_of_token and pooled._fields[3] == "slot_of_token"


@pytest.mark.paper("convex", "interpretation")
@pytest.mark.parametrize("padding", [None, "anywhere"])
@pytest.mark.parametrize("length, k", [(64, 16), (100, 7), (9, 8)])
def test_slots_and_weights_rebuild_the_output(length, k, padding):
    embeddings, scores, mask = random_case(5, length, 6, seed=k, padding=padding)
    pooled = successive_halving_topk(embeddings, scores, k, padding_mask=mask)
    index = pooled.slot_of_token.unsqueeze(-1)
    weighted = pooled.weights.unsqueeze(-1) * embeddings
    rebuilt = torch.zeros_like(pooled.embeddings).scatter_add(1, index.expand_as(weighted), weighted)
    torch.testing.assert_close(rebuilt, pooled.embeddings, rtol=0, atol=1e-12)
    sums = torch.zeros_like(pooled.scores).scatter_add(1, pooled.slot_of_token, pooled.weights)
    taken = torch.ones_like(sums) if mask is None else (~pooled.padding_mask).double()
    torch.testing.assert_close(sums, taken, rtol=0, atol=1e-12)


@pytest.mark.paper("order")
def test_slots_keep_the_document_order_of_their_highest_scores():
    embeddings, scores, _ = random_case(3, 64, 2, seed=0)
    pooled = successive_halving_topk(embeddings, scores, 16)
    for slots, row in zip(pooled.slot_of_token, scores):
        winners = [max(torch.where(slots == j)[0].tolist(), key=lambda i: row[i].item()) for j in range(16)]
        assert winners == sorted(winners)
        assert set(row.topk(8).indices.tolist()) <= set(winners)


@pytest.mark.paper("peaked-softmax")
@pytest.mark.parametrize("base", [20.0, None, 1.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1e4, 1e-30, 40.0])
def test_extreme_scores_give_finite_outputs_and_gradients(size, dtype, base):
    embeddings, scores, _ = random_case(2, 50, 3, seed=0, dtype=torch.float64)
    embeddings = embeddings.detach().to(dtype).requires_grad_()
    scores = ((scores.detach() - 0.5) * size).to(dtype).requires_grad_()
    pooled = successive_halving_topk(embeddings, scores, 7, base=base)
    pooled.embeddings.float().sum().backward()
    for tensor in (pooled.embeddings, pooled.scores, pooled.weights, embeddings.grad, scores.grad):
        assert tensor.isfinite().all()
    assert pooled.embeddings.dtype == dtype and pooled.weights.dtype == max(
        dtype, torch.float32, key=lambda t: t.itemsize
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_errs_no_more_than_a_plain_weighted_sum(dtype):
    exact, scores, _ = random_case(4, 256, 32, seed=0)
    low = exact.detach().to(dtype)
    truth = successive_halving_topk(low.double(), scores, 32)
    fast = successive_halving_topk(low, scores.float(), 32).embeddings.double()
    one_hot = torch.nn.functional.one_hot(truth.slot_of_token, 32).double() * truth.weights.unsqueeze(-1)
    plain = torch.einsum("bnk,bnd->bkd", one_hot.to(dtype), low).double()
    error, allowed = (fast - truth.embeddings).abs().max(), (plain - truth.embeddings).abs().max()
    assert error <= 2 * allowed


def test_infinite_scores_rank_highest_and_lowest():
    embeddings, scores, _ = random_case(1, 8, 3, seed=0)
    with torch.no_grad():
        scores[0, 3], scores[0, 5], scores[0, 6] = float("inf"), float("-inf"), float("-inf")
    pooled = successive_halving_topk(embeddings, scores, 2, base=None)
    grads = torch.autograd.grad(pooled.embeddings.sum() + pooled.scores.clamp(max=1).sum(), [embeddings, scores])
    assert all(t.isfinite().all() for t in (pooled.embeddings, pooled.weights, *grads))
    assert pooled.weights[0, 3] > 0.99 and pooled.weights[0, [5, 6]].max() < 1e-6


@pytest.mark.parametrize("base", [20.0, None])
def test_infinite_scores_give_finite_gradients(base):
    """Check large incoming gradients, as with scaled losses."""
    embeddings, scores, _ = random_case(8, 60, 3, seed=0, dtype=torch.float32)
    with torch.no_grad():
        scores[:, ::7], scores[:, 1::7] = float("inf"), -float("inf")
    pooled = successive_halving_topk(embeddings, scores, 5, base=base)
    loss = (pooled.embeddings.sum() + pooled.scores.sum()) * 65536
    grads = torch.autograd.grad(loss, [embeddings, scores])
    assert all(x.isfinite().all() for x in (pooled.embeddings, pooled.scores, *grads))


def test_nan_in_padding_does_not_reach_the_output():
    embeddings, scores, _ = random_case(2, 20, 3, seed=0)
    mask = torch.arange(20) >= torch.tensor([[20], [3]])
    with torch.no_grad():
        embeddings[mask] = float("nan")
        scores[mask] = float("nan")
    pooled = successive_halving_topk(embeddings, scores, 6, padding_mask=mask)
    assert pooled.embeddings.isfinite().all() and pooled.weights.isfinite().all()


@pytest.mark.parametrize("length, k", [(8, 2), (13, 3), (40, 7)])
def test_document_of_padding_alone_equals_the_reference_and_gets_no_gradient(length, k):
    """Check NaN in the padding and in the gradients of its slots."""
    embeddings, scores, _ = random_case(3, length, 3, seed=0)
    mask = torch.arange(length) >= torch.tensor([[length], [0], [1]])
    with torch.no_grad():
        embeddings[mask], scores[mask] = float("nan"), float("nan")
    ours = successive_halving_topk(embeddings, scores, k, padding_mask=mask)
    loops = reference.successive_halving_topk(embeddings, scores, k, padding_mask=mask)
    for a, b in zip(ours, loops):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    grad = torch.ones_like(ours.embeddings).masked_fill(ours.padding_mask.unsqueeze(2), float("nan"))
    of_embeddings, of_scores = torch.autograd.grad(ours.embeddings, [embeddings, scores], grad)
    assert of_embeddings.isfinite().all() and of_scores.isfinite().all()
    assert of_embeddings[mask].abs().sum() == 0 and of_scores[mask].abs().sum() == 0


def test_empty_batch_gives_an_empty_output():
    embeddings, scores = torch.zeros(0, 9, 3, requires_grad=True), torch.zeros(0, 9, requires_grad=True)
    pooled = successive_halving_topk(embeddings, scores, 2)
    pooled.embeddings.sum().backward()
    assert pooled.embeddings.shape == (0, 2, 3) and embeddings.grad.shape == (0, 9, 3)


def test_score_gradients_do_not_overflow_in_float16():
    """Check a product <gradient, embedding> of 30 * 4 * 768 = 92160, which float16 cannot hold."""
    embeddings = torch.full((1, 8, 768), 30.0, dtype=torch.float16)
    embeddings[:, ::2] = -30
    grads = []
    for dtype in (torch.float16, torch.float64):
        scores = torch.rand(1, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        pooled = successive_halving_topk(embeddings.to(dtype), scores, 2).embeddings
        grads.append(torch.autograd.grad(pooled, scores, torch.full_like(pooled, 4.0))[0])
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-2)


def test_autocast_does_not_change_the_output():
    embeddings, scores, _ = random_case(2, 20, 4, seed=0, dtype=torch.float32)
    plain = successive_halving_topk(embeddings, scores, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = successive_halving_topk(embeddings, scores, 5)
    assert torch.equal(plain.embeddings, cast.embeddings)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"k": 0}, "at least 1"),
        ({"k": 2.5}, "k must be a whole number"),
        ({"scores": torch.ones(2, 6, dtype=torch.long)}, "scores must be floating point"),
        ({"embeddings": torch.ones(2, 6, 3, dtype=torch.long)}, "embeddings must be floating point, got torch.int64"),
        ({"k": float("inf")}, "k must be a whole number"),
        ({"k": float("nan")}, "k must be a whole number"),
        ({"base": 1.0}, "base must be above 1"),
        ({"base": float("nan")}, "base must be above 1 and finite"),
        ({"base": float("inf")}, "base must be above 1 and finite"),
        ({"scores": torch.rand(2, 5)}, r"scores \(B, n\)"),
        ({"padding_mask": torch.zeros(2, 6)}, "must be bool"),
        ({"padding_mask": torch.zeros(2, 5, dtype=torch.bool)}, r"shape \(2, 6\)"),
    ],
)
def test_invalid_arguments_are_named_in_the_error(change, message):
    arguments = {"embeddings": torch.rand(2, 6, 3), "scores": torch.rand(2, 6), "k": 2, **change}
    with pytest.raises(ValueError, match=message):
        successive_halving_topk(**arguments)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_jit_trace_is_refused_with_a_one_line_error():
    embeddings, scores, _ = random_case(2, 16, 4, seed=0)
    for k in (4, 16):  # k = 16 keeps all tokens: a recorded trace would keep longer documents whole, too
        with pytest.raises(RuntimeError, match=r"cannot be recorded by torch\.jit\.trace.*torch\.compile") as error:
            torch.jit.trace(lambda e, s, k=k: successive_halving_topk(e, s, k).embeddings, (embeddings, scores))
        assert "\n" not in str(error.value)


def test_second_derivatives_are_refused_with_a_one_line_error():
    embeddings, scores, _ = random_case(2, 16, 4, seed=0)
    for inputs in (embeddings, scores):
        pooled = successive_halving_topk(embeddings, scores, 4)
        (first,) = torch.autograd.grad(pooled.embeddings.pow(2).sum(), inputs, create_graph=True)
        with pytest.raises(RuntimeError, match=r"pooling is differentiable once.*second derivative") as error:
            torch.autograd.grad(first.pow(2).sum(), inputs)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("pool", [successive_halving_topk, hard_topk])
def test_forward_mode_derivatives_are_refused_with_a_one_line_error(pool):
    """Check that they are refused, as they would be 0; the slow reference supports them."""
    embeddings, scores, _ = random_case(2, 16, 4, seed=0)
    embeddings, scores = embeddings.detach(), scores.detach()
    functions = [lambda e: pool(e, scores, 4).embeddings]
    if pool is successive_halving_topk:
        functions += [lambda s: pool(embeddings, s, 4).embeddings, lambda s: pool(embeddings, s, 4).scores]
    for function, given in zip(functions, (embeddings, scores, scores)):
        with pytest.raises(RuntimeError, match="no derivative in forward mode") as error:
            torch.func.jvp(function, (given,), (torch.ones_like(given),))
        assert "\n" not in str(error.value)


def test_second_derivatives_of_slot_scores_are_refused_or_correct():
    """Check that compiled functions refuse them, and that torch's operations equal the slow reference."""
    embeddings, scores, _ = random_case(2, 16, 4, seed=0)
    (first,) = torch.autograd.grad(
        successive_halving_topk(embeddings, scores, 4).scores.pow(2).sum(), scores, create_graph=True
    )
    if native.functions() is not None:
        with pytest.raises(RuntimeError, match=r"pooling is differentiable once.*second derivative"):
            torch.autograd.grad(first.pow(2).sum(), scores)
        return
    (slow,) = torch.autograd.grad(
        reference.successive_halving_topk(embeddings, scores, 4).scores.pow(2).sum(), scores, create_graph=True
    )
    found, expected = (torch.autograd.grad(x.pow(2).sum(), scores)[0] for x in (first, slow))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_raw_logits_as_scores_are_warned_about_once(monkeypatch, caplog, dtype):
    scores = torch.tensor([[-4.0, 3.0, 0.5, 12.0]], dtype=dtype)
    embeddings = torch.ones(1, 4, 2, dtype=dtype)

    def said(scores, **options):
        caplog.clear()
        successive_halving_topk(embeddings, scores, 2, **options)
        return [record.getMessage() for record in caplog.records]

    monkeypatch.setattr(successive_halving, "_seen_scores", False)
    assert said(scores, base=None) == []  # the plain softmax accepts any scores
    expected = "scores from -4 to 12 are outside [0, 1], for which softmax(20**score) is meant: give logits.sigmoid()"
    (line,) = said(scores.requires_grad_())
    assert line.startswith(expected)
    assert said(scores) == []
    monkeypatch.setattr(successive_halving, "_seen_scores", False)
    assert said(scores.sigmoid() + 1e-3) == []
    monkeypatch.setattr(successive_halving, "_seen_scores", False)
    padding = torch.tensor([[True, True, False, True]])
    assert said(scores, padding_mask=padding) == []  # scores of padding are ignored


def test_scores_on_other_devices_are_not_read_for_the_warning(monkeypatch):
    monkeypatch.setattr(successive_halving, "_seen_scores", False)
    scores = torch.full((1, 8), 7.0, device="meta")
    successive_halving_topk(torch.ones(1, 8, 2, device="meta"), scores, 2)
    assert not successive_halving._seen_scores


def test_first_call_of_a_process_works_inside_vmap(monkeypatch):
    monkeypatch.setattr(successive_halving, "_seen_scores", False)
    x, scores = torch.rand(3, 2, 12, 4), torch.rand(3, 2, 12)
    found = torch.func.vmap(lambda a, b: successive_halving_topk(a, b, 4).embeddings)(x, scores)
    expected = [successive_halving_topk(*pair, 4).embeddings for pair in zip(x, scores)]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("padding", [None, "anywhere"])
@pytest.mark.parametrize("n, k", [(37, 5), (64, 8)])
def test_both_orders_of_slots_are_the_same_without_sorting(n, k, padding):
    embeddings, scores, mask = random_case(3, n, 4, seed=n, padding=padding)
    run = partial(successive_halving_topk, embeddings, scores, k, sort=False, padding_mask=mask)
    first, second = run(preserve_order=True), run(preserve_order=False)
    assert torch.equal(first.embeddings, second.embeddings) and torch.equal(first.slot_of_token, second.slot_of_token)
