"""Tests of converted checkpoints of the published code: our model gives the same outputs."""

import json
from argparse import Namespace

import numpy as np
import pytest
import torch

from pyramidion_fairseq.checkpoints import load_checkpoint
from pyramidion_fairseq.cli.convert import main
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.interop.published import convert_published
from pyramidion_fairseq.models import PyramidionModel
from tests.helpers.models import make_dictionary
from tests.helpers.paths import DATA


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(DATA / "published_model.npz"))


@pytest.fixture
def published(golden):
    state = {name[3:]: torch.from_numpy(array) for name, array in golden.items() if name.startswith("sd|")}
    return {"model": state, "args": Namespace(**json.loads(str(golden["args"])))}


def build(checkpoint, words=100):
    dictionary = make_dictionary(words)
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    model = PyramidionModel.build_model(Namespace(**checkpoint["cfg"]["model"]), task)
    model.load_state_dict(checkpoint["model"], strict=True)
    return model.eval()


@pytest.mark.paper("published-code")
def test_converted_model_reproduces_the_published_outputs(golden, published, tmp_path, capsys):
    """Check encoder output and logits of the authors' code to 1e-4, through the command and a file."""
    torch.save(published, tmp_path / "in.pt")
    main(["published", str(tmp_path / "in.pt"), str(tmp_path / "out.pt")])
    assert "3+2 layers, pooling schedule 2:32,3:16" in capsys.readouterr().err
    model = build(load_checkpoint(tmp_path / "out.pt"))
    with torch.no_grad():
        encoded = model.encoder(torch.from_numpy(golden["src"]), None)["encoder_out"][0]
        logits = model(torch.from_numpy(golden["src"]), None, torch.from_numpy(golden["prev"]))[0]
    torch.testing.assert_close(encoded, torch.from_numpy(golden["enc"]), rtol=0, atol=1e-4)
    torch.testing.assert_close(logits, torch.from_numpy(golden["logits"]), rtol=0, atol=1e-4)


#: Variants run by the published code with the same weights -> arguments that differ, our attention and schedule.
VARIANTS = {
    "pooler_no_block": ({"use_sparse_attn": "pooler_no_block"}, "full", "2:32,3:16"),
    "only_blockwise": ({"use_sparse_attn": "only_blockwise"}, "blockwise", "2:32,3:16"),
    "only_blockwise, whole": (
        {"use_sparse_attn": "only_blockwise", "enc_layers_and_token_width": "{1: 64}"},
        "blockwise",
        "",
    ),
    "lambda": ({"encoder_pooling": "lambda", "encoder_pooling_arch": "ffn", "flip_right": 0}, "full", ""),
    "halving": ({"enc_layers_and_token_width": ""}, "blockwise", "1:32,2:16,3:8"),
}


@pytest.mark.paper("published-code")
@pytest.mark.parametrize("name", VARIANTS)
def test_converted_variants_reproduce_the_published_outputs(golden, published, name):
    """Check encoder output and logits of the authors' newest code, run with these arguments.

    Its constructor fails without layers and widths, although its encoder has a default for them; for "halving" it was
    given the length of the first layer's input alone.
    """
    changes, attention, schedule = VARIANTS[name]
    vars(published["args"]).update(changes)
    converted = convert_published(published)
    cfg = converted["cfg"]["model"]
    assert (cfg["attention"], cfg["pooling_schedule"]) == (attention, schedule)
    model = build(converted)
    with torch.no_grad():
        encoded = model.encoder(torch.from_numpy(golden["src"]), None)["encoder_out"][0]
        logits = model(torch.from_numpy(golden["src"]), None, torch.from_numpy(golden["prev"][:, :8]))[0]
    with np.load(DATA / "published_variants.npz") as expected:
        torch.testing.assert_close(encoded, torch.from_numpy(expected[f"{name}|enc"]), rtol=0, atol=1e-4)
        torch.testing.assert_close(logits, torch.from_numpy(expected[f"{name}|logits"]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("change", [{"topk_softmax_base": 5}, {"no_decoder_positional_embeddings": True}])
def test_arguments_that_the_published_code_ignores_are_ignored_with_a_log_line(published, change, caplog):
    """Check arguments with which the published code gives the same outputs as without."""
    (name,) = change
    plain = convert_published(published)["cfg"]["model"]
    assert (plain["softmax_base"], plain["decoder_positions"]) == (20, True) and not caplog.text
    vars(published["args"]).update(change)
    assert convert_published(published)["cfg"]["model"] == plain
    assert f"{name}={change[name]!r} is ignored, as by the published code" in caplog.text


@pytest.mark.parametrize("widths", ["", " ", "{}", None])
def test_missing_widths_convert_to_halving_after_every_layer(published, widths):
    vars(published["args"])["enc_layers_and_token_width"] = widths
    assert convert_published(published)["cfg"]["model"]["pooling_schedule"] == "1:32,2:16,3:8"


def test_blockwise_attention_without_pooling_is_warned_about(published, caplog):
    """Check arguments for which two versions of the published code differ."""
    vars(published["args"]).update(encoder_pooling="lambda", use_sparse_attn="only_blockwise")
    cfg = convert_published(published)["cfg"]["model"]
    assert (cfg["attention"], cfg["pooling_schedule"]) == ("blockwise", "")
    assert "the newest published code ignores the second" in caplog.text


def test_scorers_of_layers_that_do_not_pool_are_left_out(published):
    names = {name for name in convert_published(published)["model"] if "scorer" in name}
    assert names == {f"encoder.poolings.{layer}.scorer.proj.{p}" for layer in (2, 3) for p in ("weight", "bias")}


def test_dictionaries_of_the_training_are_stored_in_the_checkpoint(published, tmp_path, capsys):
    """Check --data, the recorded folder, and no dictionaries, as the authors' folders may be missing."""
    torch.save(published, tmp_path / "in.pt")
    source, named, other = str(tmp_path / "in.pt"), tmp_path / "named", tmp_path / "other"
    for folder, words in ((named, 100), (other, 97)):
        folder.mkdir()
        for side in ("source", "target"):
            make_dictionary(words).save(str(folder / f"dict.{side}.txt"))
    main(["published", source, str(tmp_path / "without.pt")])
    assert "contains no dictionaries, so only their sizes can be checked later (use --data)" in capsys.readouterr().err
    assert "vocabularies" not in load_checkpoint(tmp_path / "without.pt")["extra_state"]
    main(["published", source, str(tmp_path / "told.pt"), "--data", str(named)])
    published["args"].data = str(named)
    torch.save(published, source)
    main(["published", source, str(tmp_path / "found.pt")])
    for name in ("told", "found"):
        record = load_checkpoint(tmp_path / f"{name}.pt")["extra_state"]["vocabularies"]
        assert record["source"] == record["target"] == "\n".join(make_dictionary(100).symbols)
        assert not record["read_from"]
    with pytest.raises(
        SystemExit, match=r"found no dictionaries in .*other.* whose sizes match the embeddings of .*in\.pt"
    ):
        main(["published", source, str(tmp_path / "refused.pt"), "--data", str(other)])
    assert not (tmp_path / "refused.pt").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"flip_right": 0}, "flip_right=0"),
        ({"encoder_pooling_arch": "nonlinear"}, "encoder_pooling_arch='nonlinear'"),
        ({"enc_layers_and_token_width": "__import__('os').system('true')"}, "not a dict of layers"),
        ({"use_sparse_attn": "longformer"}, "only 'pooler', 'only_blockwise', 'pooler_no_block' is supported"),
        ({"encoder_pooling": "mean"}, "encoder_pooling='mean'"),
        ({"enc_layers_and_token_width": "{1: 32, 2: 64}"}, "lengths must descend"),
        ({"enc_layers_and_token_width": "{2: 16, 7: 8}"}, "the encoder has 3 layers"),
    ],
)
def test_unsupported_arguments_are_named_in_the_error(published, change, message):
    vars(published["args"]).update(change)
    with pytest.raises(PyramidionError, match=message):
        convert_published(published)


def test_missing_scorer_is_named_in_the_error(published):
    del published["model"]["encoder.pooler.scorer.2.weight"]
    with pytest.raises(PyramidionError, match="no scorer for the pooling after layer 3"):
        convert_published(published)


@pytest.mark.parametrize(
    "arguments, weights, message",
    [
        ({}, {"encoder.layers.0.fc1.weight": None}, 'Missing key.*"encoder.layers.0.fc1.weight"'),
        ({}, {"decoder.unknown": torch.zeros(3)}, 'Unexpected key.*"decoder.unknown"'),
        ({}, {"encoder.layers.0.fc2.bias": torch.zeros(3)}, "size mismatch for encoder.layers.0.fc2.bias"),
        ({}, {"encoder.embed_tokens.weight": None}, "without the matrix encoder.embed_tokens.weight"),
        ({"encoder_layers": 6}, {}, "the option encoder_layers is 6, but the file has 3"),
        ({"encoder_learned_pos": True}, {}, 'Missing key.*"encoder.embed_positions.weight"'),
    ],
)
def test_weights_that_do_not_fit_the_arguments_are_refused(published, arguments, weights, message):
    """Check that nothing is written that could not be loaded."""
    vars(published["args"]).update(arguments)
    model = {**published["model"], **weights}
    published["model"] = {name: tensor for name, tensor in model.items() if tensor is not None}
    with pytest.raises(PyramidionError, match=message):
        convert_published(published)


def test_buffers_of_older_versions_and_half_precision_are_converted(published):
    published["model"]["encoder.embed_positions._float_tensor"] = torch.zeros(1)
    published["model"] = {name: tensor.half() for name, tensor in published["model"].items()}
    build(convert_published(published))


def test_command_refuses_invalid_paths_with_a_one_line_error(tmp_path, published):
    torch.save({"model": {}, "args": Namespace(arch="transformer")}, tmp_path / "stock.pt")
    torch.save(published, tmp_path / "in.pt")
    for given, wanted, message in (
        ("stock.pt", "out.pt", "not a checkpoint of the published code"),
        ("nowhere.pt", "out.pt", "nowhere.pt"),
        ("in.pt", "in.pt", "exists: remove it"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["published", str(tmp_path / given), str(tmp_path / wanted)])
        assert str(stop.value).startswith("pyramidion-convert: error: ") and message in str(stop.value)
        assert "\n" not in str(stop.value) and not (tmp_path / "out.pt").exists()
