"""Tests of dropout from random bits, and of attention with dropout, against formulas and torch's own attention."""

import pytest
import torch
import torch.nn.functional as F

from pyramidion_fairseq.functional import dot_product_attention, dropout, relu_dropout
from pyramidion_fairseq.functional.attention import dot_product
from pyramidion_fairseq.functional.dropout import draw_kept, kept_share
from tests.helpers.tensors import LargestTensor, heads


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.01])
def test_draw_kept_keeps_the_expected_share_without_patterns(p):
    torch.manual_seed(0)
    kept = draw_kept((3, 1000, 501), p)
    assert abs(kept_share(p) - (1 - p)) < 1 / 65536
    for axes in ((0, 1, 2), (1, 2), (0, 2), (0, 1)):  # along every axis, too: no whole rows or columns are dropped
        shares = kept.double().mean(dim=axes)
        allowed = 6 * (p * (1 - p) * shares.numel() / kept.numel()) ** 0.5
        assert (shares - kept_share(p)).abs().max() < allowed
    flat = kept.flatten().double() - kept_share(p)
    for lag in (1, 2, 3, 4, 8, 501):  # four elements share 64 random bits: they must not be correlated
        assert (flat[lag:] * flat[:-lag]).mean().abs() < 5 * p * (1 - p) / flat.numel() ** 0.5


def test_dropout_scales_kept_elements_and_their_gradients():
    torch.manual_seed(0)
    x = torch.randn(64, 100, dtype=torch.float64).requires_grad_()
    for function, plain in ((dropout, x), (relu_dropout, x.relu())):
        out = function(x, 0.25)
        kept = out != 0
        torch.testing.assert_close(out[kept], plain[kept] / 0.75, rtol=1e-12, atol=0)
        assert 0.2 < 1 - kept.sum() / (plain != 0).sum() < 0.3
        (grad,) = torch.autograd.grad(out.square().sum(), x)
        torch.testing.assert_close(grad, 2 * out / 0.75 * kept, rtol=1e-12, atol=0)
    assert draw_kept((2**20,), 1 / 65536).sum() < 2**20 and draw_kept((9,), 0.0).all()
    assert dropout(x, 0.0) is x and not dropout(x, 1.0).any()


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_invalid_dropout_probabilities_are_refused(p):
    x = torch.ones(3, 2, 4, 4)
    for function in (dropout, relu_dropout, lambda x, p: dot_product_attention(x, x, x, dropout=p)):
        with pytest.raises((ValueError, RuntimeError), match="dropout"):
            function(x, p)


def test_dropout_close_to_one_drops_everything():
    """Check a probability that is rounded to 1, the nearest multiple of 1 / 65536."""
    x = torch.ones(3, 2, 4, 4)
    assert not dropout(x, 0.999999).any() and not relu_dropout(x, 0.999999).any()
    assert not dot_product_attention(x, x, x, dropout=0.999999).any()


def test_dropout_follows_the_seed_and_changes_with_each_call():
    x = torch.ones(1000)
    torch.manual_seed(5)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(5)
    assert torch.equal(dropout(x, 0.5), first) and not torch.equal(first, second)


def attention_inputs(queries, keys, dtype=torch.float64):
    q, k, v = (x.transpose(1, 2).to(dtype) for x in heads(3, max(queries, keys), 2, 4, count=3))
    return q[:, :, :queries].requires_grad_(), k[:, :, :keys].requires_grad_(), v[:, :, :keys].requires_grad_()


def reference(query, key, value, visible, kept, share):
    logits = query @ key.mT / query.size(-1) ** 0.5
    if visible is not None:
        logits = logits.masked_fill(~visible, -torch.inf)
    return (logits.softmax(-1) * kept / share) @ value


@pytest.mark.parametrize("masked", [None, 1, 2])
@pytest.mark.parametrize("queries, keys", [(9, 9), (5, 12), (1, 3)])
@pytest.mark.parametrize("chunk", [1, 30, 2**21])
def test_attention_with_dropout_equals_the_formula(monkeypatch, masked, queries, keys, chunk):
    """Check outputs and gradients for the same kept weights, in any number of chunks."""
    monkeypatch.setattr(dot_product, "CHUNK", chunk)
    monkeypatch.setattr(dot_product, "FEWEST", 2)
    inputs = attention_inputs(queries, keys)
    visible = None
    if masked:
        visible = torch.arange(keys) <= torch.tensor([keys, 1, keys // 2]).view(3, 1, 1, 1)
        visible = visible.expand(3, masked, 1, keys)
    torch.manual_seed(3)
    out = dot_product_attention(*inputs, visible, dropout=0.3)
    torch.manual_seed(3)
    kept = draw_kept((3, 2, queries, keys), 0.3)
    assert not kept.all()
    expected = reference(*inputs, visible, kept, kept_share(0.3))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    probe = torch.randn_like(out)
    for ours, theirs in zip(torch.autograd.grad(out, inputs, probe), torch.autograd.grad(expected, inputs, probe)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_attention_with_dropout_rounds_no_worse_than_torch(dtype):
    """Check errors against float64: at most twice those of torch's attention, where all weights are kept."""
    inputs = attention_inputs(64, 64)
    exact = F.scaled_dot_product_attention(*inputs)
    low = [x.detach().to(dtype).requires_grad_() for x in inputs]
    outs = F.scaled_dot_product_attention(*low), dot_product_attention(*low, dropout=1e-6)  # drops nothing
    probe = torch.randn_like(exact)
    exact_grads = torch.autograd.grad(exact, inputs, probe)
    torchs, ours = ([out, *torch.autograd.grad(out, low, probe.to(dtype))] for out in outs)
    for right, theirs, mine in zip([exact, *exact_grads], torchs, ours):
        assert (mine - right).abs().max() <= 2 * (theirs - right).abs().max() + torch.finfo(dtype).eps / 8


def test_attention_with_dropout_never_holds_all_float_weights(monkeypatch):
    monkeypatch.setattr(dot_product, "CHUNK", 1000)
    monkeypatch.setattr(dot_product, "FEWEST", 4)
    q = torch.randn(4, 2, 64, 8, requires_grad=True)
    with LargestTensor() as largest:
        dot_product_attention(q, q, q, dropout=0.1).sum().backward()
    assert largest.numel <= 4 * 2 * 64 * 64  # the byte mask of kept weights; no float tensor is as large
    with LargestTensor(torch.float32) as largest:
        dot_product_attention(q, q, q, dropout=0.1).sum().backward()
    assert largest.numel == 4 * 2 * 64 * 8


def test_autocast_casts_float32_attention_with_dropout_but_not_float64():
    q = torch.randn(1, 2, 8, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert dot_product_attention(q, q, q, dropout=0.1).dtype == torch.bfloat16
        assert dot_product_attention(q.double(), q.double(), q.double(), dropout=0.1).dtype == torch.float64
