"""Tests of conversion at BART's real sizes with random weights, against transformers' BART and fairseq's own.

``python -m pytest tests/interop/bart/test_real_shapes.py -n 0 -m "soak or not soak" -rP`` prints the differences that
docs/comparisons.md quotes.
"""

from argparse import Namespace

import pytest
import torch
from fairseq.models.bart import BARTModel
from fairseq.models.bart.model import bart_base_architecture, bart_large_architecture

from pyramidion_fairseq.interop.bart.convert import convert
from pyramidion_fairseq.interop.bart.names import from_hugging_face
from pyramidion_fairseq.interop.bart.options import from_config, from_fairseq
from pyramidion_fairseq.interop.bart.sources import PretrainedSummarizer
from pyramidion_fairseq.models import PyramidionModel
from tests.helpers.bart import compare, documents, spread_values, symbols_of, task_of

#: Name -> (layers of a side, width, heads, symbols, parameters); the first is base with one layer a side.
SHAPES = {
    "base, 1+1 layers": (1, 768, 12, 1000, 18_886_656),
    "base": (6, 768, 12, 50265, 139_420_416),
    "large": (12, 1024, 16, 50265, 406_291_456),
}
NAMES = ["base, 1+1 layers", *(pytest.param(name, marks=pytest.mark.soak) for name in ("base", "large"))]


def converted(options, state, words):
    """Return our model of a source, with full attention, no pooling, and the source's length."""
    checkpoint = convert(
        PretrainedSummarizer(options, state, symbols_of(words), None), {"attention": "full"}
    ).checkpoint
    model = PyramidionModel.build_model(Namespace(**checkpoint["cfg"]["model"]), task_of(words)).eval()
    model.load_state_dict(checkpoint["model"], strict=True)
    return model


def batches(words):
    """Return a document of 1024 tokens beside one of 700, and summaries."""
    return documents([1024, 700], words), documents([40, 40], words, seed=1)


@pytest.mark.parametrize("name", NAMES)
def test_converted_model_equals_transformers_bart(transformers, name):
    layers, width, heads, words, parameters = SHAPES[name]
    sides = {f"{side}_{what}": value for side in ("encoder", "decoder") for what, value in
             (("layers", layers), ("ffn_dim", 4 * width), ("attention_heads", heads))}  # fmt: skip
    config = transformers.BartConfig(d_model=width, vocab_size=words, **sides)
    theirs = spread_values(transformers.BartForConditionalGeneration(config))
    model = converted(from_config(config.to_dict()), from_hugging_face(theirs.state_dict()), words)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    states, logits = compare(model, theirs, *batches(words))
    print(f"{name}, against transformers {transformers.__version__}: states {states:.1e}, logits {logits:.1e}")
    assert max(states, logits) < 1e-4


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_converted_model_equals_fairseqs_bart(name):
    layers, width, heads, words, parameters = SHAPES[name]
    sizes = {"encoder_layers": layers, "decoder_layers": layers} if layers == 1 else {}
    args = Namespace(arch="bart_large" if name == "large" else "bart_base", **sizes)
    (bart_large_architecture if name == "large" else bart_base_architecture)(args)
    assert (args.encoder_layers, args.encoder_embed_dim, args.encoder_attention_heads) == (layers, width, heads)
    theirs = spread_values(BARTModel.build_model(args, task_of(words)))
    assert sum(parameter.numel() for parameter in theirs.parameters()) == parameters
    model = converted(from_fairseq(vars(args)), dict(theirs.state_dict()), words)
    tokens, summaries = batches(words)
    visible = tokens.ne(1).transpose(0, 1)
    ours, expected = (m.encoder(tokens, None)["encoder_out"][0] for m in (model, theirs))
    states = (ours - expected)[visible].abs().max().item()
    logits = (model(tokens, None, summaries)[0] - theirs(tokens, None, summaries)[0]).abs().max().item()
    print(f"{name}, against fairseq's own: states {states:.1e}, logits {logits:.1e}")
    assert max(states, logits) < 1e-4
