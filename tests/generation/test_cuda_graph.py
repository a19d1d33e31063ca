"""Tests of generation with CUDA graphs, on a CPU with a stand-in that records and replays operations.

A CUDA graph runs no Python: it repeats its operations on the addresses, and with the numbers, that they had when they
were captured. So does :class:`Replay`: a step that it replays correctly is replayed correctly by a CUDA graph, too.
"""

import pytest
import torch
from fairseq.sequence_generator import EnsembleModel

from pyramidion_fairseq.generation import cuda_graph, cuda_graphs, kv_cache, set_cuda_graphs
from pyramidion_fairseq.models import decoder
from tests.helpers import needs, recording
from tests.helpers.generation import CASES, EQUAL, MODELS, OPTIONS, RAGGED, assert_same, generate  # noqa: F401 -- two of them are fixtures
from tests.helpers.recording import Replay

replay = recording.replay  # a fixture

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason=needs.A_GPU)


def test_replay_repeats_recorded_operations_and_refuses_waits_of_the_host():
    counter, numbers = torch.zeros(()), torch.zeros(3)

    def function():
        counter.add_(1)
        return numbers.index_fill_(0, counter.long(), 7.0).clone()

    replayed = Replay(function)
    assert counter == 0 and not numbers.any()
    assert replayed.replay().tolist() == [0, 7, 0] and replayed.replay().tolist() == [0, 7, 7]
    with pytest.raises(AssertionError, match="makes the host wait"):
        Replay(lambda: float(counter.sum()))


@pytest.mark.parametrize("model, options, lengths", CASES)
def test_graphed_generation_gives_the_same_tokens_and_scores(
    confident_model, random_tokens, exact_softmax, replay, model, options, lengths
):
    model, options, tokens = confident_model(**MODELS[model]), OPTIONS[options], random_tokens(lengths)
    model.make_generation_fast_(need_attn=False)
    plain = generate([model], tokens, **options)
    assert not replay.made
    with cuda_graphs(model):
        recorded = generate([model], tokens, **options)
    assert_same(recorded, plain)
    longest = max(len(hypothesis["tokens"]) for document in plain for hypothesis in document)
    assert replay.made >= 1 and replay.replayed >= min(2, longest - 2)


def test_graphed_generation_supports_ensembles_and_finished_documents(
    confident_model, random_tokens, exact_softmax, replay
):
    models, tokens = [confident_model(seed) for seed in (0, 1)], random_tokens(RAGGED * 2)
    with cuda_graphs(*models):
        recorded = generate(models, tokens, beam_size=4, max_len_b=30)
    assert_same(recorded, generate(models, tokens, beam_size=4, max_len_b=30))


def test_graphs_are_reused_until_the_caches_move(tiny_model, random_tokens, replay):
    model = tiny_model()
    ensemble = EnsembleModel([model])
    with torch.no_grad(), cuda_graphs(model):
        out, states = model.encoder(random_tokens([30, 20, 10]), None), {}
        out = model.encoder.reorder_encoder_out(out, torch.arange(3).repeat_interleave(2))
        made = []
        for step in range(1, 12):
            model.decoder(torch.full((len(out["hypothesis_documents"][0]), step), 5), out, incremental_state=states)
            made.append(replay.made)
            order = torch.arange(6) if step < 9 else torch.arange(4)
            if step == 9:  # one document is finished
                out = model.encoder.reorder_encoder_out(out, order)
            model.decoder.reorder_incremental_state_scripting(states, order)
    assert ensemble.single_model is model
    # Caches grow at steps 1, 5 and 9, and step 10 has one document less: these steps are not replayed.
    assert made == [0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]
    assert replay.replayed == 11 - 4


@pytest.mark.parametrize("warm_up, made", [(1, 2), (2, 2), (3, 2), (4, 0)])
def test_no_graph_is_captured_where_caches_move_before_the_warm_up_ends(
    tiny_model, random_tokens, replay, monkeypatch, warm_up, made
):
    monkeypatch.setattr(cuda_graph, "WARM_UP", warm_up)
    model = tiny_model()
    with torch.no_grad(), cuda_graphs(model):
        out, states = model.encoder(random_tokens([30, 20]), None), {}
        for step in range(1, 9):  # caches grow at the first and the fifth
            model.decoder(torch.full((2, step), 5), out, incremental_state=states)
    assert replay.made == made and replay.replayed == 2 * (4 - warm_up)


def test_results_of_graphed_steps_are_not_overwritten_by_later_steps(tiny_model, random_tokens, replay):
    """Check that callers may keep what a step returns."""
    model = tiny_model()
    with torch.no_grad(), cuda_graphs(model):
        out, states, kept = model.encoder(random_tokens([30, 20]), None), {}, []
        for step in range(1, 5):
            tokens = torch.full((2, step), 4 + step)
            logits, extra = model.decoder(tokens, out, incremental_state=states)
            kept += [(x, x.clone()) for x in (logits, *extra["inner_states"])]
    assert replay.replayed and len(kept) == 4 * 4 and all(torch.equal(x, then) for x, then in kept)


def test_attention_can_be_requested_at_any_graphed_step(tiny_model, random_tokens, replay):
    results = []
    for record in (False, True):
        model = tiny_model()
        set_cuda_graphs(model, record)
        with torch.no_grad():
            out, states, found = model.encoder(random_tokens([30, 20]), None), {}, []
            for step in range(1, 5):
                layer = 0 if step == 3 else None
                tokens = torch.full((2, step), 5)
                logits, extra = model.decoder(tokens, out, incremental_state=states, alignment_layer=layer)
                found += [logits, *(weights for weights in extra["attn"] if weights is not None)]
        results.append(found)
    assert replay.replayed and len(results[0]) == 5
    for plain, recorded in zip(*results):
        torch.testing.assert_close(recorded, plain, atol=1e-12, rtol=0)


def test_replay_detects_a_step_that_reads_positions_counted_on_the_host(
    tiny_model, random_tokens, replay, monkeypatch
):
    """Check a step that reads as many positions as the host has counted, which is wrong when it is replayed."""
    monkeypatch.setattr(kv_cache.DecodingState, "num_read", property(lambda self: self.num_written))
    logits = []
    for record in (False, True):
        model = tiny_model()
        set_cuda_graphs(model, record)
        with torch.no_grad():
            out, states = model.encoder(random_tokens([30, 20]), None), {}
            for step in range(1, 5):
                tokens = torch.full((2, step), 4 + step)
                last = model.decoder(tokens, out, incremental_state=states)[0]
        logits.append(last)
    assert not torch.allclose(*logits, atol=1e-9)


def test_graphs_are_used_only_on_devices_that_support_them(tiny_model, random_tokens, monkeypatch):
    model = tiny_model()
    started, start = [], decoder.new_decoding_state
    monkeypatch.setattr(
        decoder, "new_decoding_state", lambda *args, **kw: started.append(kw["uses_cuda_graph"]) or start(*args, **kw)
    )
    with cuda_graphs(model):
        generate([model], random_tokens(EQUAL))
        assert started == [False]
        monkeypatch.setitem(cuda_graph.GRAPHS, "cpu", Replay)
        with torch.autocast("cpu", torch.bfloat16):
            assert not cuda_graph.supports_cuda_graphs(torch.zeros(1))
        assert cuda_graph.supports_cuda_graphs(torch.zeros(1))
    assert not model.decoder.cuda_graphs


@needs_gpu
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_cuda_graphs_on_a_gpu_give_the_same_tokens_and_scores(
    confident_model, random_tokens, exact_softmax, monkeypatch, model, options
):
    replay, replayed = cuda_graph.CudaGraph.replay, []
    monkeypatch.setattr(cuda_graph.CudaGraph, "replay", lambda self: replayed.append(1) or replay(self))
    model, tokens = confident_model(**model).cuda(), random_tokens(RAGGED).cuda()
    model.make_generation_fast_(need_attn=False)
    plain = generate([model], tokens, **options)
    assert not replayed
    with cuda_graphs(model):
        assert_same(generate([model], tokens, **options), plain)
    assert replayed
