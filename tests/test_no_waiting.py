"""Tests that forward and backward never read a value from the device: tensors on "meta" have no values."""

from contextlib import nullcontext

import pytest
import torch

from pyramidion_fairseq.attention import ATTENTIONS
from pyramidion_fairseq.functional import move_padding_right
from pyramidion_fairseq.poolers import POOLERS
from pyramidion_fairseq.scorers import SCORERS
from tests.helpers import needs
from tests.helpers.models import distinct

VARIANTS = distinct(
    [{"attention": name} for name in ATTENTIONS.names()]
    + [{"scorer": name} for name in SCORERS.names()]
    + [{"pooler": name} for name in POOLERS.names()]
    + [{"checkpoint_activations": True}, {"pooling_schedule": ""}]
)


def run(model, tokens, summary, **lengths):
    model(tokens, None, summary, **lengths)[0].float().square().sum().backward()


@pytest.mark.parametrize("lengths", [None, [40, 13]], ids=str)  # test_launches.py has equal lengths
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_training_step_does_not_wait_for_the_device(tiny_model, monkeypatch, options, lengths):
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # "meta" has no autocast
    model = (
        tiny_model(attention_dropout=0.1, dropout=0.1, activation_dropout=0.1, **options).float().to("meta").train()
    )
    tokens, summary = (torch.zeros(2, n, dtype=torch.long, device="meta") for n in (40, 6))
    run(model, tokens, summary, document_lengths=lengths)
    assert all(p.grad is not None for p in model.parameters())


def test_meta_tensors_refuse_operations_that_wait():
    for wait in (lambda x: bool(x.any()), lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: x.tolist()):
        with pytest.raises((RuntimeError, NotImplementedError)):
            wait(torch.zeros(3, device="meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason=needs.A_GPU)
@pytest.mark.parametrize("lengths", [None, [40, 13]], ids=str)
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_training_step_does_not_wait_for_a_real_gpu(tiny_model, random_tokens, options, lengths):
    model = tiny_model(**options).float().cuda().train()
    tokens, summary = random_tokens([40, 13]).cuda(), torch.tensor([[2, 5, 6, 7]] * 2).cuda()
    run(model, tokens, summary, document_lengths=lengths)  # the first call may load kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        run(model, tokens, summary, document_lengths=lengths)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "options", [{"attention": "full"}, {}, {"pooler": "funnel"}, {"pooling_schedule": ""}], ids=str
)
def test_known_document_lengths_do_not_change_the_output(tiny_model, random_tokens, options):
    """Compare lengths given by the host, lengths that are counted, and the masked path of GPUs without lengths."""
    model, lengths = tiny_model(**options), [40, 40, 13, 4, 1]
    tokens, summary = random_tokens(lengths), torch.tensor([[2, 5, 6, 7]] * len(lengths))
    masked = tiny_model(**options)
    masked.encoder._right_pad = lambda tokens, lengths: (move_padding_right(tokens, 1), tokens.eq(1), None)
    expected = masked(tokens, None, summary)[0]
    for known in (None, lengths):
        torch.testing.assert_close(
            model(tokens, None, summary, document_lengths=known)[0], expected, rtol=0, atol=1e-6
        )
