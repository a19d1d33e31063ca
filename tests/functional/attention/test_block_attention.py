"""Tests of attend_in_two_batches: block attention for unequal lengths on devices other than a CPU."""

import pytest
import torch

from pyramidion_fairseq.functional.attention.block_attention import attend_in_two_batches, block_attention
from tests.helpers.tensors import heads

BATCHES = [
    ([23, 23, 5], 4),
    ([1, 24, 16, 3], 8),
    ([8, 16, 24], 8),  # only full blocks
    ([7, 3, 5, 5], 9),  # no full block
    ([12, 7, 12], 12),  # full attention: some documents are one full block
    ([3, 2], 1),
]


def kept(lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


@pytest.mark.parametrize("lengths, size", BATCHES)
def test_attend_in_two_batches_equals_the_loop_over_documents(lengths, size):
    inputs = [x.requires_grad_() for x in heads(len(lengths), max(lengths), 2, 4, count=3)]
    probe = heads(len(lengths), max(lengths), 2, 4, count=1, seed=1)[0]  # padding gets a gradient, too
    results = []
    for attend in (
        lambda *x: block_attention(*x, size, document_lengths=lengths),
        lambda *x: attend_in_two_batches(*x, size, lengths),
    ):
        out = attend(*inputs)
        results.append((out, *torch.autograd.grad((out * probe).sum(), inputs)))
    for expected, found in zip(*results):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert not results[1][0][~kept(lengths)].any()


@pytest.mark.paper("blockwise")
@pytest.mark.parametrize("lengths, size", BATCHES)
def test_attend_in_two_batches_reads_no_other_document_and_no_padding(lengths, size):
    """Check that NaN in one document and in all padding stays there."""
    inputs = heads(len(lengths), max(lengths), 2, 4, count=3)
    clean = attend_in_two_batches(*inputs, size, lengths)
    for x in inputs:
        x[0] = torch.nan
        x[~kept(lengths)] = torch.nan
    out = attend_in_two_batches(*inputs, size, lengths)
    assert out[0, : lengths[0]].isnan().all()
    torch.testing.assert_close(out[1:], clean[1:], rtol=0, atol=0)


def test_attend_in_two_batches_drops_weights_and_keeps_their_mean():
    """Check with values of one: each output is the sum of the kept weights, divided by their share."""
    lengths = [640, 500, 130]
    query, key = (0 * x for x in heads(3, 640, 1, 1, count=2))
    torch.manual_seed(0)
    out = attend_in_two_batches(query, key, torch.ones_like(key), 128, lengths, dropout=0.25)[kept(lengths)]
    assert out.mean().item() == pytest.approx(1, abs=0.01) and out.std() > 0.02


def test_attend_in_two_batches_trains_after_a_call_in_inference_mode():
    lengths, inputs = [9, 4], [x.requires_grad_() for x in heads(2, 9, 1, 2, count=3)]
    with torch.inference_mode():
        attend_in_two_batches(*inputs, 4, lengths)
    attend_in_two_batches(*inputs, 4, lengths).sum().backward()
    assert all(x.grad is not None for x in inputs)
