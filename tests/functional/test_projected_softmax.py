"""Tests of target_log_softmax: it equals the log softmax of all logits, and never holds these."""

import pytest
import torch

from pyramidion_fairseq.functional import projected_softmax
from pyramidion_fairseq.functional.projected_softmax import target_log_softmax
from tests.helpers.tensors import LargestTensor


def random_case(rows=11, dim=4, vocabulary=19, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, dim, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(vocabulary, dim, generator=generator, dtype=dtype).requires_grad_()
    return x, weight, torch.randint(vocabulary, (rows,), generator=generator)


@pytest.mark.parametrize("chunk", [1, 19 * 3, 10_000])
def test_target_log_softmax_equals_the_log_softmax_of_all_logits(monkeypatch, chunk):
    monkeypatch.setattr(projected_softmax, "CHUNK_LOGITS", chunk)
    x, weight, targets = random_case()
    at_target, total = target_log_softmax(x, weight, targets)
    expected = (x @ weight.T).log_softmax(dim=1)
    torch.testing.assert_close(at_target, expected.gather(1, targets.unsqueeze(1)).squeeze(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(total, expected.sum(dim=1), rtol=0, atol=1e-12)
    first, second = torch.randn(2, 11, dtype=torch.float64)
    ours = torch.autograd.grad((at_target * first + total * second).sum(), (x, weight))
    wanted = expected.gather(1, targets.unsqueeze(1)).squeeze(1) * first + expected.sum(dim=1) * second
    for a, b in zip(ours, torch.autograd.grad(wanted.sum(), (x, weight))):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_target_log_softmax_never_holds_all_logits(monkeypatch):
    monkeypatch.setattr(projected_softmax, "CHUNK_LOGITS", 500)
    x, weight, targets = random_case(rows=300, vocabulary=250)
    with LargestTensor() as largest:
        at_target, total = target_log_softmax(x, weight, targets)
        (at_target.sum() + total.sum()).backward()
    assert largest.numel <= 1200  # 300 rows or 250 symbols of four numbers each; all logits are 75,000


def test_autocast_lowers_the_precision_of_the_product_only():
    x, weight, targets = random_case(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        at_target, _ = target_log_softmax(x, weight, targets)
        at_target.sum().backward()
    exact, _ = target_log_softmax(x, weight, targets)
    assert at_target.dtype == x.grad.dtype == weight.grad.dtype == torch.float32
    torch.testing.assert_close(at_target, exact, rtol=0.05, atol=0.05)
    assert not torch.equal(at_target, exact)


def test_operands_of_different_precision_are_multiplied_in_the_higher_one():
    x, weight, targets = random_case()
    at_target, total = target_log_softmax(x.float(), weight, targets)
    expected = (x.float().double() @ weight.T).log_softmax(dim=1)
    torch.testing.assert_close(total, expected.sum(dim=1), rtol=0, atol=1e-12)
    torch.testing.assert_close(at_target, expected[range(11), targets], rtol=0, atol=1e-12)
