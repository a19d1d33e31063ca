"""PEGASUS's positions by their definition, and as fairseq asks for them."""

import math

import pytest
import torch

from pyramidion_fairseq.models.positions import PegasusPositions


@pytest.fixture
def positions():
    return PegasusPositions(4, 6, padding_idx=1)


def test_definition(positions):
    """Sines of even coordinates, then cosines of odd ones; position 0 is that of the first token."""
    for place, row in enumerate(positions.first_positions(9).tolist()):
        angles = [place / 10000 ** (2 * pair / 6) for pair in range(3)]
        expected = [*map(math.sin, angles), *map(math.cos, angles)]
        assert row == pytest.approx(expected, abs=1e-7)


def test_padding_is_not_counted_and_more_are_computed(positions):
    tokens = torch.tensor([[5, 6, 7, 8, 9, 2], [1, 1, 5, 6, 2, 1]])
    table, found = positions.first_positions(6), positions(tokens)
    assert torch.equal(found[0], table)
    assert torch.equal(found[1, 2:5], table[:3])


def test_one_at_a_time(positions):
    tokens = torch.tensor([[2, 6, 7, 8, 9, 4]])
    whole = positions(tokens)
    for count in range(1, 7):
        assert torch.equal(positions(tokens[:, :count], incremental_state={}), whole[:, count - 1 : count])


def test_nothing_is_saved_and_the_precision_is_the_models(positions):
    assert not positions.state_dict()
    assert positions.half().first_positions(9).dtype is torch.float16
