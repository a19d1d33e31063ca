"""Tests of a model's record: its weights rebuild the outputs of the poolings from their inputs."""

import pytest
import torch
from fairseq.data.data_utils import collate_tokens

from pyramidion_fairseq.apps.explain.facts import describe
from pyramidion_fairseq.apps.explain.record import read_records
from pyramidion_fairseq.functional import TokenRecord, pool_by_record
from pyramidion_fairseq.poolers import POOLERS

EXACT = [name for name in POOLERS.names() if POOLERS.get(name).exact_record]


def run(model, tokens):
    """Return (encoder_out, [(input, output, output mask) of each pooling])."""
    seen = []
    for pooling in model.encoder.poolings.values():
        pooling.register_forward_hook(lambda _, args, out: seen.append((args[0], out.embeddings, out.padding_mask)))
    with torch.no_grad():
        return model.encoder(tokens, None), seen


def documents(lengths, left_pad=False):
    generator = torch.Generator().manual_seed(0)
    rows = [torch.cat([torch.randint(4, 40, (n - 1,), generator=generator), torch.tensor([2])]) for n in lengths]
    return collate_tokens(rows, 1, left_pad=left_pad)


@pytest.mark.parametrize("options", [{}, {"attention": "lsg"}, {"score_order": True}, {"softmax_base": 0.0}])
@pytest.mark.parametrize("left_pad", [False, True])
@pytest.mark.parametrize("lengths", [[64, 40], [50, 13, 3, 1], [12, 5]])
@pytest.mark.parametrize("pooler", EXACT)
def test_recorded_weights_rebuild_every_pooling_of_the_encoder(tiny_model, pooler, lengths, left_pad, options):
    model = tiny_model(pooler=pooler, **options)
    out, seen = run(model, documents(lengths, left_pad))
    assert len(seen) == 2
    for (before, after, mask), slots, weights in zip(seen, out["pooling_slots"], out["pooling_weights"]):
        rebuilt = pool_by_record(before, TokenRecord(slots, weights), after.size(1))
        visible = torch.ones(after.shape[:2], dtype=torch.bool) if mask is None else ~mask
        torch.testing.assert_close(rebuilt[visible], after[visible], rtol=0, atol=1e-12)


@pytest.mark.parametrize("pooler", EXACT)
def test_composed_record_rebuilds_the_second_pooling_from_the_tokens(tiny_model, pooler):
    """Check that the composed record rebuilds the second pooling from the first's input if layer 2 is an identity."""
    model = tiny_model(pooler=pooler)
    model.encoder.layers[1].forward = lambda x, **_: x
    out, seen = run(model, documents([64, 40, 7]))
    attention = torch.full((3, 4, out["encoder_out"][0].size(0)), 0.2, dtype=torch.float64)
    for row, record in enumerate(read_records(model.encoder, out, attention, [4, 3, 2])):
        assert [name for name, _ in record.stages] == ["after layer 1", "after layer 2"]
        for (_, stage), (_, after, mask) in zip(record.stages, seen):
            length = stage.slots.numel()
            batch = TokenRecord(stage.slots[None], stage.weights[None])
            rebuilt = pool_by_record(seen[0][0][row : row + 1, :length], batch, after.size(1))
            visible = torch.ones(after.size(1), dtype=torch.bool) if mask is None else ~mask[row]
            torch.testing.assert_close(rebuilt[0, visible], after[row, visible], rtol=0, atol=1e-12)


def test_records_have_lengths_and_attention_of_each_document(tiny_model):
    model = tiny_model()
    out, _ = run(model, documents([64, 9, 3]))
    attention = torch.rand(3, 4, 5, dtype=torch.float64).softmax(dim=2)
    records = read_records(model.encoder, out, attention, [4, 2, 3])
    sizes = [[(length.name, length.tokens) for length in record.lengths] for record in records]
    names = ("document", "after layer 1", "after layer 2")
    assert sizes == [list(zip(names, row)) for row in ((64, 12, 5), (9, 9, 5), (3, 3, 3))]
    assert [tuple(record.attention.shape) for record in records] == [(4, 5), (2, 5), (3, 5)]
    weights = records[0].source_weights(1, 3)
    assert weights.shape == (2, 64)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, dtype=torch.float64))
    slot = records[0].decoder.slots[7]
    assert weights[0, 7] == attention[0, 1, slot] * records[0].decoder.weights[7]


def test_decoder_record_is_the_identity_without_pooling_or_with_upsampling(tiny_model):
    for options in ({"pooling_schedule": ""}, {"pooler": "funnel"}):
        model = tiny_model(**options)
        out, _ = run(model, documents([20, 7]))
        attention = torch.rand(2, 3, 20, dtype=torch.float64)
        first, second = read_records(model.encoder, out, attention, [3, 3])
        assert first.decoder.slots.tolist() == list(range(20)) and second.decoder.weights.tolist() == [1.0] * 7
        torch.testing.assert_close(second.source_weights(), attention[1, :, :7])
        assert first.lengths[-1].tokens == 20
        assert (first.lengths[-1].name == "seen by the decoder") == (options.get("pooler") == "funnel")


def test_global_tokens_are_not_sources(tiny_model):
    model = tiny_model(attention="lsg", lsg_global_tokens=2)
    out, _ = run(model, documents([40]))
    attention = torch.rand(1, 3, 7, dtype=torch.float64).softmax(dim=2)
    (record,) = read_records(model.encoder, out, attention, [3])
    torch.testing.assert_close(record.attention, attention[0, :, 2:])
    torch.testing.assert_close(record.source_weights().sum(dim=1), attention[0, :, 2:].sum(dim=1))
    assert [length.tokens for length in record.lengths] == [40, 12, 5, 7]

    model = tiny_model(attention="lsg", lsg_no_global_to_decoder=True)
    out, _ = run(model, documents([40]))
    (record,) = read_records(model.encoder, out, attention[:, :, :5], [3])
    first = record.decoder.slots == 0
    assert first.any() and record.decoder.weights[first].abs().max() == 0 < record.decoder.weights[~first].min()
    model = tiny_model(attention="lsg", lsg_no_global_to_decoder=True, lsg_no_pool_with_global=True)
    out, _ = run(model, documents([40]))
    (record,) = read_records(model.encoder, out, attention[:, :, :5], [3])
    assert record.decoder.weights[record.decoder.slots == 0].max() > 0


FACTS = [
    ({}, True, "inside blocks of 4 vectors"),
    ({"pooler": "hard_topk"}, True, "Weights are those of the poolings"),
    ({"attention": "efficient"}, True, "to a digest of the whole document"),
    ({"pooling_schedule": ""}, False, "has no poolings"),
    ({"pooler": "mean_window"}, False, "no tokens are selected, tokens of a window have equal weight"),
    ({"pooler": "max_window"}, False, "not a weighted sum"),
    ({"pooler": "funnel"}, False, "one vector for every token"),
    ({"pooler": "funnel", "no_upsampling": True}, False, "no tokens are selected"),
    ({"pooler": "iterative_topk"}, False, "mixes every token into every vector"),
    ({"pooler": "sinkhorn_topk"}, False, "mixes every token into every vector"),
    ({"attention": "lsg"}, False, "also reads 1 global token, which may contain"),
    ({"attention": "lsg", "lsg_no_global_to_decoder": True}, False, "replaces the first vector"),
    ({"attention": "lsg", "lsg_no_global_to_decoder": True, "lsg_no_pool_with_global": True}, True, "sparse"),
]


@pytest.mark.parametrize("options, exact, note", FACTS)
def test_describe_says_whether_the_record_is_exact_and_why(tiny_model, options, exact, note):
    facts = describe([tiny_model(**options)], "tiny")
    assert facts.exact == exact and note in facts.note
    assert facts.pooler == (
        "none" if options.get("pooling_schedule") == "" else options.get("pooler", "successive_halving")
    )


@pytest.mark.parametrize("pooler", POOLERS.names())
def test_describe_is_exact_if_the_pooler_is(tiny_model, pooler):
    """Check it in evaluation; in training, noise may make it inexact."""
    model = tiny_model(pooler=pooler)
    kind = model.encoder.poolings["1"].pooler
    facts = describe([model], "tiny")
    assert facts.exact == (kind.exact_record and kind.uses_scores)
    assert (facts.scorer == "none") == (not kind.uses_scores)


def test_describe_lists_poolers_and_scorers_of_an_ensemble(tiny_model):
    facts = describe([tiny_model(), tiny_model(pooler="hard_topk", scorer="random"), tiny_model()], "tiny")
    assert facts.pooler == "successive_halving, hard_topk" and facts.scorer == "linear, random" and facts.exact
    assert "means over the 3 models" in facts.note
    assert not describe([tiny_model(), tiny_model(pooler="funnel")], "tiny").exact


def test_describe_says_which_models_can_copy(tiny_model):
    plain, pointing = tiny_model(), tiny_model(pointer=True)
    alone, mixed, none = (describe(models, "tiny") for models in ([pointing], [plain, pointing], [plain]))
    assert alone.points and mixed.points and not none.points
    assert "The model can copy words" in alone.note and alone.exact
    assert mixed.note.endswith("Only 1 of the models can copy; the others count as having copied nothing.")
