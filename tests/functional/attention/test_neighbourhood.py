"""Tests of window attention and of neighbouring blocks."""

import pytest
import torch

from pyramidion_fairseq.functional import neighbours, split_blocks, window_attention
from pyramidion_fairseq.functional.reference import attention as reference_attention
from tests.helpers.tensors import heads, ragged_mask


@pytest.mark.parametrize("lengths", [(1, 1), (7, 3), (16, 1), (23, 12)])
@pytest.mark.parametrize("window", [1, 3, 4, 30])
def test_window_attention_equals_loops(lengths, window):
    query, key, value = heads(len(lengths), max(lengths), 2, 5, count=3)
    fast = window_attention(query, key, value, window, ragged_mask(lengths))
    for b, n in enumerate(lengths):
        slow = reference_attention.window_attention(query[b, :n], key[b, :n], value[b, :n], window)
        torch.testing.assert_close(fast[b, :n], slow, rtol=0, atol=1e-12)
    assert fast.isfinite().all()


def test_neighbours_join_adjacent_blocks_in_document_order():
    x = torch.arange(1, 15).view(2, 7)
    blocks = neighbours(split_blocks(x, 3), 2)
    assert blocks[:3].tolist() == [
        [0, 0, 0, 1, 2, 3, 4, 5, 6],
        [1, 2, 3, 4, 5, 6, 7, 0, 0],
        [4, 5, 6, 7, 0, 0, 0, 0, 0],
    ]
    assert neighbours(split_blocks(x, 3), 2, before=1, after=0)[3:].tolist() == [
        [0, 0, 0, 8, 9, 10],
        [8, 9, 10, 11, 12, 13],
        [11, 12, 13, 14, 0, 0],
    ]
