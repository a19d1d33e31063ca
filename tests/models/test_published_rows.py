"""Tests that every row of the paper's tables has an architecture with the published lengths and sizes."""

import csv
import re
from argparse import Namespace

import pytest
import torch

from pyramidion_fairseq.attention.blockwise import BlockwiseAttention
from pyramidion_fairseq.models import PyramidionModel
from pyramidion_fairseq.models.architectures import PUBLISHED, fields_of
from pyramidion_fairseq.schedule import PoolingSchedule
from tests.helpers.models import make_dictionary
from tests.helpers.paths import ROOT

LAYERS = re.compile(r"(?:per-encoder-layer input '>' pooled:|layers in) ([\d>,]+)(?: upsample (\d+))?")

#: Widths do not change which lengths the layers read.
NARROW = {
    **{f"{side}_{size}": 8 for side in ("encoder", "decoder") for size in ("embed_dim", "ffn_embed_dim")},
    **{f"{side}_attention_heads": 4 for side in ("encoder", "decoder")},
}


def table(*numbers):
    with open(ROOT / "benchmarks" / "published" / "tables.tsv", encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file, delimiter="\t") if row["table"] in numbers]


OWN = table("2", "7", "8") + [row for row in table("3") if "our" in row["architecture"]]


def length(text):
    return int(text[:-1]) * 1024 if text.endswith("k") else int(text)


def published_lengths(row):
    """Return the lengths that the layers read, and the one that the decoder reads."""
    found = LAYERS.search(row["notes"])
    if found is None:  # the deep baseline has only its column: "8k x6"
        source, layers = row["encoder_lengths"].split(" x")
        return [length(source)] * int(layers), length(source)
    layers, upsampled = found.groups()
    parts = [part.split(">") for part in layers.split(",")]
    return [int(part[0]) for part in parts], int(upsampled or parts[-1][-1])


def what_layers_read(arch):
    """Return the model, the lengths that its layers read, and the decoder's, for a document of full length."""
    torch.manual_seed(0)
    fields, dictionary = {**fields_of(arch), **NARROW}, make_dictionary(20)
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    model = PyramidionModel.build_model(Namespace(**fields), task).eval()
    read = []
    for layer in model.encoder.layers:
        layer.register_forward_pre_hook(lambda _, args: read.append(args[0].size(1)))
    with torch.no_grad():
        out = model.encoder(torch.randint(4, 20, (1, model.encoder.max_positions())), None)
    assert not out["encoder_padding_mask"][0].any()
    return model, read, out["encoder_out"][0].size(0)


@pytest.mark.paper("table-3-cited")
def test_every_row_of_the_tables_has_an_architecture():
    numbered = [row["row"] for row in table("2", "7", "8")]
    assert sorted(map(int, numbered)) == list(range(1, 33)) and len(OWN) == 35 and len(table("4")) == 8
    rows = {(row["table"], row["row"]) for row in [*OWN, *table("4")]}
    assert set(PUBLISHED) == rows


@pytest.mark.paper(
    "related-blockwise",
    "fig-1",
    "transpooler",
    "table-2-vanilla",
    "table-2-blockwise",
    "table-2-transpooler",
    "table-2-lsh",
    "table-2-efficient",
    "table-2-power",
    "table-2-funnel",
    "deep-schedule",
    "layers-after-pooling",
    "hp-block",
    "power-fixed",
    "table-7",
    "first-layer-too-early",
    "bottlenecks",
    "table-8",
    "pooling-without-blocks",
)
@pytest.mark.parametrize("row", OWN, ids=lambda row: "table {table} row {row}".format(**row))
def test_layers_read_the_published_lengths(row):
    arch = PUBLISHED[row["table"], row["row"]]
    expected, decoder_expected = published_lengths(row)
    model, read, decoder_reads = what_layers_read(arch)
    assert read == expected
    assert decoder_reads == decoder_expected == length(row["decoder_length"])
    lengths = PoolingSchedule.parse(fields_of(arch).get("pooling_schedule", "")).input_lengths(expected[0], len(read))
    assert list(lengths) == expected

    attention = model.encoder.layers[0].self_attn
    if row["block_size"] == "none":
        kind = {"LSH": "LSHAttention", "Efficient": "EfficientAttention"}.get(row["architecture"].split()[0])
        assert type(attention).__name__ == (kind or "FullAttention")
    else:
        assert isinstance(attention, BlockwiseAttention) and attention.block_size == int(row["block_size"])
    options = model.cfg.options
    if row["scorer"] == "attention-sum":
        assert (options.scorer, options.pooler) == ("attention_sum", "hard_topk")
    elif row["scorer"] == "mean-stride":
        assert options.pooler == "funnel" and not options.no_upsampling
    elif row["scorer"] == "linear":
        assert (options.scorer, options.pooler) == ("linear", "successive_halving")
    else:
        assert not model.encoder.poolings


@pytest.mark.paper("hp-layers", "hp-widths")
@pytest.mark.parametrize("row", OWN, ids=lambda row: "table {table} row {row}".format(**row))
def test_sizes_match_tables_5_and_6(row):
    fields = fields_of(PUBLISHED[row["table"], row["row"]])
    if row["table"] == "3":
        assert not {"encoder_layers", "decoder_layers", "encoder_embed_dim", "decoder_embed_dim"} & set(fields)
    else:
        assert fields["decoder_layers"] == 2
        for side in ("encoder", "decoder"):
            assert (fields[f"{side}_embed_dim"], fields[f"{side}_ffn_embed_dim"]) == (512, 2048)


@pytest.mark.paper("table-4", "a1-no-parameters")
@pytest.mark.parametrize("row", table("4"), ids=lambda row: row["row"])
def test_rows_of_table_4_have_their_scorers_and_poolers(row):
    name = row["row"].split("-")[0].split(" ")[0].lower()
    model, read, decoder_reads = what_layers_read(PUBLISHED["4", row["row"]])
    assert read == [2048, 2048] and decoder_reads == 512
    pooling = model.encoder.poolings["2"]
    if name in ("mean", "max"):
        assert pooling.scorer is None and type(pooling.pooler).__name__ == f"{name.capitalize()}WindowPooler"
        assert pooling.pooler.windows == {512: 4}  # window 4, stride 4
    elif name == "power":
        assert type(pooling.scorer).__name__ == "AttentionSumScorer" and not pooling.pooler.differentiable_in_scores
    else:
        assert type(pooling.scorer).__name__ == f"{name.capitalize()}Scorer"
        assert model.cfg.options.pooler == "successive_halving"
    if name == "index":
        assert pooling.scorer.stride == 2048 // 512
