"""Small BARTs with random weights, and functions that compare our models with them."""

import json
import os
import random
from argparse import Namespace

import pytest
import torch
from fairseq.models.bart import BARTModel
from fairseq.models.bart.model import bart_base_architecture

from pyramidion_fairseq.cli.convert import main
from pyramidion_fairseq.interop import byte_level, dictionary_files
from pyramidion_fairseq.interop.dictionary_files import make_dictionary
from pyramidion_fairseq.models import PyramidionModel

MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or"]
#: Width 32, 3+2 layers, 64 positions.
SHAPE = {"d_model": 32, "encoder_layers": 3, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
SHAPE.update(encoder_attention_heads=4, decoder_attention_heads=4, max_position_embeddings=64)


@pytest.fixture(scope="session")
def rows():
    """Return {token: row} of a small byte-level vocabulary; tokens are not sorted, as in BART."""
    tokens = list(byte_level.numbers_of(MERGES))
    random.Random(0).shuffle(tokens)
    return {token: row for row, token in enumerate([*dictionary_files.SPECIALS, *tokens, "madeupword0000", "<mask>"])}


@pytest.fixture(scope="session")
def symbols(rows):
    """Return the vocabulary of ``rows`` as fairseq's symbols."""
    bpe = byte_level.Bpe(byte_level.numbers_of(MERGES), MERGES)
    return byte_level.symbols_from_rows(rows, len(rows), bpe)


def write_bpe(folder, rows):
    (folder / "vocab.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]), encoding="utf-8")


def randomise(model, seed=0):
    """Set all parameters far from their initial values, so that a tensor that is not converted is noticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in name and name.endswith("weight") else 0.3 * noise)
    return model.eval()


def spread_values(model, seed=0):
    """Set random values for large models: matrices keep the norm of vectors, biases and norms have an effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 2:
                parameter.copy_(noise * parameter.size(1) ** -0.5)
            else:
                parameter.copy_(0.1 * noise + name.lower().endswith(("norm.weight", "embedding.weight")))
    return model.eval()


def old_checkpoint(args, weights):
    """Return a checkpoint with ``args`` in place of ``cfg``, as fairseq saved it before it had Hydra."""
    history = [{"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}]
    extra_state = {"epoch": 0, "train_iterator": {"epoch": 0}}
    return {"args": args, "model": weights, "extra_state": extra_state, "optimizer_history": history}


def write_stock(folder, symbols, **more):
    """Write fairseq's own BART with dict.txt and BPE; return the path of model.pt and the model.

    Tensors given as ``more`` are added to the file.
    """
    args = Namespace(
        arch="bart_base", task="denoising", share_all_embeddings=True, layernorm_embedding=True, encoder_embed_dim=32
    )
    args = Namespace(**vars(args), encoder_ffn_embed_dim=64, encoder_layers=3, decoder_layers=2)
    args.encoder_attention_heads = args.decoder_attention_heads = 4
    args.max_source_positions = args.max_target_positions = 64
    bart_base_architecture(args)
    args.tokens_per_sample = 64
    dictionary = make_dictionary(symbols)
    model = BARTModel.build_model(args, Namespace(source_dictionary=dictionary, target_dictionary=dictionary))
    randomise(model)
    written = [symbol for symbol in symbols if symbol != "<mask>"]  # which fairseq's task adds
    dictionary_files.write_dictionary(written, folder / "dict.txt")
    byte_level.write_bpe(byte_level.Bpe(byte_level.numbers_of(MERGES), MERGES), folder)
    torch.save(old_checkpoint(args, {**model.state_dict(), **more}), folder / "model.pt")
    return folder / "model.pt", model


@pytest.fixture(scope="session")
def stock(symbols, tmp_path_factory):
    """Write fairseq's own BART with dict.txt and BPE; return the path of model.pt and the model."""
    return write_stock(tmp_path_factory.mktemp("fairseq"), symbols)


def load(folder):
    """Load our model from a converted folder, strictly, in evaluation mode."""
    checkpoint = torch.load(folder / "model.pt")
    dictionary = make_dictionary(dictionary_files.read_dictionary(folder / "dict.txt"))
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    model = PyramidionModel.build_model(Namespace(**checkpoint["cfg"]["model"]), task)
    torch.nn.Module.load_state_dict(model, checkpoint["model"], strict=True)
    return model.eval()


def documents(lengths, words, seed=0):
    """Return (B, T) right-padded ids: <s>, random ids, </s>."""
    generator = torch.Generator().manual_seed(seed)
    batch = torch.full((len(lengths), max(lengths)), 1)
    for row, length in zip(batch, lengths):
        row[:length] = torch.randint(4, words, (length,), generator=generator)
        row[0], row[length - 1] = 0, 2
    return batch


@torch.no_grad()
def compare(model, theirs, tokens, summaries):
    """Return the largest differences of encoder states and of logits between our model and transformers'."""
    out = theirs(input_ids=tokens, attention_mask=tokens.ne(1).long(), decoder_input_ids=summaries)
    encoded = model.encoder(tokens, None)
    states, visible = encoded["encoder_out"][0].transpose(0, 1), ~encoded["encoder_padding_mask"][0]
    logits = model(tokens, None, summaries)[0]
    written = summaries.ne(1)  # fairseq's positions leave padding out, transformers' do not
    difference = (states - out.encoder_last_hidden_state).abs().amax(dim=-1)
    return difference[visible].max().item(), (logits - out.logits)[written].abs().max().item()


def symbols_of(words):
    return [*dictionary_files.SPECIALS, *map(str, range(words - 5)), "<mask>"]


def task_of(words):
    dictionary = make_dictionary(symbols_of(words))
    return Namespace(source_dictionary=dictionary, target_dictionary=dictionary)


@pytest.fixture(scope="session")
def transformers(tmp_path_factory):
    """Import the package or skip the test; set its cache, to which it copies code, before the import."""
    os.environ.update(HF_MODULES_CACHE=str(tmp_path_factory.mktemp("modules")), HF_HUB_OFFLINE="1")
    return pytest.importorskip("transformers")


@pytest.fixture
def convert(tmp_path):
    """Return a function that runs the command, as in convert("bart", IN, *flags), and returns the new folder."""
    count = iter(range(100))

    def run(kind, given, *flags):
        out = tmp_path / f"{kind}_{next(count)}"
        main([kind, str(given), str(out), *map(str, flags)])
        return out

    return run
