"""Tests of efficient attention."""

import pytest
import torch

from pyramidion_fairseq.functional import efficient_attention
from pyramidion_fairseq.functional.reference import attention as reference_attention
from tests.helpers.tensors import heads, ragged_mask


@pytest.mark.paper("efficient")
@pytest.mark.parametrize("lengths", [(1, 1), (9, 9), (20, 3), (17, 1)])
def test_efficient_attention_equals_its_quadratic_form(lengths):
    query, key, value = heads(len(lengths), max(lengths), 2, 5, count=3)
    fast = efficient_attention(query, key, value, ragged_mask(lengths))
    for b, n in enumerate(lengths):
        slow = reference_attention.efficient_attention(query[b, :n], key[b, :n], value[b, :n])
        torch.testing.assert_close(fast[b, :n], slow, rtol=0, atol=1e-12)


def test_efficient_attention_of_padding_alone_is_finite():
    out = efficient_attention(*heads(1, 4, 2, 3, count=3), torch.ones(1, 4, dtype=torch.bool))
    assert out.isfinite().all()


def test_efficient_attention_in_float16_is_accurate_for_long_documents():
    query, key, value = heads(1, 8192, 1, 16, count=3)
    low = efficient_attention(query.half(), key.half(), (value + 3).half())
    assert low.dtype == torch.float16
    torch.testing.assert_close(low.double(), efficient_attention(query, key, value + 3), rtol=0, atol=0.01)
