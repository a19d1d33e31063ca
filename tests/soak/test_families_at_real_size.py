"""Tests that summarisers of every family, of a published size and with random weights, equal transformers'.

``python -m pytest tests/soak/test_families_at_real_size.py -p no:xdist -m soak -rP`` prints the differences that
docs/pretrained.md quotes. A family takes up to 8 GB.
"""

import pytest
import torch

from pyramidion_fairseq.interop.families.every import FAMILIES
from tests.helpers.bart import documents, spread_values
from tests.helpers.families import KINDS, compute_positions, converted, differences

pytestmark = pytest.mark.soak
LARGE = {"d_model": 1024, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096}
LARGE.update(encoder_attention_heads=16, decoder_attention_heads=16)
#: Kind -> (layers of a side, rows of the embedding, tokens of a document, settings). mBART's 250,027 rows would take
#: three gigabytes and test nothing more. Documents are as long as the model reads; LED's fit within its window.
SHAPES = {
    "mbart": (12, 50_027, 1024, {"max_position_embeddings": 1024}),
    "pegasus": (16, 96_103, 1024, {"max_position_embeddings": 1024}),
    "led": (12, 50_265, 512, {"attention_window": [1024] * 12, "max_encoder_position_embeddings": 16_384}),
    "bigbird_pegasus": (16, 96_103, 1024, {"max_position_embeddings": 4096}),
}


def order(family, words):
    """Return the row of PEGASUS's embedding for each of our symbols; None for other families.

    The order is <s>, padding, </s>, then all others.
    """
    if not family.title.endswith("PEGASUS"):
        return None
    first = [family.first_rows.index("<s>"), family.padding_row, family.first_rows.index("</s>")]
    return [*first, *(row for row in range(words) if row not in first)]


@pytest.mark.parametrize("kind", SHAPES)
def test_summariser_of_real_size_equals_transformers(kind):
    transformers = pytest.importorskip("transformers")
    layers, words, length, settings = SHAPES[kind]
    name, more, _ = KINDS[kind]
    sizes = {**LARGE, "encoder_layers": layers, "decoder_layers": layers, "vocab_size": words}
    config = getattr(transformers, f"{name}Config")(**{**more, **sizes, **settings})
    theirs = spread_values(getattr(transformers, f"{name}ForConditionalGeneration")(config))
    if kind == "pegasus":
        compute_positions(theirs)
    rows = order(FAMILIES[kind], words)
    model = converted(kind, theirs, words, {"attention": "full"}, rows)
    batch = documents([length, length // 2 + 1], words)
    states, logits = differences(model, theirs, batch, torch.tensor(rows or range(words)))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{kind}, {parameters:,} parameters, {length} tokens: states {states:.1e}, logits {logits:.1e}")
    assert max(states, logits) < 1e-4
