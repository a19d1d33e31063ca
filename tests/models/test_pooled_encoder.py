"""Tests of run_pooled_layers with simple layers, and of the encoders that call it."""

import ast

import pytest
import torch
from torch import nn

from pyramidion_fairseq.interop.huggingface.bundle import bundle, flatten
from pyramidion_fairseq.models import encoder
from pyramidion_fairseq.models.pooled_encoder import run_pooled_layers
from pyramidion_fairseq.models.pooling import RepresentationPooling
from pyramidion_fairseq.poolers.funnel import FunnelPooler
from pyramidion_fairseq.poolers.hard_topk import HardTopkPooler
from pyramidion_fairseq.poolers.mean_window import MeanWindowPooler


class Add(nn.Module):
    """Stand for a layer that adds a number."""

    def __init__(self, number):
        super().__init__()
        self.number = number


def run(lengths, pooler, known=True, **options):
    """Run three layers that add 1, 10 and 100, with a pooling to 2 vectors after the second.

    Return the result, and what each layer was given: (shape, padding mask, lengths).
    """
    given = []

    def call_layer(layer, x, key_padding_mask, document_lengths):
        given.append((tuple(x.shape), key_padding_mask, document_lengths))
        return x + layer.number, None

    mask = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
    x = torch.arange(max(lengths), dtype=torch.float32).expand(len(lengths), -1).masked_fill(mask, 0)[..., None]
    poolings = nn.ModuleDict({"2": RepresentationPooling(None, pooler, 2)})
    out = run_pooled_layers(
        lambda: x,
        mask if mask.any() else None,
        [Add(1), Add(10), Add(100)],
        poolings,
        call_layer,
        document_lengths=lengths if known else None,
        **options,
    )
    return out, given


def test_run_pooled_layers_matches_hand_computed_values():
    out, given = run([4, 3], MeanWindowPooler({2: 2}), keep_states=True)
    assert out.x[..., 0].tolist() == [[111.5, 113.5], [111.5, 113.0]]  # means of (0, 1), (2, 3) and of (0, 1), (2)
    assert out.slot_of_token[0][0].tolist() == [0, 0, 1, 1] and out.slot_of_token[0][1, :3].tolist() == [0, 0, 1]
    assert out.weights[0].tolist() == [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 1.0, 0.0]]
    assert out.padding_mask.tolist() == [[False, False]] * 2
    assert [tuple(state.shape) for state in out.states] == [(2, 4, 1), (2, 4, 1), (2, 2, 1), (2, 2, 1)]
    assert out.states[2][0, :, 0].tolist() == [11.5, 13.5]
    assert [shape for shape, _, _ in given] == [(2, 4, 1), (2, 4, 1), (2, 2, 1)]
    assert [lengths for _, _, lengths in given] == [[4, 3], [4, 3], [2, 2]]


@pytest.mark.parametrize(
    "lengths, padded", [([4, 3], [True, False]), ([4, 4], [False, False]), ([4, 1], [True, True])]
)
@pytest.mark.parametrize("known", [True, False])
def test_padding_mask_is_none_where_nothing_is_padded(lengths, padded, known):
    """Check before and after the pooling; if the host does not know the lengths, the pooler's mask is passed on."""
    out, given = run(lengths, HardTopkPooler(), known)
    before, _, after = (mask is not None for _, mask, _ in given)
    assert before == padded[0]
    assert after == (padded[1] if known else padded[0])
    assert out.padding_mask.tolist() == [[False, False], [False, lengths[1] < 2]]


def test_output_is_upsampled_before_the_final_layer_norm():
    norm = nn.Linear(1, 1)
    with torch.no_grad():
        norm.weight.fill_(2.0), norm.bias.fill_(0.5)
    out, _ = run([4], FunnelPooler({2: 2}), layer_norm=norm)
    repeated, own = [111.5, 111.5, 113.5, 113.5], [11, 12, 13, 14]
    assert out.x[0, :, 0].tolist() == [2 * (one + other) + 0.5 for one, other in zip(repeated, own)]
    assert out.padding_mask.tolist() == [[False] * 4] and out.states == []


def test_pooled_encoder_imports_no_fairseq_and_is_exported():
    sources = flatten("models.pooled_encoder")
    assert "models_pooled_encoder.py" in bundle("blockwise", "linear", "successive_halving")
    for name, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(module.split(".")[0] in ("fairseq", "transformers") for module in names), name


def test_fairseq_encoder_calls_run_pooled_layers(tiny_model, random_tokens, monkeypatch):
    monkeypatch.setattr(encoder, "run_pooled_layers", refuse)
    with pytest.raises(RuntimeError, match="the loop"):
        tiny_model().encoder(random_tokens([9]))


def test_transformers_encoder_calls_run_pooled_layers(tiny_model, random_tokens, monkeypatch):
    pytest.importorskip("transformers")
    from pyramidion_fairseq.huggingface import encoder_pyramidion
    from pyramidion_fairseq.huggingface.configuration_pyramidion import PyramidionBartConfig

    config = PyramidionBartConfig(
        d_model=8, encoder_layers=3, encoder_ffn_dim=16, pyramidion=vars(tiny_model().options)
    )
    model = encoder_pyramidion.PyramidionBartEncoder(config, nn.Embedding(40, 8))
    assert model(random_tokens([60, 9])).last_hidden_state.shape == (2, 5, 8)
    monkeypatch.setattr(encoder_pyramidion, "run_pooled_layers", refuse)
    with pytest.raises(RuntimeError, match="the loop"):
        model(random_tokens([9]))


def refuse(*args, **kwargs):
    raise RuntimeError("the loop")
