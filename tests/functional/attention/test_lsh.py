"""Tests of LSH attention."""

import pytest
import torch

from pyramidion_fairseq.functional import lsh_attention, lsh_buckets
from pyramidion_fairseq.functional.reference import attention as reference_attention
from tests.helpers.tensors import heads, ragged_mask


def rotations(rounds, columns, dim=5):
    return torch.randn(rounds, 2, dim, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(rounds))


@pytest.mark.paper("lsh")
@pytest.mark.parametrize("lengths", [(1, 1), (9, 9), (40, 3), (33, 17, 1), (64, 48)])
@pytest.mark.parametrize("size", [1, 3, 4, 100])
@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_lsh_attention_equals_loops_over_each_document(lengths, size, rounds):
    query, value = heads(len(lengths), max(lengths), 2, 5, count=2)
    matrices, mask = rotations(rounds, 6), ragged_mask(lengths)
    buckets = lsh_buckets(query, matrices, size, mask)
    fast = lsh_attention(query, value, buckets, size, mask)
    for b, n in enumerate(lengths):
        alone = reference_attention.lsh_buckets(query[b, :n], matrices, size)
        assert torch.equal(buckets[b, :, :, :n], alone)
        slow = reference_attention.lsh_attention(query[b, :n], value[b, :n], alone, size)
        torch.testing.assert_close(fast[b, :n], slow, rtol=0, atol=1e-12)
    assert fast.isfinite().all()


@pytest.mark.parametrize("length", [2, 7, 8])
def test_lsh_attention_of_one_chunk_is_full_attention_to_other_tokens(length):
    query, value = heads(1, length, 2, 5, count=2)
    key = query / query.norm(dim=-1, keepdim=True)
    logits = torch.einsum("bqhd,bkhd->bhqk", query, key) / 5**0.5
    logits.diagonal(dim1=-2, dim2=-1).fill_(-torch.inf)
    full = torch.einsum("bhqk,bkhd->bqhd", logits.softmax(dim=-1), value)
    fast = lsh_attention(query, value, lsh_buckets(query, rotations(3, 2), 8), 8)
    torch.testing.assert_close(fast, full, rtol=0, atol=1e-12)


def test_lsh_buckets_group_similar_vectors():
    directions = torch.nn.functional.one_hot(torch.arange(32) % 4, 4).double()
    x = (directions + 0.01 * torch.randn(32, 4, generator=torch.Generator().manual_seed(0)))[None, :, None]
    matrices = torch.eye(4, dtype=torch.float64)[None, None]
    assert torch.equal(lsh_buckets(x, matrices, 4)[0, 0, 0], torch.arange(32) % 4)
    assert torch.equal(lsh_buckets(-x, matrices, 4)[0, 0, 0], torch.arange(32) % 4 + 4)


def test_lsh_attention_passes_gradcheck():
    query, value = (x.requires_grad_() for x in heads(1, 13, 2, 3, count=2))
    buckets = lsh_buckets(query, rotations(2, 3, dim=3), 3)
    torch.autograd.gradcheck(lambda q, v: lsh_attention(q, v, buckets, 3), (query, value))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lsh_attention_of_a_single_token_returns_its_value(dtype):
    query, value = heads(2, 6, 2, 5, count=2)
    mask = ragged_mask((6, 1))
    out = lsh_attention(query.to(dtype), value.to(dtype), lsh_buckets(query, rotations(4, 2), 2, mask), 2, mask)
    assert out.dtype == dtype and out.isfinite().all()
    torch.testing.assert_close(out[1, 0], value[1, 0].to(dtype), rtol=0, atol=0.01)
