"""Tests against lsg-converter 0.1.9: its BART of 4096 tokens, recorded by scripts/record_lsg_converter.py."""

from argparse import Namespace

import numpy as np
import pytest
import torch

from pyramidion_fairseq.interop.bart.convert import convert
from pyramidion_fairseq.interop.bart.options import from_config
from pyramidion_fairseq.interop.bart.sources import PretrainedSummarizer
from pyramidion_fairseq.interop.dictionary_files import make_dictionary
from pyramidion_fairseq.models import PyramidionModel
from tests.helpers.paths import DATA
from tests.helpers.published_lsg import CASES, LENGTHS, PROBES, ROTATIONS, SHAPE, documents, state_of_bart, symbols


@pytest.fixture(scope="module")
def recorded():
    return dict(np.load(DATA / "lsg_converter.npz"))


def converted(options):
    """Return our conversion of the same BART, with the published converter's options."""
    config = {"model_type": "bart", **SHAPE}
    changes = {
        "max_source_positions": 4096,
        "lsg_block_size": options["block_size"],
        "lsg_sparse_block_size": options["sparse_block_size"],
        "lsg_sparsity_factor": options["sparsity_factor"],
        "lsg_sparsity_type": options["sparsity_type"],
        "lsg_global_tokens": options["num_global_tokens"],
    }
    checkpoint = convert(
        PretrainedSummarizer(from_config(config), state_of_bart(), symbols(), None), changes
    ).checkpoint
    dictionary = make_dictionary(symbols())
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    model = PyramidionModel.build_model(Namespace(**checkpoint["cfg"]["model"]), task).eval()
    model.load_state_dict(checkpoint["model"], strict=True)
    return model


def test_positions_and_global_tokens_equal_the_published_converter(recorded):
    encoder = converted(CASES["none"]).encoder
    assert np.array_equal(encoder.global_embeddings.weight[:24].detach().numpy(), recorded["globals"])
    assert np.array_equal(encoder.embed_positions.weight[::97].detach().numpy(), recorded["positions"])


@pytest.mark.parametrize("kind", CASES)
def test_states_of_4096_tokens_equal_the_published_converter(recorded, kind):
    model, made = converted(CASES[kind]), iter(list(ROTATIONS()))
    if kind == "lsh":
        for layer in model.encoder.layers:
            for rotation in layer.self_attn.rotations:
                rotation.fixed.copy_(next(made))
    with torch.no_grad():
        states = model.encoder(documents(), None)["encoder_out"][0].transpose(0, 1).numpy()
    globals_ = states.shape[1] - max(LENGTHS)
    ours = np.concatenate([states[:, :globals_], states[:, globals_:][:, PROBES]], axis=1)
    whole = 1 if kind == "bos_pooling" else 2  # theirs attends to groups of padding: docs/comparisons.md
    np.testing.assert_allclose(ours[:whole], recorded[kind][:whole], rtol=0, atol=1e-4)
