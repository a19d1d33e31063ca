"""Tests of named architectures: sizes, lengths, and options on the command line."""

import pickle
from argparse import Namespace
from dataclasses import fields
from functools import cache

import pytest
import torch
from fairseq import models, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from pyramidion_fairseq.config import PyramidionConfig
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.models.architectures import ARCHITECTURES, Architecture, config_of, fields_of
from tests.helpers.models import make_dictionary


@cache
def configure(*flags):
    """Return the config that fairseq-train makes of its options. It is cached: do not change it."""
    parser = options.get_training_parser()
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, ["data", *flags]))


@pytest.fixture(scope="module")
def vocabulary():
    return make_dictionary(32000)


@pytest.mark.paper("hp-layers", "hp-positions", "hp-shared")
@pytest.mark.parametrize(
    "arch, millions, source, schedule, layers",
    [
        ("deeppyramidion", 123.8, 8192, "2:2048,3:512", 6),
        ("deep_blockwise", 123.8, 8192, "", 6),
        ("vanilla", 31.1, 8192, "", 2),
        ("vanilla_2k", 31.1, 2048, "", 2),
        ("blockwise_8k", 31.1, 8192, "", 2),
        ("blockwise_2k", 31.1, 2048, "", 2),
        ("lsh", 30.7, 8192, "", 2),  # six of eight heads share queries and keys
        ("lsh_2k", 30.7, 2048, "", 2),
        ("lsh_512", 30.7, 512, "", 2),
        ("efficient", 31.1, 8192, "", 2),
        ("efficient_512", 31.1, 512, "", 2),
        ("efficient_2k", 31.1, 2048, "", 2),
        ("transpooler", 31.1, 8192, "2:512", 2),
        ("transpooler_2k", 31.1, 2048, "2:512", 2),
        ("pyramidion", 31.1, 8192, "1:2048,2:512", 2),
        ("pyramidion_2k", 31.1, 2048, "1:1024,2:512", 2),
    ],
)
def test_architectures_have_their_lengths_schedules_and_numbers_of_parameters(
    vocabulary, arch, millions, source, schedule, layers
):
    task = "translation" if arch.endswith("_512") else "long_document_summarization"  # options are read alike
    cfg = configure("--arch", arch, "--task", task)
    assert cfg.task.max_source_positions == source and cfg.task.max_target_positions == 1024
    with torch.device("meta"):  # only shapes are checked
        model = models.build_model(cfg.model, Namespace(source_dictionary=vocabulary, target_dictionary=vocabulary))
    assert model.max_positions() == (source, 1024)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions
    assert str(model.encoder.schedule) == schedule and len(model.encoder.layers) == layers == len(model.decoder.layers)
    assert model.decoder.embed_positions is None and model.encoder.embed_positions is not None
    assert model.decoder.embed_tokens is model.encoder.embed_tokens
    attention = type(model.encoder.layers[0].self_attn).__name__
    expected = {"vanilla": "FullAttention", "lsh": "LSHAttention", "efficient": "EfficientAttention"}
    assert attention == expected.get(arch.split("_")[0], "BlockwiseAttention")


@pytest.mark.paper("fig-1d")
def test_halve_schedule_follows_from_the_models_length_and_layers(vocabulary):
    """Check Figure 1 D: three layers that read 8k, 4k and 2k tokens, and a decoder that reads 1k."""
    task = Namespace(source_dictionary=vocabulary, target_dictionary=vocabulary)
    for flags, expected in (
        ([], "1:4096,2:2048,3:1024"),
        (["--max-source-positions", "4096", "--encoder-layers", "2"], "1:2048,2:1024"),
        (["--pooling-schedule", "2:512"], "2:512"),
    ):
        with torch.device("meta"):
            model = models.build_model(configure("--arch", "pyramidion_8k_4k_2k_1k", *flags).model, task)
        assert (
            str(model.encoder.schedule)
            == expected
            == ",".join(f"{n}:{p.k}" for n, p in model.encoder.poolings.items())
        )
        assert len(model.decoder.layers) == 3


def test_command_line_options_override_the_architecture():
    flags = ["--max-source-positions", "1024", "--pooling-schedule", "3:64", "--encoder-embed-dim", "32"]
    cfg = configure("--arch", "deeppyramidion", *flags, "--decoder-positions")
    assert cfg.task.max_source_positions == cfg.model.max_source_positions == 1024
    assert cfg.model.pooling_schedule == "3:64" and cfg.model.encoder_embed_dim == 32 and cfg.model.decoder_positions


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_architectures_set_only_existing_options(name):
    """Check fairseq's config of each; tests/examples reads the commands of every published row."""
    config = models.MODEL_DATACLASS_REGISTRY[name]()
    real = {field.name for field in fields(PyramidionConfig)}
    for field, value in fields_of(name).items():
        assert field in real and getattr(config, field) == value


@pytest.mark.paper("hp-dropout", "hp-activation", "hp-heads", "shared-rest")
@pytest.mark.parametrize("name", sorted(name for name in ARCHITECTURES if not name.startswith("bart_")))
def test_architectures_share_the_common_values_of_tables_5_and_6(name):
    model = Namespace(**{**vars(PyramidionConfig()), **fields_of(name)})
    assert (model.dropout, model.attention_dropout, model.activation_dropout) == (0.1, 0.1, 0.1)
    assert model.activation_fn == "relu" and model.encoder_attention_heads == model.decoder_attention_heads == 8


@pytest.mark.parametrize("name", sorted(name for name in ARCHITECTURES if name.startswith("bart_")))
def test_bart_architectures_have_the_options_of_fairseqs_bart(name):
    """Compare with fairseq's ``bart_base`` and ``bart_large``, and with the options of its recipes."""
    ours = configure("--arch", name).model
    theirs = configure("--arch", "_".join(name.split("_")[:2]), "--task", "translation").model
    shared = {field.name for field in fields(PyramidionConfig)} & set(vars(theirs))
    lengths = {"max_source_positions", "max_target_positions"}
    # Recipes, not architectures, set the dropout of attention and of feed-forward layers: 0.1 and 0.
    recipes = {"attention_dropout", "activation_dropout"}
    assert len(shared) > 20
    for field in shared - lengths - recipes - {"_name"}:
        assert ours[field] == getattr(theirs, field), field
    assert (ours.dropout, ours.attention_dropout, ours.activation_dropout) == (0.1, 0.1, 0.0)
    assert ours.max_source_positions == 8192 and ours.prepend_bos and ours.decoder_positions


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--pooling-schedule", "9:4"], "pools after layer 9, but the encoder has 6 layers"),
        (["--max-source-positions", "1024"], "documents have at most 1024"),
        (["--block-size", "0"], "--block-size must be at least 1"),
        (["--attention", "lsh", "--local-heads", "9"], "--local-heads must be from 0 to the number of heads"),
        (["--attention", "lsg", "--lsg-sparsity-factor", "3"], r"--lsg-sparsity-factor \(3\) must divide"),
        (["--softmax-base", "0.5"], "--softmax-base must be above 1"),
        (
            ["--pooling-schedule", "", "--max-source-positions", "2", "--prepend-bos"],
            "--max-source-positions 2: must be more than the 2 symbols added",
        ),
        (["--encoder-attention-heads", "7"], r"--encoder-embed-dim \(768\) must be a multiple"),
    ],
)
def test_contradictory_options_are_refused(vocabulary, flags, message):
    task = Namespace(source_dictionary=vocabulary, target_dictionary=vocabulary)
    with pytest.raises(PyramidionError, match=message):
        models.build_model(configure("--arch", "deeppyramidion", *flags).model, task)


def test_separate_dictionaries_are_refused(vocabulary):
    task = Namespace(source_dictionary=vocabulary, target_dictionary=make_dictionary(100))
    with pytest.raises(PyramidionError, match="--joined-dictionary"):
        models.build_model(configure("--arch", "deeppyramidion").model, task)


def test_checkpoint_from_before_an_option_existed_still_builds(vocabulary):
    from omegaconf import OmegaConf

    cfg = OmegaConf.to_container(configure("--arch", "transpooler").model)
    for newer in ("scorer_activation", "pooling_schedule"):
        del cfg[newer]
    task = Namespace(source_dictionary=vocabulary, target_dictionary=vocabulary)
    model = models.build_model(OmegaConf.create(cfg), task, from_checkpoint=True)
    assert str(model.encoder.schedule) == "2:512"


def test_hydra_store_makes_configs_of_models_when_they_are_read():
    """Check that they equal those of register_model(name, dataclass=...), and that each reader gets a copy."""
    store = ConfigStore.instance()
    for name in ("deeppyramidion", "lsg_roberta_base"):
        entry = store.repo["model"][f"{name}.yaml"]
        expected = OmegaConf.structured(models.MODEL_DATACLASS_REGISTRY[name])
        expected._name = name
        first, second = store.load(f"model/{name}.yaml"), store.load(f"model/{name}.yaml")
        assert "node" not in vars(entry) and first.node == second.node == expected
        assert OmegaConf.get_type(first.node) is models.MODEL_DATACLASS_REGISTRY[name]
        first.node.dropout = 0.75
        assert second.node.dropout == store.load(f"model/{name}.yaml").node.dropout == expected.dropout
        assert (first.name, first.group, first.provider) == (f"{name}.yaml", "model", "fairseq")


@pytest.mark.parametrize("arch", sorted(ARCHITECTURES))
def test_model_classes_can_be_pickled_by_their_name(arch):
    """Check what ``torch.save(model)`` and spawned processes need."""
    assert arch.encode() in pickle.dumps(models.MODEL_REGISTRY[arch])


def test_a_whole_model_can_be_pickled():
    dictionary = make_dictionary(20)
    options = {**fields_of("deeppyramidion"), "encoder_layers": 3, "decoder_layers": 1}
    options.update({f"{side}_embed_dim": 8 for side in ("encoder", "decoder")}, max_source_positions=4096)
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    model = models.MODEL_REGISTRY["deeppyramidion"].build_model(Namespace(**options), task)
    again = pickle.loads(pickle.dumps(model))  # noqa: S301 -- our own bytes
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))


def test_architecture_with_a_misspelt_option_is_refused(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "mine", Architecture("blockwise", {"encoder_layer": 3, "scorer": "linear"}))
    with pytest.raises(ValueError, match=r"^architecture 'mine' sets encoder_layer: PyramidionConfig has no such opt"):
        config_of("mine")


def test_architecture_that_starts_from_an_unknown_one_is_refused(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "mine", Architecture("block_wise", {"encoder_layers": 3}))
    with pytest.raises(ValueError, match=r"^architecture 'mine' starts from 'block_wise', and there is no architect"):
        config_of("mine")
