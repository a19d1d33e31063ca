"""Tests that the teacher-forced pass gives the attention of beam search on the pooled vectors."""

import pytest
import torch

from pyramidion_fairseq.apps.explain.attention import read_summaries, recorded_encodings


def step_by_step(decoder, tokens, encoder_out, layer):
    """Return one layer's attention at each step of incremental decoding, as fairseq gives it: (1, t, k)."""
    state, rows = {}, []
    previous = torch.cat([torch.tensor([[2]]), tokens[:, :-1]], dim=1)
    for step in range(1, previous.size(1) + 1):
        _, extra = decoder(previous[:, :step], encoder_out=encoder_out, incremental_state=state, alignment_layer=layer)
        rows.append(extra["attn"][0])
    return torch.cat(rows, dim=1)


NUGGET = {"pooler": "nugget_topk", "scorer_activation": "none"}  # adds scores to the attention's logits


@pytest.mark.parametrize("options", [{}, {"pooling_schedule": ""}, {"attention": "lsg"}, NUGGET])
def test_cross_attention_equals_that_of_incremental_decoding(tiny_model, random_tokens, options):
    model = tiny_model(**options)
    documents, summaries = random_tokens([50, 23, 4]), random_tokens([9, 9, 6], seed=1)
    with torch.no_grad():
        batch = model.encoder(documents, None)
        together = read_summaries(model.decoder, summaries, batch, eos=2).attention
        torch.testing.assert_close(together.sum(dim=2), torch.ones_like(together[..., 0]))
        for row, length in enumerate([9, 9, 6]):
            alone = model.encoder.reorder_encoder_out(batch, torch.tensor([row]))
            layers = [step_by_step(model.decoder, summaries[row : row + 1, :length], alone, layer) for layer in (0, 1)]
            expected = (layers[0] + layers[1]) / 2  # fairseq's attention weights are float32 even in float64 models
            torch.testing.assert_close(together[row : row + 1, :length].double(), expected, rtol=0, atol=1e-6)
            last = read_summaries(model.decoder, summaries[row : row + 1, :length], alone, eos=2, layer=2).attention
            torch.testing.assert_close(last.double(), layers[1], rtol=0, atol=1e-6)
    assert (together - together[:, :1]).abs().max() > 1e-6  # it differs between the steps


@pytest.mark.parametrize("options", [{}, {"pointer": True}])
def test_small_budget_does_not_change_the_attention(tiny_model, random_tokens, monkeypatch, options):
    model = tiny_model(**options)
    documents, summaries = random_tokens([50, 23, 4]), random_tokens([9, 9, 6], seed=1)
    with torch.no_grad():
        batch = model.encoder(documents, None)
    whole = read_summaries(model.decoder, summaries, batch, eos=2).attention
    monkeypatch.setattr("pyramidion_fairseq.apps.explain.attention.BUDGET", 1)
    torch.testing.assert_close(
        read_summaries(model.decoder, summaries, batch, eos=2).attention, whole, rtol=0, atol=1e-6
    )
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.decoder.layers)


def test_padding_gets_no_attention(tiny_model, random_tokens):
    model = tiny_model()
    with torch.no_grad():
        batch = model.encoder(random_tokens([50, 3]), None)
    attention = read_summaries(model.decoder, random_tokens([9, 9]), batch, eos=2).attention
    assert attention[1, :, 3:].abs().max() == 0 and attention[1, :, :3].min() > 0


def test_encodings_are_recorded_without_a_second_pass(tiny_model, random_tokens):
    model, passes = tiny_model(), []
    model.encoder.layers[0].register_forward_pre_hook(lambda *_: passes.append(1))
    documents = random_tokens([50, 3])
    with recorded_encodings([model]) as encodings:
        out = model.encoder.forward_torchscript({"src_tokens": documents, "src_lengths": None})
    assert len(passes) == 1 and encodings[0]["encoder_out"][0] is out["encoder_out"][0]
    assert "forward" not in vars(model.encoder)
    with pytest.raises(RuntimeError, match="stop"), recorded_encodings([model]):
        raise RuntimeError("stop")
    assert "forward" not in vars(model.encoder)
