"""Tests of reading documents in chunks: outputs and gradients equal those of whole documents."""

import pytest
import torch

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.scorers.linear import LinearScorer

CASES = [
    {},
    {"pooler": "hard_topk"},
    {"pooler": "nugget_topk", "scorer_activation": "none", "pooling_schedule": "1:30,2:12,3:5"},
    {"pooler": "threshold_topk"},
    {"pooler": "mean_window"},
    {"scorer": "attention_sum"},
    {"scorer": "index"},
    {"scorer": "random"},
    {"pooling_schedule": "2:7", "encoder_learned_pos": True, "layernorm_embedding": True},
    {"pooling_schedule": "1:30,2:12,3:5", "encoder_normalize_before": True, "pointer": True},
    {"pegasus_positions": True},
    {"max_source_positions": 20, "pooling_schedule": "2:7"},  # documents are longer than the table of positions
]


LSG = [
    {},
    {"lsg_sparsity_type": "pooling", "lsg_sparse_block_size": 12, "lsg_global_tokens": 3},
    {"lsg_sparsity_type": "bos_pooling", "checkpoint_activations": True},
    {"lsg_sparsity_type": "lsh", "pooling_schedule": ""},
    {"lsg_sparsity_type": "none", "encoder_normalize_before": True, "pooler": "sinkhorn_topk"},
    {"lsg_mask_first_token": True, "lsg_no_global_to_decoder": True, "pointer": True},
]


def encoded(model, tokens, summary):
    out = model.encoder(tokens)
    logits = model.decoder(summary, encoder_out=out)[0]
    record = [*out["pooling_slots"], *out["pooling_weights"], *out["copy_source"], *out["added_scores"]]
    return [logits, out["encoder_padding_mask"][0], *record]


@pytest.mark.parametrize("chunk, options", [(1, {}), (20, {}), *((8, options) for options in CASES)], ids=str)
def test_chunked_encoder_equals_the_whole_encoder(tiny_model, exact_softmax, random_tokens, options, chunk):
    """Check uneven lengths, padding, and chunks of 1, 2 and 5 blocks; in evaluation, and with all gradients."""
    check(tiny_model, random_tokens([50, 37, 6]), chunk, options)


@pytest.mark.parametrize("options", LSG, ids=str)
def test_chunked_lsg_encoder_equals_the_whole_encoder(tiny_model, exact_softmax, random_tokens, options):
    """Check LSG: a layer's global tokens read all, then chunks of 3 blocks read what they see beside them."""
    check(tiny_model, random_tokens([50, 37, 6]), 12, {"attention": "lsg", **options})


@pytest.mark.parametrize("attention", ["blockwise", "lsg"])
def test_chunked_encoder_under_autocast_rounds_no_worse_than_the_whole(tiny_model, random_tokens, attention):
    tokens = random_tokens([50, 37, 6])
    model = tiny_model(attention=attention, scorer="index", pooling_schedule="3:12").float()
    with torch.no_grad():
        exact = model.encoder(tokens)["encoder_out"][0]
        with torch.autocast("cpu", torch.bfloat16):
            whole = model.encoder(tokens)["encoder_out"][0].float()
            model.encoder.read_in_chunks(12)
            chunked = model.encoder(tokens)["encoder_out"][0].float()
    assert 0 < (chunked - exact).abs().max() < 2 * (whole - exact).abs().max()


def check(tiny_model, tokens, chunk, options):
    summary = torch.tensor([[2, 5, 6, 7]] * len(tokens))
    whole, chunked = tiny_model(**options), tiny_model(**options)
    chunked.encoder.read_in_chunks(chunk)
    with torch.no_grad():
        close(encoded(chunked, tokens, summary), encoded(whole, tokens, summary))
    for model in (whole, chunked):
        encoded(model, tokens, summary)[0].square().sum().backward()
    for (name, one), other in zip(chunked.named_parameters(), whole.parameters()):
        close(one.grad, other.grad, msg=lambda text, name=name: name + text)


def close(found, expected, **options):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, **options)  # some gradients exceed 10


def test_backward_pass_of_chunks_repeats_the_dropout_of_the_forward_pass(tiny_model, random_tokens):
    """Check a gradient with dropout against finite differences of the loss."""
    model = tiny_model(dropout=0.2, attention_dropout=0.2, activation_dropout=0.2).train()
    model.encoder.read_in_chunks(8)
    tokens, parameter = random_tokens([50]), model.encoder.layers[0].fc1.bias

    def loss():
        torch.manual_seed(0)
        return (model.encoder(tokens)["encoder_out"][0][:, 0] * torch.arange(40.0).view(5, 8)).sum()

    loss().backward()
    step = torch.zeros_like(parameter)
    step[3] = 1e-6
    with torch.no_grad():
        parameter += step
        above = loss()
        parameter -= 2 * step
        slope = (above - loss()) / 2e-6
    assert float(slope) == pytest.approx(float(parameter.grad[3]), rel=1e-4) != 0


def test_states_between_the_layers_are_those_of_whole_documents(tiny_model, random_tokens):
    whole, chunked = tiny_model(), tiny_model()
    chunked.encoder.read_in_chunks(8)
    tokens = random_tokens([50, 37])
    expected, found = (m.encoder(tokens, None, return_all_hiddens=True)["encoder_states"] for m in (whole, chunked))
    close(found, expected)
    assert [len(state) for state in found] == [50, 12, 5, 5]


def test_observers_see_the_poolings_of_chunks(tiny_model, random_tokens):
    tokens, seen = random_tokens([50, 37]), []
    for chunk in (0, 8):
        model = tiny_model()
        model.encoder.read_in_chunks(chunk)
        for pooling in model.encoder.poolings.values():
            pooling.on_pooled = lambda scores, mask, pooled: seen.append((scores, mask, pooled.slot_of_token))
        with torch.no_grad():
            model.encoder(tokens)
    assert len(seen) == 4
    for found, expected in zip(seen[2:], seen[:2]):
        close(found, expected)


def test_layers_read_one_chunk_at_a_time(tiny_model, random_tokens):
    """Check evaluation: two passes where scores must be known first, one where they do not depend on states."""
    widths = []

    def record(module, inputs, output):
        widths.append(inputs[0].size(1))

    tokens = random_tokens([50])
    for options, passes in (({}, 2), ({"scorer": "index"}, 1), ({"pooler": "mean_window"}, 1)):
        model = tiny_model(**options)
        model.encoder.read_in_chunks(20)
        model.encoder.layers[0].fc1.register_forward_hook(record)
        with torch.no_grad():
            model.encoder(tokens)
        assert widths == [20, 20, 10] * passes
        widths.clear()


@pytest.mark.parametrize(
    "options, tokens, message",
    [
        ({"attention": "full"}, 8, "--encoder-chunk-tokens 8: the attention of FullAttention is not local"),
        ({"attention": "lsg", "scorer": "attention_sum"}, 8, "attention_sum adds up the attention of all tokens"),
        ({"pooler": "boundary_chunk"}, 8, "BoundaryChunkPooler needs all tokens in one place"),
        ({"pooling_schedule": ""}, 8, "needs a --pooling-schedule"),
        ({}, -1, "--encoder-chunk-tokens -1 must be at least 1"),
    ],
    ids=str,
)
def test_options_that_do_not_support_chunks_are_refused(tiny_model, options, tokens, message):
    with pytest.raises(PyramidionError, match=message):
        tiny_model(**options).encoder.read_in_chunks(tokens)


def test_chunks_refuse_scorers_that_need_whole_documents(tiny_model, monkeypatch):
    """Check that LSG accepts them with chunks: only its layers read these, its poolings get whole documents."""
    monkeypatch.setattr(LinearScorer, "needs_whole_documents", True)
    with pytest.raises(PyramidionError, match="--encoder-chunk-tokens 8: LinearScorer rates a token by more than"):
        tiny_model().encoder.read_in_chunks(8)
    tiny_model(attention="lsg").encoder.read_in_chunks(8)
    for attention in ("blockwise", "lsg"):
        with pytest.raises(PyramidionError, match="--sequence-parallel 2: LinearScorer rates a token by more than"):
            tiny_model(attention=attention).encoder.check_sequence_parallel(2)
