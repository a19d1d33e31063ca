"""Tests of PEGASUS's positions: their definition, and the interface that fairseq calls."""

import math

import pytest
import torch

from pyramidion_fairseq.models.positions import PegasusPositions


@pytest.fixture
def positions():
    return PegasusPositions(4, 6, padding_idx=1)


def test_pegasus_positions_match_their_definition(positions):
    """Check sines of even coordinates, then cosines of odd ones; position 0 is that of the first token."""
    for place, row in enumerate(positions.first_positions(9).tolist()):
        angles = [place / 10000 ** (2 * pair / 6) for pair in range(3)]
        expected = [*map(math.sin, angles), *map(math.cos, angles)]
        assert row == pytest.approx(expected, abs=1e-7)


def test_positions_skip_padding_and_extend_the_table(positions):
    tokens = torch.tensor([[5, 6, 7, 8, 9, 2], [1, 1, 5, 6, 2, 1]])
    table, found = positions.first_positions(6), positions(tokens)
    assert torch.equal(found[0], table)
    assert torch.equal(found[1, 2:5], table[:3])


def test_incremental_positions_equal_those_of_the_whole_summary(positions):
    tokens = torch.tensor([[2, 6, 7, 8, 9, 4]])
    whole = positions(tokens)
    for count in range(1, 7):
        assert torch.equal(positions(tokens[:, :count], incremental_state={}), whole[:, count - 1 : count])


def test_positions_are_not_saved_and_follow_the_models_precision(positions):
    assert not positions.state_dict()
    assert positions.half().first_positions(9).dtype is torch.float16
