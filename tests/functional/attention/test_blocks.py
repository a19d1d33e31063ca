"""Tests of splitting into blocks, joining them, and moving padding."""

import pytest
import torch

from pyramidion_fairseq.functional import join_blocks, move_padding_right, split_blocks


@pytest.mark.parametrize("length, size", [(1, 1), (8, 4), (9, 4), (3, 8), (7, 7)])
def test_join_blocks_undoes_split_blocks(length, size):
    x = torch.randn(2, length, 3)
    blocks = split_blocks(x, size)
    per_document = -(-length // size)
    assert blocks.shape == (2 * per_document, size, 3)
    assert torch.equal(blocks[per_document][: min(size, length)], x[1, :size])
    assert torch.equal(join_blocks(blocks, 2, length), x)
    assert blocks.reshape(2, -1, 3)[:, length:].abs().sum() == 0


def test_split_blocks_refuses_a_size_of_zero():
    with pytest.raises(ValueError, match="at least one token"):
        split_blocks(torch.zeros(1, 2, 3), 0)


def test_move_padding_right_keeps_the_order_of_tokens():
    tokens = torch.tensor([[1, 1, 5, 6, 2], [7, 8, 9, 4, 2], [5, 1, 6, 1, 2]])
    expected = torch.tensor([[5, 6, 2, 1, 1], [7, 8, 9, 4, 2], [5, 6, 2, 1, 1]])
    assert torch.equal(move_padding_right(tokens, 1), expected)
