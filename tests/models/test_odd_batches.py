"""Tests of unusual batches: each document gives the outputs that it gives alone."""

import pytest
import torch

LONG = {"max_source_positions": 8192, "pooling_schedule": "1:64,2:8", "encoder_layers": 3}
BATCHES = {
    "one of 8192 and many short": [8192] + [1, 2, 3, 5, 9, 17, 64] * 3,
    "all equal": [48] * 6,
    "all of one token": [1] * 5,
    "all as long as the pooling keeps": [64] * 3,
}


def summaries(count):
    """Return the decoder's inputs; the first summary is empty, with </s> as its only target."""
    rows = torch.tensor([[2, 5, 6, 7]] * count)
    rows[0, 1:] = 1
    return rows


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("attention", ["blockwise", "lsg"])
def test_documents_in_unusual_batches_give_the_same_logits_as_alone(tiny_model, random_tokens, name, attention):
    model, lengths = tiny_model(**LONG, attention=attention).float(), BATCHES[name]
    tokens, summary = random_tokens(lengths), summaries(len(lengths))
    together = model(tokens, None, summary)[0]
    for row in {0, 1, len(lengths) - 1}:
        alone = model(tokens[row : row + 1, : lengths[row]], None, summary[row : row + 1])[0]
        torch.testing.assert_close(together[row], alone[0], rtol=1e-4, atol=1e-4)
    model.train()
    out = model(tokens, None, summary)[0].float()
    target = torch.where(summary.eq(1), 1, summary.roll(-1, 1))
    target[:, -1] = 2
    target[0, 0] = 2  # the empty summary
    torch.nn.functional.cross_entropy(out.transpose(1, 2), target, ignore_index=1).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_document_of_padding_alone_does_not_change_others(tiny_model, random_tokens):
    model, tokens = tiny_model(), random_tokens([40, 7, 3])
    padded = torch.cat([tokens, torch.ones_like(tokens[:1])])
    summary = torch.tensor([[2, 5, 6]] * 4)
    expected, found = model(tokens, None, summary[:3])[0], model(padded, None, summary)[0]
    torch.testing.assert_close(found[:3], expected)
    assert found.isfinite().all()
    model.train()
    model(padded, None, summary)[0].square().mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_batch_of_padding_alone_gives_finite_outputs_and_gradients(tiny_model):
    model = tiny_model().train()
    out = model(torch.ones(2, 6, dtype=torch.long), None, torch.tensor([[2, 5]] * 2))[0]
    out.square().mean().backward()
    assert out.isfinite().all() and all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
