"""What every registered scorer promises."""

from argparse import Namespace

import pytest
import torch

from pyramidion_fairseq.config import PyramidionConfig, complete
from pyramidion_fairseq.scorers import SCORERS

pytestmark = pytest.mark.parametrize("name", SCORERS.names())


def build(name, **options):
    torch.manual_seed(0)
    cfg = complete(Namespace(**{**vars(PyramidionConfig()), "encoder_embed_dim": 8, "scorer": name, **options}))
    return SCORERS.build(name, cfg)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_scores_are_finite_and_not_in_half_precision(name, dtype):
    scores = build(name).to(dtype)(torch.randn(2, 5, 8, dtype=dtype), None)
    assert scores.shape == (2, 5) and scores.isfinite().all()
    assert scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_scores_suit_the_peaked_softmax(name):
    scores = build(name)(100 * torch.randn(4, 50, 8), None)
    assert scores.min() >= 0 and scores.max() <= 1 + 1.1e-5


def test_autocast_does_not_round_scores(name):
    scorer, x = build(name), torch.randn(2, 5, 8)
    torch.manual_seed(1)
    plain = scorer(x, None)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(scorer(x, None), plain)


def test_padding_does_not_change_other_scores(name):
    scorer, x = build(name).eval(), torch.randn(2, 9, 8)
    mask = torch.arange(9) >= torch.tensor([[9], [4]])
    other = torch.where(mask.unsqueeze(-1), torch.randn(2, 9, 8), x)
    torch.manual_seed(1)
    first = scorer(x, mask)
    torch.manual_seed(1)
    assert torch.equal(first[~mask], scorer(other, mask)[~mask])


def test_every_parameter_gets_a_gradient(name):
    scorer = build(name)
    if list(scorer.parameters()):
        scorer(torch.randn(2, 5, 8), None).sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in scorer.parameters())
