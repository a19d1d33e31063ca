"""What every registered attention promises; what it does in a model is tested in test_model.py."""

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
def test_a_document_is_read_by_itself(name, lengths, training):
    """Neither padding nor the document beside it change anything, whether or not the host knows the lengths."""
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
    if not training:  # what is drawn may depend on the shape of a batch
        found["alone"] = read(x[1:, : first + lengths[1]], None, lengths[1:])
    for case, states in found.items():
        torch.testing.assert_close(states, expected, rtol=0, atol=1e-12, msg=lambda text, case=case: f"{case}: {text}")


@pytest.mark.parametrize("lengths", [(23, 23), (23, 9), (4, 1)])
def test_column_sums_are_what_each_token_gives_to_all_outputs(name, lengths):
    """The output is linear in the values: its derivative by a token's value is the attention that it receives."""
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
