"""Summarisers of every family at the shape of a published one, random weights: equal to transformers'.

``python -m pytest tests/soak/test_families_at_real_size.py -p no:xdist -m soak -rP`` prints the differences that
docs/pretrained.md quotes. A family takes up to 8 GB.
"""

from argparse import Namespace

import pytest
import torch

from pyramidion_fairseq.interop.bart.convert import convert
from pyramidion_fairseq.interop.bart.sources import Source
from pyramidion_fairseq.interop.families.base import reorder
from pyramidion_fairseq.interop.families.every import FAMILIES
from pyramidion_fairseq.models import PyramidionModel
from tests.helpers.bart import documents, spread_values, symbols_of, task_of
from tests.helpers.families import KINDS, compute_positions, differences

pytestmark = pytest.mark.soak
LARGE = {"d_model": 1024, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096}
LARGE.update(encoder_attention_heads=16, decoder_attention_heads=16)
#: Kind -> (layers of a side, rows of the embedding, tokens of a document, settings). mBART's 250,027 rows would take
#: three gigabytes to say nothing more. Documents are as long as the model reads, LED's as far as its window sees all.
SHAPES = {
    "mbart": (12, 50_027, 1024, {"max_position_embeddings": 1024}),
    "pegasus": (16, 96_103, 1024, {"max_position_embeddings": 1024}),
    "led": (12, 50_265, 512, {"attention_window": [1024] * 12, "max_encoder_position_embeddings": 16_384}),
    "bigbird_pegasus": (16, 96_103, 1024, {"max_position_embeddings": 4096}),
}


def converted(kind, config, state, words):
    """(our model with full attention and the length that it has, the row of theirs for each of our symbols)."""
    family, markers = FAMILIES[kind], {"document_marker": "7", "summary_marker": "7"}
    given = {**family.from_config({**config.to_dict(), "model_type": kind}), **(markers if kind == "mbart" else {})}
    found, changes = family.tensors(state, given)
    rows, symbols = list(range(words)), symbols_of(words)
    if family.title.endswith("PEGASUS"):  # <s>, padding, </s>, then all others
        first = [family.first_rows.index("<s>"), family.padding_row, family.first_rows.index("</s>")]
        rows = [*first, *(row for row in rows if row not in first)]
        changes.append(reorder(found, rows))
    checkpoint = convert(Source(given, found, symbols, None, tuple(changes)), {"attention": "full"}).checkpoint
    model = PyramidionModel.build_model(Namespace(**checkpoint["cfg"]["model"]), task_of(words)).eval()
    torch.nn.Module.load_state_dict(model, checkpoint["model"], strict=True)
    return model, torch.tensor(rows)


@pytest.mark.parametrize("kind", SHAPES)
def test_equals_transformers(kind):
    transformers = pytest.importorskip("transformers")
    layers, words, length, settings = SHAPES[kind]
    name, more, _ = KINDS[kind]
    sizes = {**LARGE, "encoder_layers": layers, "decoder_layers": layers, "vocab_size": words}
    config = getattr(transformers, f"{name}Config")(**{**more, **sizes, **settings})
    theirs = spread_values(getattr(transformers, f"{name}ForConditionalGeneration")(config))
    if kind == "pegasus":
        compute_positions(theirs)
    model, rows = converted(kind, config, theirs.state_dict(), words)
    states, logits = differences(model, theirs, documents([length, length // 2 + 1], words), rows)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{kind}, {parameters:,} parameters, {length} tokens: states {states:.1e}, logits {logits:.1e}")
    assert max(states, logits) < 1e-4
