"""Tests of PEGASUS's positions against transformers' own."""

import torch

from pyramidion_fairseq.models.positions import PegasusPositions


def test_pegasus_positions_equal_transformers(transformers):
    from transformers.models.pegasus.modeling_pegasus import PegasusSinusoidalPositionalEmbedding

    for length, dim in ((1024, 64), (512, 34)):
        expected = PegasusSinusoidalPositionalEmbedding(length, dim).create_weight()
        positions = PegasusPositions(100, dim, padding_idx=1)
        assert (positions.first_positions(length) - expected).abs().max() < 1e-6
        tokens = torch.tensor([[5, 6, 7, 2]])
        assert torch.equal(positions(tokens)[0], positions.first_positions(length)[:4])
