"""Contract tests of every registered attention; test_model.py tests them in a model."""

from argparse import Namespace

import pytest
import torch

from pyramidion_fairseq.attention import ATTENTIONS
from pyramidion_fairseq.config import complete
from tests.helpers.models import TINY

pytestmark = pytest.mark.parametrize("name", ATTENTIONS.names())


def build(name):
    torch.manual_seed(0)
    return ATTENTIONS.build(name, complete(Namespace(**{**TINY, "attention": name}))).double().eval()


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(23, 9), (9, 4), (4, 1)])
@pytest.mark.parametrize("training", [False, True])
def test_padding_and_other_documents_do_not_change_the_attention(name, lengths, training):
    """Check a document with other padding and neighbours, alone, and without lengths from the host."""
    attention = build(name).train(training)
    first = attention.num_globals(complete(Namespace(**{**TINY, "attention": name})))
    x = torch.randn(2, first + max(lengths), 8, dtype=torch.float64)
    mask = torch.arange(x.size(1)) >= first + torch.tensor(lengths).unsqueeze(1)
    other = torch.where(mask.unsqueeze(2), torch.randn_like(x), x)
    other[0] = torch.randn_like(x[0])

    def read(x, padding_mask, document_lengths):
        torch.manual_seed(1)
        return attention.attend(*attention.project(x), padding_mask, document_lengths)[-1, : first + lengths[1]]

    expected = read(x, mask, lengths)
    found = {"lengths not known": read(x, mask, None), "others beside it": read(other, mask, lengths)}
    if not training:  # random numbers may depend on the shape of a batch
        found["alone"] = read(x[1:, : first + lengths[1]], None, lengths[1:])
    for case, states in found.items():
        torch.testing.assert_close(states, expected, rtol=0, atol=1e-12, msg=lambda text, case=case: f"{case}: {text}")


@pytest.mark.parametrize("lengths", [(23, 23), (23, 9), (4, 1)])
def test_column_sums_equal_the_attention_that_each_token_receives(name, lengths):
    """Check by derivatives: the output is linear in the values, with the attention as coefficients."""
    attention = build(name)
    if not attention.has_column_sums:
        with pytest.raises(NotImplementedError):
            attention.column_sums(*torch.zeros(2, 1, 4, 8), None)
        return
    first = attention.num_globals(complete(Namespace(**{**TINY, "attention": name})))
    x = torch.randn(2, first + max(lengths), 8, dtype=torch.float64)
    mask = torch.arange(x.size(1)) >= first + torch.tensor(lengths).unsqueeze(1)
    padding_mask = mask if mask.any() else None
    query, key, value = (part.detach() for part in attention.project(x))
    value.requires_grad_()
    out = attention.attend(query, key, value, padding_mask)
    (given,) = torch.autograd.grad(out.unflatten(2, (2, 4))[~mask][..., 0].sum(), value)
    sums = attention.column_sums(query, key, padding_mask)
    torch.testing.assert_close(sums, given.unflatten(2, (2, 4))[..., 0].sum(dim=2), rtol=0, atol=1e-12)
    assert sums[mask].abs().sum() == 0
    torch.testing.assert_close(sums.sum(dim=1), 2 * (first + torch.tensor(lengths)).double())
