"""Tests of the model beyond tests/contracts: fairseq's own weights, recomputation, positions."""

from argparse import Namespace

import pytest
import torch
from fairseq.models.transformer import TransformerConfig, TransformerModelBase

from pyramidion_fairseq.attention import ATTENTIONS
from tests.helpers.models import TINY


def test_stock_transformer_weights_load_and_give_the_same_logits(dictionary, tiny_model, random_tokens):
    """Check that the model with full attention and decoder positions is fairseq's Transformer."""
    torch.manual_seed(3)
    cfg = TransformerConfig.from_namespace(Namespace(**TINY, decoder_input_dim=8, decoder_output_dim=8))
    task = Namespace(source_dictionary=dictionary, target_dictionary=dictionary)
    stock = TransformerModelBase.build_model(cfg, task).double().eval()
    ours = tiny_model(attention="full", pooling_schedule="", decoder_positions=True)
    ours.load_state_dict(stock.state_dict(), strict=True)
    tokens, summary = random_tokens([30, 12, 1]), torch.tensor([[2, 5, 6, 7]] * 3)
    expected = stock(tokens, None, summary)[0]
    torch.testing.assert_close(ours(tokens, None, summary)[0], expected, rtol=0, atol=1e-5)  # float32 softmax


@pytest.mark.parametrize("attention", ATTENTIONS.names())
def test_checkpoint_activations_gives_the_same_gradients(tiny_model, random_tokens, attention):
    """Check every attention, also those that draw random numbers in training."""
    tokens, summary = random_tokens([50, 12]), torch.tensor([[2, 5, 6, 7]] * 2)
    grads = []
    for checkpoint in (False, True):
        options = {"attention": attention, "lsg_sparsity_type": "lsh", "attention_dropout": 0.1}
        model = tiny_model(checkpoint_activations=checkpoint, **options).train()
        torch.manual_seed(1)
        model(tokens, None, summary)[0].square().sum().backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=0, atol=1e-12)


@pytest.mark.paper("no-relative-positions", "hp-positions")
def test_encoder_positions_count_from_the_start_of_the_document(tiny_model):
    """Check that two equal blocks get different states, as their positions differ (Appendix C.1)."""
    model = tiny_model(pooling_schedule="")
    states = model.encoder(torch.tensor([[5, 6, 7, 8, 5, 6, 7, 8]]), None)["encoder_out"][0]
    assert (states[:4] - states[4:]).abs().max() > 0.1
    model.encoder.embed_positions = None
    states = model.encoder(torch.tensor([[5, 6, 7, 8, 5, 6, 7, 8]]), None)["encoder_out"][0]
    torch.testing.assert_close(states[:4], states[4:], rtol=0, atol=1e-12)


@pytest.mark.paper("fig-2")
def test_encoder_output_keeps_no_full_length_states_by_default(tiny_model, random_tokens):
    model, tokens = tiny_model(), random_tokens([50])
    assert model.encoder(tokens, None)["encoder_embedding"] == [] == model.encoder(tokens, None)["encoder_states"]
    lengths = [state.size(0) for state in model.encoder(tokens, None, return_all_hiddens=True)["encoder_states"]]
    assert lengths == [50, 12, 5, 5]


@pytest.mark.paper("long-inputs")
def test_encoder_accepts_documents_above_max_source_positions(tiny_model, random_tokens):
    """Check that the encoder has no limit: the task truncates documents, and sinusoidal positions grow."""
    assert tiny_model().encoder(random_tokens([3000]), None)["encoder_out"][0].shape == (5, 1, 8)
