"""Tests of what a pretrained model lacks for a longer, sparser, pooled one, and of loading BART directly."""

from argparse import Namespace

import pytest
import torch

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.interop.bart.adapt import adapt_state
from pyramidion_fairseq.interop.dictionary_files import make_dictionary
from pyramidion_fairseq.interop.lengthen import SPREAD, spread_globals, spread_scorer, tile_positions
from pyramidion_fairseq.models import PyramidionModel
from pyramidion_fairseq.models.architectures import fields_of
from pyramidion_fairseq.scorers.linear import LinearScorer
from pyramidion_fairseq.scorers.nonlinear import NonlinearScorer

SMALL = {
    **{f"{side}_embed_dim": 32 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_embed_dim": 64 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
    "encoder_layers": 3,
    "decoder_layers": 2,
    "max_source_positions": 150,
    "max_target_positions": 64,
    "lsg_block_size": 8,
    "lsg_sparse_block_size": 8,
    "pooling_schedule": "3:40",
}


def build(symbols, **options):
    dictionary = make_dictionary(symbols)
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    torch.manual_seed(1)
    return PyramidionModel.build_model(Namespace(**{**fields_of("bart_base_long"), **SMALL, **options}), task).eval()


@pytest.mark.parametrize("rows", [6, 10, 12, 23, 45])
def test_tile_positions_repeats_the_rows_after_the_offset(rows):
    table = torch.arange(12.0).unsqueeze(1).expand(-1, 3)
    tiled = tile_positions(table, rows, offset=2)
    assert tiled[:, 1].tolist() == ([0, 1] + list(range(2, 12)) * 5)[:rows]


def test_tile_positions_refuses_a_table_without_positions():
    with pytest.raises(ValueError, match="offset rows, got 2"):
        tile_positions(torch.zeros(2, 4), 10, offset=2)


def published_order(positions, stride=64):
    """Order positions like lsg-converter 0.1.9: take 512 of them, then one of each stretch of 64 after another."""
    factor = len(positions) // 512
    kept = positions[: 512 * factor].reshape(512, factor, -1)[:, 0]
    return kept.reshape(-1, stride // factor, positions.size(1)).transpose(0, 1).reshape(512, -1)


@pytest.mark.parametrize("count", [512, 700, 1024, 2048, 4096, 16384])
def test_spread_globals_equals_the_published_converter(count):
    """Check RoBERTa's 512 positions, BART's 1024, and others."""
    positions, bos, mask = torch.randn(count, 4), torch.randn(4), torch.randn(4)
    expected = published_order(positions)
    expected[0] += bos
    expected[1:] += mask
    assert torch.equal(spread_globals(positions, bos, mask), expected)


def test_spread_globals_spreads_over_fewer_positions():
    positions = torch.arange(64.0).unsqueeze(1)
    places = spread_globals(positions, torch.zeros(1), torch.zeros(1)).flatten()
    assert places[:16].tolist() == list(range(0, 64, 4)) and places.max() == 63


@pytest.mark.parametrize("count", [1, 1536, 40_000])
def test_spread_globals_handles_lengths_that_the_published_converter_lacks(count):
    positions = torch.arange(float(count)).unsqueeze(1)
    places = spread_globals(positions, torch.zeros(1), torch.zeros(1)).flatten().tolist()
    assert places[:2] == [0, min(64, count - 1)] and len(set(places)) == min(512, count)


@pytest.mark.parametrize("scorer", [LinearScorer(64), NonlinearScorer(64)])
def test_spread_scorer_gives_ratings_of_the_wanted_standard_deviation(scorer):
    weight, bias = 1 + 0.5 * torch.rand(64), torch.randn(64)
    spread_scorer(scorer, weight, bias)
    states = torch.nn.functional.layer_norm(torch.randn(1, 5000, 64), (64,), weight, bias)
    ratings = scorer.rate(states, None)
    assert ratings.std().item() == pytest.approx(SPREAD, rel=0.1) and abs(ratings.mean().item()) < 0.2


def test_fairseq_bart_loads_into_a_long_pooled_model(stock, symbols, caplog):
    _, bart = stock
    model = build(symbols)
    with caplog.at_level("INFO"):
        model.load_state_dict({name: tensor.clone() for name, tensor in bart.state_dict().items()}, strict=True)
    for text in ("64 positions repeated to 150", "<s> and <mask>", "scorer of the pooling after layer 3"):
        assert text in caplog.text
    ours, theirs = model.state_dict(), bart.state_dict()
    positions = theirs["encoder.embed_positions.weight"]
    tiled = torch.cat([positions, positions[2:], positions[2:24]])
    assert torch.equal(ours["encoder.embed_positions.weight"], tiled)
    new = {"encoder.global_embeddings.weight", "encoder.embed_positions.weight"}
    new |= {f"encoder.poolings.3.scorer.proj.{what}" for what in ("weight", "bias")}
    assert ours.keys() == theirs.keys() | new
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items() if name not in new)
    assert torch.equal(
        ours["encoder.global_embeddings.weight"][0], positions[2] + theirs["encoder.embed_tokens.weight"][0]
    )


def test_mask_row_is_dropped_for_a_dictionary_without_mask(stock, symbols):
    _, bart = stock
    model, whole = build(symbols[:-1]), build(symbols)
    for target in (model, whole):
        target.load_state_dict({name: tensor.clone() for name, tensor in bart.state_dict().items()}, strict=True)
    ours, theirs = model.state_dict(), whole.state_dict()
    assert torch.equal(ours["encoder.embed_tokens.weight"], theirs["encoder.embed_tokens.weight"][:-1])
    assert torch.equal(ours["encoder.global_embeddings.weight"], theirs["encoder.global_embeddings.weight"])


def test_checkpoint_with_another_vocabulary_size_is_refused(stock, symbols):
    with pytest.raises(PyramidionError, match="symbols, the data's dictionary 200"):
        build(symbols[:200]).load_state_dict(dict(stock[1].state_dict()), strict=True)


def test_classification_heads_are_left_out(stock, symbols):
    state = {**stock[1].state_dict(), "classification_heads.mnli.dense.weight": torch.zeros(3, 3)}
    build(symbols).load_state_dict(state, strict=True)


@pytest.mark.parametrize("lost", ["encoder.layers.1.fc1.bias", "decoder.layernorm_embedding.weight"])
def test_missing_tensors_are_refused_in_strict_loading(stock, symbols, lost):
    state = dict(stock[1].state_dict())
    del state[lost]
    with pytest.raises(RuntimeError, match=lost):
        build(symbols).load_state_dict(state, strict=True)


def test_scorer_with_a_missing_bias_is_refused(symbols):
    model = build(symbols)
    state = model.state_dict()
    del state["encoder.poolings.3.scorer.proj.bias"]
    with pytest.raises(RuntimeError, match=r"scorer\.proj\.bias"):
        model.load_state_dict(state, strict=True)


def test_adapt_state_does_not_change_a_state_that_fits(symbols):
    model = build(symbols)
    state = model.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    assert adapt_state(model, state) == []
    assert state.keys() == before.keys() and all(torch.equal(state[name], before[name]) for name in state)


def test_positions_are_cut_for_a_shorter_model(symbols):
    long, short = build(symbols), build(symbols, max_source_positions=50)
    short.load_state_dict(long.state_dict(), strict=True)
    assert torch.equal(short.encoder.embed_positions.weight, long.encoder.embed_positions.weight[:52])


def test_checkpoint_without_a_pointer_gets_a_new_gate(symbols, caplog):
    plain, pointing = build(symbols), build(symbols, pointer=True, pointer_bias=-2.0)
    state = {name: tensor.half() for name, tensor in plain.state_dict().items()}
    with caplog.at_level("INFO"):
        (change,) = adapt_state(pointing, state)
    assert change.kind == "new" and caplog.messages == [change.text] and "new gate of the pointer" in change.text
    assert set(change.names) == {"decoder.pointer.gate.weight", "decoder.pointer.gate.bias"}
    assert state["decoder.pointer.gate.bias"].tolist() == [0.0, -2.0, -2.0]
    assert state["decoder.pointer.gate.weight"].dtype == torch.float16
    pointing.load_state_dict(plain.state_dict(), strict=True)
    loaded = pointing.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in plain.state_dict().items())


def test_existing_pointer_gate_is_kept_and_an_incomplete_one_refused(symbols):
    model, other = build(symbols, pointer=True), build(symbols, pointer=True)
    torch.nn.init.normal_(model.decoder.pointer.gate.weight)
    state = model.state_dict()
    assert adapt_state(other, state) == []
    other.load_state_dict(state, strict=True)
    assert torch.equal(other.decoder.pointer.gate.weight, model.decoder.pointer.gate.weight)
    del state["decoder.pointer.gate.bias"]
    with pytest.raises(RuntimeError, match=r"decoder\.pointer\.gate\.bias"):
        other.load_state_dict(state, strict=True)


def test_model_without_a_pointer_refuses_a_checkpoint_with_one(symbols, caplog):
    with pytest.raises(PyramidionError, match="has a pointer, but this model does not: use --"):
        build(symbols).load_state_dict(build(symbols, pointer=True).state_dict(), strict=True)
    assert "use --pointer" in caplog.text
