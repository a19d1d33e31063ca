"""Tests of generation: tokens and scores of fairseq's decoder, with documents read once for all hypotheses."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F
from fairseq.models.transformer import TransformerDecoderBase, TransformerEncoderBase
from fairseq.modules import MultiheadAttention
from fairseq.sequence_generator import SequenceGeneratorWithAlignment
from fairseq_cli import generate as generate_command
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.generation import (
    DOCUMENT_INDEX,
    cross_attention,
    plain_generation,
    regroup,
    repeated,
    set_plain_generation,
)
from pyramidion_fairseq.generation.decode_step import _joined_projections
from pyramidion_fairseq.generation.linear import HAS_ONEDNN, few_rows_linear
from pyramidion_fairseq.models import decoder
from tests.helpers.architectures import common, corpus, run, train_two_updates  # noqa: F401 -- a fixture
from tests.helpers.generation import CASES, EQUAL, MODELS, OPTIONS, RAGGED, STRATEGIES, assert_same, generate
from tests.helpers.models import make_dictionary
from tests.helpers.tensors import LargestTensor


class StockEncoder(nn.Module):
    """Wrap our encoder, so that fairseq repeats and reorders its output."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward_torchscript(self, net_input):
        return self.encoder.forward_torchscript(net_input)

    def reorder_encoder_out(self, encoder_out, new_order):
        return TransformerEncoderBase.reorder_encoder_out(self.encoder, encoder_out, new_order)


class StockModel(nn.Module):
    """Hold our model's weights in fairseq's own decoder."""

    def __init__(self, model):
        super().__init__()
        self.encoder = StockEncoder(model.encoder)
        self.decoder = TransformerDecoderBase(model.decoder.cfg, model.decoder.dictionary, model.decoder.embed_tokens)
        if model.decoder.embed_positions is None:
            self.decoder.embed_positions = None
        self.decoder.load_state_dict(model.decoder.state_dict(), assign=True)
        self.max_decoder_positions, self.get_normalized_probs = model.max_decoder_positions, model.get_normalized_probs


@pytest.mark.paper("claim-inference", "only-pooling-infers-faster")
@pytest.mark.parametrize("model, options, lengths", CASES)
def test_generation_equals_the_stock_decoder(confident_model, random_tokens, exact_softmax, model, options, lengths):
    model, options, tokens = confident_model(**MODELS[model]), OPTIONS[options], random_tokens(lengths)
    stock = generate([StockModel(model)], tokens, **options)
    assert_same(generate([model], tokens, **options), stock)
    with plain_generation(model):
        assert_same(generate([model], tokens, **options), stock)


def test_plain_generation_context_restores_the_previous_setting(confident_model):
    model, other = confident_model(), confident_model()
    set_plain_generation(other)
    with plain_generation(model, other):
        assert model.decoder.plain_generation and other.decoder.plain_generation
    assert not model.decoder.plain_generation and other.decoder.plain_generation


@pytest.mark.parametrize("options", [{}, {"decoder_embed_dim": 12}], ids=str)
def test_joined_projections_generate_the_same(confident_model, random_tokens, exact_softmax, monkeypatch, options):
    """Check one product for query, key and value, which GPUs use."""
    model, tokens = confident_model(**options), random_tokens(RAGGED)
    expected = generate([model], tokens, beam_size=3)
    used = []

    def start(own, *args, **kwargs):
        state = original(own, *args, **kwargs)
        assert state.projections is None  # on a CPU
        state.projections = [_joined_projections(layer.self_attn) for layer in own.layers]
        used.append(state)
        return state

    original = decoder.new_decoding_state
    monkeypatch.setattr(decoder, "new_decoding_state", start)
    assert_same(generate([model], tokens, beam_size=3), expected)
    assert used


def test_documents_that_finish_early_leave_the_batch_without_changing_others(
    confident_model, random_tokens, exact_softmax, monkeypatch
):
    """Check that rows become fewer, and that the other documents are summarised as by stock fairseq."""
    model, tokens, rows = confident_model(), random_tokens(RAGGED), []
    stock = generate([StockModel(model)], tokens, beam_size=5, max_len_b=28)
    forward = model.decoder.forward
    monkeypatch.setattr(
        model.decoder, "forward", lambda t, *args, **kw: rows.append(len(t)) or forward(t, *args, **kw)
    )
    assert_same(generate([model], tokens, beam_size=5, max_len_b=28), stock)
    assert len(set(rows)) > 2 and rows == sorted(rows, reverse=True)


@pytest.mark.parametrize("strategy, prefix", STRATEGIES.values(), ids=STRATEGIES)
def test_every_search_strategy_equals_the_stock_decoder(
    confident_model, random_tokens, exact_softmax, strategy, prefix
):
    model, tokens = confident_model(), random_tokens(RAGGED)
    results = []
    for candidate in (model, StockModel(model)):
        chosen = strategy(make_dictionary(40)) if strategy else None
        forced = None if prefix is None else torch.tensor(prefix)
        results.append(generate([candidate], tokens, chosen, forced, beam_size=4))
    assert_same(*results)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_ensembles_of_different_pooled_lengths_equal_plain_generation(
    confident_model, random_tokens, exact_softmax, options
):
    models = [confident_model(), confident_model(seed=3, pooling_schedule="2:7", decoder_layers=1)]
    tokens = random_tokens(RAGGED)
    ours = generate(models, tokens, **options)
    with plain_generation(*models):
        assert_same(ours, generate(models, tokens, **options))


@pytest.mark.parametrize("lengths", [EQUAL, RAGGED], ids=["equal", "ragged"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("model", ["pooled", "unpooled"])
def test_generation_in_float32_equals_the_stock_decoder(
    confident_model, random_tokens, monkeypatch, model, options, lengths
):
    """Check also few hypotheses on a CPU, where documents are read in chunks, here of three tokens."""
    monkeypatch.setattr(cross_attention, "CHUNK", 3)
    model, tokens = confident_model(**MODELS[model]).float(), random_tokens(lengths)
    ours = generate([model], tokens, **options)
    assert_same(ours, generate([StockModel(model)], tokens, **options), tolerance=1e-4)


def teacher_forced_steps(model, tokens, summary, dtype):
    """Return logits (2 B, t, V) of single steps, where the two hypotheses of a document change places."""
    model, logits = model.to(dtype), []
    swapped = torch.arange(2 * len(tokens)).view(-1, 2).flip(1).flatten()
    with torch.no_grad():
        out, state = model.encoder(tokens, None), {}
        out = model.encoder.reorder_encoder_out(out, torch.arange(len(tokens)).repeat_interleave(2))
        for step in range(summary.size(1)):
            if step:
                model.decoder.reorder_incremental_state_scripting(state, swapped)
                out = model.encoder.reorder_encoder_out(out, swapped)
            rows = summary[:, : step + 1].repeat_interleave(2, dim=0)
            logits.append(model.decoder(rows, out, incremental_state=state)[0][:, -1].double())
    return torch.stack(logits, dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_decoding_rounds_no_worse_than_the_stock_decoder(tiny_model, random_tokens, dtype):
    """Check errors against float64: at most twice those of fairseq's decoder in the same precision."""
    model = tiny_model(pooling_schedule="")  # half precision may decide near ties of scores otherwise
    tokens, summary = (
        random_tokens([20, 9]),
        torch.cat([torch.full((2, 1), 2), random_tokens([30, 30], seed=3)], dim=1),
    )
    exact = model(tokens, None, summary)[0].detach().repeat_interleave(2, dim=0)
    with plain_generation(model):
        stock = teacher_forced_steps(model, tokens, summary, dtype)
    ours = teacher_forced_steps(model.double(), tokens, summary, dtype)
    assert (ours - exact).abs().max() <= 2 * (stock - exact).abs().max()
    assert (ours - exact).square().mean() <= 4 * (stock - exact).square().mean()


def test_incremental_decoding_ignores_padding_in_summaries(tiny_model, random_tokens, exact_softmax):
    """Check that steps over given summaries of different lengths equal one pass over them."""
    model, tokens, summary = tiny_model(), random_tokens([30, 20]), random_tokens([9, 4], seed=2)
    with torch.no_grad():
        out, state = model.encoder(tokens, None), {}
        steps = [model.decoder(summary[:, : t + 1], out, incremental_state=state)[0] for t in range(summary.size(1))]
        whole = model(tokens, None, summary)[0]
    written = summary.ne(1)
    torch.testing.assert_close(torch.cat(steps, dim=1)[written], whole[written], atol=1e-12, rtol=0)


def test_teacher_forcing_on_shared_documents_equals_repeated_documents(tiny_model, random_tokens):
    model, tokens = tiny_model(), random_tokens([30, 20])
    summary = random_tokens([5] * 6, seed=1)
    order = torch.tensor([0, 0, 0, 1, 1, 1])
    shared = model.encoder.reorder_encoder_out(model.encoder(tokens, None), order)
    assert shared["encoder_out"][0].size(1) == 2 and repeated(shared)["encoder_out"][0].size(1) == 6
    torch.testing.assert_close(
        model.decoder(summary, shared)[0], model(tokens[order], None, summary)[0], atol=1e-12, rtol=0
    )


def test_chunked_cross_attention_is_used_for_few_float32_hypotheses_on_a_cpu():
    states = torch.zeros(2, 9, 4)
    assert type(cross_attention.cross_attention_of(states, 2)) is cross_attention.ChunkedCrossAttention
    for other, hypotheses in ((states, 8), (states.double(), 2), (states.bfloat16(), 2), (states.to("meta"), 2)):
        assert type(cross_attention.cross_attention_of(other, hypotheses)) is cross_attention.CrossAttention


@pytest.mark.parametrize("chunk, num_padding", [(512, 0), (4, 0), (5, 0), (3, 0), (7, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_chunked_cross_attention_equals_cross_attention(monkeypatch, chunk, num_padding, bias):
    """Check scores and sums of both ways, for all documents and for some of them."""
    monkeypatch.setattr(cross_attention, "CHUNK", chunk)
    torch.manual_seed(0)
    attention = MultiheadAttention(8, 2, bias=bias).double()
    tokens = 13 if num_padding else 12
    states, queries = (torch.randn(3, *shape, dtype=torch.float64) for shape in ((tokens, 8), (2, 4, 4)))
    plain, chunked = cross_attention.CrossAttention(tokens), cross_attention.ChunkedCrossAttention(tokens)
    assert chunked.num_padding == num_padding
    hidden = torch.zeros(3, 1, 1, tokens, dtype=torch.float64)
    hidden[1, ..., 4:] = -torch.inf
    padded = F.pad(hidden, (0, num_padding), value=-torch.inf)
    with torch.no_grad():
        pairs = [way.project(attention, states) for way in (plain, chunked)]
        scores = [way.scores(queries, keys)[..., :tokens] for way, (keys, _) in zip((plain, chunked), pairs)]
        torch.testing.assert_close(*scores, atol=1e-12, rtol=0)
        for rows in (slice(None), slice(1, 3)):
            expected = plain.attend(queries[rows], *(x[rows] for x in pairs[0]), hidden[rows])
            found = chunked.attend(queries[rows], *(x[rows] for x in pairs[1]), padded[rows])
            torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


ORDERS = {
    "repeated": ([0, 0, 1, 1, 2, 2], 3, None, None, 2),
    "not repeated": ([0, 1, 2], 3, None, None, 1),
    "selected": ([2, 2, 0], 3, None, [2, 2, 0], 1),
    "within documents": ([1, 1, 2, 3, 5, 5], 3, 2, None, 2),
    "a document left": ([1, 0, 5, 5], 3, 2, [0, 2], 2),
    "fewer hypotheses": ([1, 3, 4], 3, 2, None, 1),
    "as many rows as documents": ([2, 2], 2, 2, [1], 2),
    "across documents": ([0, 2, 3, 1], 2, 2, [0, 1, 1, 0], 1),
    "no multiple": ([0, 1, 2], 2, 2, [0, 0, 1], 1),
    "one row of two hypotheses": ([2], 2, 2, [1], 1),
    "as many rows as a multiple": ([0, 1, 3, 4], 3, 3, [0, 0, 1, 1], 1),
    "more hypotheses": ([0, 0, 1, 3, 2, 2], 2, 2, None, 3),
}


@pytest.mark.parametrize("order, documents, beam, remaining, size", ORDERS.values(), ids=ORDERS)
def test_regroup_finds_the_remaining_documents_and_the_beam(order, documents, beam, remaining, size):
    grouping = regroup(torch.tensor(order), documents, beam)
    found = grouping.remaining_documents
    assert (None if found is None else found.tolist(), grouping.beam) == (remaining, size)


def test_regroup_without_waiting_asserts_the_order_on_the_device():
    """Check the way of GPUs: orders with as many hypotheses are asserted on the device, others inspected."""
    assert regroup(torch.tensor([1, 1, 2, 3]), 2, 2, may_synchronise=False) == (None, 2)
    with pytest.raises(RuntimeError, match="moved from one document to another"):
        regroup(torch.tensor([0, 2, 3, 1]), 2, 2, may_synchronise=False)
    remaining, beam = regroup(torch.tensor([3, 2]), 2, 2, may_synchronise=False)
    assert remaining.tolist() == [1] and beam == 2


@pytest.mark.parametrize("name", ORDERS)
def test_reordering_keeps_the_document_and_history_of_each_row(tiny_model, random_tokens, exact_softmax, name):
    """Check any order, also those that no search of fairseq makes.

    Stock fairseq fails at some: if the number of rows does not change, it does not reorder the keys of documents.
    """
    order, documents, beam, _, _ = ORDERS[name]
    model, order = tiny_model(), torch.tensor(order)
    tokens, owners = random_tokens([30, 20, 9][:documents]), torch.arange(documents).repeat_interleave(beam or 1)
    rows = random_tokens([4] * len(owners), seed=1)
    with torch.no_grad():
        out, state = model.encoder(tokens, None), {}
        out = model.encoder.reorder_encoder_out(out, owners)
        for step in range(1, 8):
            logits = model.decoder(rows[:, :step], out, incremental_state=state)[0]
            if step == 3:
                model.decoder.reorder_incremental_state_scripting(state, order)
                out = model.encoder.reorder_encoder_out(out, order)
                rows = torch.cat([rows[order, :3], random_tokens([5] * len(order), seed=2)], dim=1)
    exact = model(tokens[owners[order]], None, rows[:, :7])[0][:, -1:]
    torch.testing.assert_close(logits, exact, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", [*ORDERS, "alternating documents"])
def test_fairseqs_path_reads_the_document_of_each_row(tiny_model, random_tokens, exact_softmax, name):
    """Check a whole pass and, with a hook, the first step of fairseq's own caches, which read the document index."""
    order, documents, beam, *_ = ORDERS.get(name, ([0, 2, 1, 3], 2, 2))
    model, order = tiny_model(), torch.tensor(order)
    tokens = random_tokens([30, 20, 9][:documents])
    document_of_row = torch.arange(documents).repeat_interleave(beam or 1)
    rows = random_tokens([4] * len(order), seed=1)
    model.decoder.layers[0].register_forward_hook(lambda *args: None)
    with torch.no_grad():
        out = model.encoder.reorder_encoder_out(model.encoder(tokens, None), document_of_row)
        out = model.encoder.reorder_encoder_out(out, order)
        whole = model.decoder(rows, out)[0]
        step = model.decoder(rows[:, :1], out, incremental_state={})[0]
    exact = model(tokens[document_of_row[order]], None, rows)[0]
    torch.testing.assert_close(whole, exact, atol=1e-12, rtol=0)
    torch.testing.assert_close(step, exact[:, :1], atol=1e-12, rtol=0)


def test_decoding_does_not_copy_documents_or_caches(tiny_model, random_tokens):
    """Check that no tensor of a step is larger than one cache, and that hypotheses share their documents."""
    model, beam = tiny_model(pooling_schedule="", decoder_layers=1, max_source_positions=128), 8
    with torch.no_grad():
        out, state = model.encoder(random_tokens([128, 128]), None), {}
        order = torch.arange(2).repeat_interleave(beam)
        shared = model.encoder.reorder_encoder_out(out, order)
        assert shared["encoder_out"][0].data_ptr() == out["encoder_out"][0].data_ptr()
        rows = torch.full((2 * beam, 31), 5)
        model.decoder(rows[:, :1], shared, incremental_state=state)
        with LargestTensor() as largest:
            for step in range(2, 31):
                order = torch.arange(2 * beam).view(2, beam).flip(1).flatten()
                model.decoder.reorder_incremental_state_scripting(state, order)
                shared = model.encoder.reorder_encoder_out(shared, order)
                model.decoder(rows[:, :step], shared, incremental_state=state)
    cache = model.decoder.get_incremental_state(state, "decoding").keys[0]
    assert largest.numel <= cache.numel() == 2 * beam * 64 * 8  # views of the cache are tensors, too
    assert shared["encoder_out"][0].data_ptr() == out["encoder_out"][0].data_ptr()


class Operations(TorchDispatchMode):
    """Record the names of all operations."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_a_step_selects_and_joins_nothing_per_layer(tiny_model, random_tokens):
    """Check that a step selects from one mask only, concatenates nothing, and lets the host read nothing."""
    counts = {}
    for layers in (1, 3):
        model = tiny_model(decoder_layers=layers)
        with torch.no_grad():
            out, state, order = model.encoder(random_tokens([64, 64]), None), {}, torch.tensor([0, 0, 1, 1])
            out = model.encoder.reorder_encoder_out(out, order)
            model.decoder(torch.full((4, 1), 5), out, incremental_state=state)
            with Operations() as operations:
                model.decoder.reorder_incremental_state_scripting(state, torch.tensor([1, 0, 3, 3]))
                model.decoder(torch.full((4, 2), 5), out, incremental_state=state)
        counts[layers] = operations.names
        assert operations.names.count("index_select") == 1 and "cat" not in operations.names
        assert not {"item", "_local_scalar_dense", "nonzero"} & set(operations.names)
    assert len(counts[3]) - len(counts[1]) <= 2 * 110


def test_finished_documents_are_removed_from_caches_and_encoder_output(tiny_model, random_tokens):
    model = tiny_model()
    with torch.no_grad():
        out, state = model.encoder(random_tokens([30, 20, 10]), None), {}
        out = model.encoder.reorder_encoder_out(out, torch.arange(3).repeat_interleave(2))
        model.decoder(torch.full((6, 1), 2), out, incremental_state=state)
        order = torch.tensor([1, 1, 4, 5])  # the second document is finished
        model.decoder.reorder_incremental_state_scripting(state, order)
        out = model.encoder.reorder_encoder_out(out, order)
    decoding = model.decoder.get_incremental_state(state, "decoding")
    assert decoding.rows == 4 and {len(t) for pair in decoding.document_keys_values for t in pair} == {2}
    assert {len(t) for t in (*decoding.keys, *decoding.values)} == {2}
    assert out["encoder_out"][0].size(1) == len(out["pooling_slots"][0]) == len(out["src_lengths"][0]) == 2
    assert out[DOCUMENT_INDEX][0].tolist() == [0, 0, 1, 1]


def test_caches_with_another_number_of_hypotheses_are_refused(tiny_model, random_tokens):
    model = tiny_model()
    with torch.no_grad():
        out, state = model.encoder(random_tokens([30, 20]), None), {}
        model.decoder(torch.full((2, 1), 2), out, incremental_state=state)
        with pytest.raises(PyramidionError, match="4 hypotheses, but the caches hold 2"):
            model.decoder(torch.full((4, 2), 2), out, incremental_state=state)


@pytest.mark.parametrize("layer", [0, 1])
def test_requested_attention_equals_plain_generation(tiny_model, random_tokens, exact_softmax, layer):
    model, tokens = tiny_model(), random_tokens([30, 20])
    results = []
    for plain in (False, True):
        with torch.no_grad(), plain_generation(model) if plain else contextlib.nullcontext():
            out, state = model.encoder(tokens, None), {}
            out = model.encoder.reorder_encoder_out(out, torch.tensor([0, 0, 1, 1]))
            rows = torch.tensor([[2, 5], [2, 6], [2, 7], [2, 8]])
            model.decoder(rows[:, :1], out, incremental_state=state)
            asked = model.decoder(rows, out, incremental_state=state, alignment_layer=layer, alignment_heads=1)
            results.append(asked[1]["attn"][0])
    assert results[0].shape == (4, 1, 5)
    torch.testing.assert_close(*results, atol=1e-7, rtol=0)  # fairseq rounds these to float32
    torch.testing.assert_close(results[0].sum(dim=2), torch.ones(4, 1, dtype=torch.float64))


@torch.no_grad()
@pytest.mark.parametrize("layer", [-1, 7])
def test_attention_of_a_layer_that_does_not_exist_is_none(tiny_model, random_tokens, layer):
    model, rows = tiny_model(pooling_schedule=""), torch.tensor([[2], [2]])
    out = model.encoder.reorder_encoder_out(model.encoder(random_tokens([9, 4]), None), torch.arange(2))
    for state in ({}, None):
        attention = model.decoder(rows, out, incremental_state=state, alignment_layer=layer)[1]["attn"]
        assert attention == [None]


def test_alignments_of_unpooled_models_equal_the_stock_decoder(confident_model, random_tokens, exact_softmax):
    model, tokens = confident_model(pooling_schedule=""), random_tokens(RAGGED)
    ours, stock = (
        generate([m], tokens, generator_class=SequenceGeneratorWithAlignment) for m in (model, StockModel(model))
    )
    for mine, theirs in zip(ours, stock):
        for a, b in zip(mine, theirs):
            torch.testing.assert_close(a["attention"], b["attention"])
            assert a["alignment"] == b["alignment"]


@pytest.mark.parametrize(
    "options", [{"pooling_schedule": ""}, {"pooler": "nugget_topk", "scorer_activation": "none"}], ids=str
)
def test_chunks_of_documents_that_need_padding_give_the_same_attention_and_summaries(
    confident_model, random_tokens, monkeypatch, options
):
    monkeypatch.setattr(cross_attention, "CHUNK", 3)
    model, tokens = confident_model(**options).float(), random_tokens(RAGGED)
    ours = generate([model], tokens, beam_size=3)
    with plain_generation(model):
        stock = generate([model], tokens, beam_size=3)
    assert_same(ours, stock, tolerance=1e-4)
    for mine, theirs in zip(ours, stock):
        for a, b in zip(mine, theirs):
            torch.testing.assert_close(a["attention"], b["attention"], rtol=0, atol=1e-4)


def test_make_generation_fast_without_attention_leaves_it_out(tiny_model, random_tokens):
    model = tiny_model(pooling_schedule="")
    assert generate([model], random_tokens(EQUAL))[0][0]["attention"].numel() > 0
    model.make_generation_fast_(need_attn=False)
    assert generate([model], random_tokens(EQUAL))[0][0]["attention"].numel() == 0


def retain_dropout(model):  # with probability 0 here, so that the tokens can be compared
    model.decoder.layers[0].dropout_module.apply_during_inference = True


def hook(model):
    model.decoder.layers[0].encoder_attn.register_forward_hook(lambda *args: None)


def wrap(model):
    model.decoder.output_projection = nn.Sequential(model.decoder.output_projection)


def hook_output(model):
    model.decoder.output_projection.register_forward_hook(lambda *args: None)


def scale_residuals(model):  # by 1
    model.decoder.layers[1].w_resid = nn.Parameter(torch.ones(8, dtype=model.decoder.embed_tokens.weight.dtype))


@pytest.mark.parametrize("change", [retain_dropout, hook, wrap, hook_output, scale_residuals])
def test_unsupported_changes_of_the_model_fall_back_to_fairseqs_decoder(
    confident_model, random_tokens, exact_softmax, monkeypatch, change
):
    model, tokens = confident_model(), random_tokens(RAGGED)
    fast = generate([model], tokens, beam_size=3)
    change(model)
    monkeypatch.setattr(decoder, "new_decoding_state", None)
    assert_same(generate([model], tokens, beam_size=3), fast)


@pytest.mark.parametrize(
    "change, reason",
    [
        (retain_dropout, "layer 1 of the decoder keeps its dropout in generation"),
        (hook, "layer 1 of the decoder is watched by hooks"),
        (wrap, "the output projection is of type Sequential"),
        (hook_output, "the output projection is watched by hooks"),
        (scale_residuals, "layer 2 of the decoder scales heads, attention, feed-forward or residuals"),
        (lambda model: model.train(), "the model is in training mode"),
    ],
)
def test_fallback_to_fairseqs_decoder_is_logged_once_with_its_reason(
    tiny_model, random_tokens, caplog, change, reason
):
    model, tokens = tiny_model(), random_tokens(EQUAL)
    generate([model], tokens)
    assert not caplog.records
    change(model)
    for _ in range(2):
        with torch.no_grad():
            state = {}
            model.decoder(tokens[:, :1], model.encoder(tokens, None), incremental_state=state)
    assert [record.message for record in caplog.records] == [
        f"summaries are written by fairseq's own, slower path: {reason}"
    ]


def test_before_step_is_called_on_both_paths_and_can_end_generation(tiny_model, random_tokens):
    model, tokens, steps = tiny_model(), random_tokens(EQUAL), []
    model.decoder.before_step = lambda: steps.append(1)
    generate([model], tokens, max_len_b=7, min_len=7)
    assert len(steps) == 8  # 7 tokens and </s>
    with plain_generation(model):
        generate([model], tokens, max_len_b=7, min_len=7)
    assert len(steps) == 16

    def stop():
        raise KeyError("stopped")

    model.decoder.before_step = stop
    with pytest.raises(KeyError, match="stopped"):
        generate([model], tokens)


def test_generation_does_not_change_the_state_dict(tiny_model, random_tokens):
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    generate([model], random_tokens(EQUAL))
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def hypotheses(stdout):
    """Return (document, score, text) of every hypothesis in the output of fairseq-generate."""
    lines = [line.split("\t") for line in stdout.splitlines() if line.startswith("H-")]
    assert lines
    return [(name, float(score), text) for name, score, text in lines]


def test_fairseq_generate_writes_the_same_with_plain_generation(monkeypatch, corpus, tmp_path):  # noqa: F811
    path = train_two_updates(monkeypatch, corpus, tmp_path, "transpooler_2k_512", "cpu")
    used, start = [], decoder.new_decoding_state
    monkeypatch.setattr(
        decoder, "new_decoding_state", lambda *args, **options: used.append(True) or start(*args, **options)
    )
    search = ["--path", path, "--beam", 3, "--nbest", 3, "--max-len-b", 9, "--no-repeat-ngram-size", 3]
    fast = run(monkeypatch, generate_command.cli_main, *common(corpus, "cpu"), *search)
    assert used
    used.clear()
    plain = run(monkeypatch, generate_command.cli_main, *common(corpus, "cpu"), *search, "--plain-generation")
    assert not used
    for (name, score, text), (*expected_name, expected_score, expected_text) in zip(
        hypotheses(fast), hypotheses(plain)
    ):
        assert [name] == expected_name and text == expected_text
        assert score == pytest.approx(expected_score, abs=1e-4)


@pytest.mark.parametrize("rows", [1, 3, 4, 16, 64, 65])
def test_few_rows_linear_equals_linear_and_follows_changed_weights(rows):
    torch.manual_seed(0)
    for bias in (True, False):
        layer, x = nn.Linear(24, 40, bias=bias), torch.randn(rows, 24)
        with torch.no_grad():
            exact = layer.double()(x.double())
            layer.float()
            assert (few_rows_linear(layer, x) - exact).abs().max() <= 2 * (layer(x) - exact).abs().max() + 1e-7
            layer.weight.data.mul_(2)  # like fairseq's optimisers, without a new version
            torch.testing.assert_close(few_rows_linear(layer, x), layer(x))
        assert few_rows_linear(layer, x).requires_grad


@pytest.mark.skipif(not HAS_ONEDNN, reason="no oneDNN in this torch")
def test_few_rows_linear_uses_onednn_for_float32_only():
    layer, x = nn.Linear(24, 40), torch.randn(8, 24)
    with torch.no_grad(), Operations() as operations:
        few_rows_linear(layer, x)
        few_rows_linear(layer.double(), x.double())
    assert operations.names.count("_linear_pointwise") == 1
