"""Contract tests of every registered scorer."""

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


def score(scorer, x, mask=None):
    """Return scores; a scorer that needs attention gets column sums that grow along each document."""
    if not scorer.needs_attention:
        return scorer(x, mask)
    valid = torch.ones(x.shape[:2]) if mask is None else (~mask).float()
    return scorer(x, mask, 8 * valid * torch.linspace(0.01, 5, x.size(1)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_scores_are_finite_and_at_least_float32(name, dtype):
    x = torch.randn(2, 5, 8, dtype=dtype)
    x[0, 1] = 0  # a vector without a direction
    scores = score(build(name).to(dtype), x)
    assert scores.shape == (2, 5) and scores.isfinite().all()
    assert scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_scores_lie_between_0_and_1(name):
    scores = score(build(name), 100 * torch.randn(4, 50, 8))
    assert scores.min() >= 0 and scores.max() <= 1 + 1.1e-5


def test_scorer_activation_none_applies_unless_the_scorer_is_bounded(name):
    scorer = build(name, scorer_activation="none")
    assert scorer.bounded or scorer.activation == "none"


def test_autocast_does_not_change_scores(name):
    scorer, x = build(name), torch.randn(2, 5, 8)
    torch.manual_seed(1)
    plain = score(scorer, x)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(score(scorer, x), plain)


@pytest.mark.parametrize("training", [False, True])
def test_padding_and_other_documents_do_not_change_scores(name, training):
    scorer, x = build(name).train(training), torch.randn(2, 9, 8)
    mask = torch.arange(9) >= torch.tensor([[9], [4]])
    other = torch.where(mask.unsqueeze(-1), torch.randn(2, 9, 8), x)
    torch.manual_seed(1)
    first = score(scorer, x, mask)
    torch.manual_seed(1)
    assert torch.equal(first[~mask], score(scorer, other, mask)[~mask])
    other[0] = torch.randn(9, 8)  # nor does the other document of the batch
    torch.manual_seed(1)
    assert torch.equal(first[1, :4], score(scorer, other, mask)[1, :4])


@pytest.mark.paper("eq-1")
def test_every_parameter_gets_a_gradient(name):
    scorer = build(name)
    if list(scorer.parameters()):
        score(scorer, torch.randn(2, 5, 8)).sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in scorer.parameters())


def test_evaluation_is_deterministic_and_independent_of_the_batch(name):
    scorer, x = build(name).eval(), torch.randn(3, 9, 8)
    mask = torch.arange(9) >= torch.tensor([[9], [4], [4]])
    first = score(scorer, x, mask)
    assert torch.equal(score(scorer, x, mask), first)
    if not scorer.needs_attention:  # others depend on the attention: tests/attention/test_attention.py
        torch.testing.assert_close(score(scorer, x[1:2, :4])[0], first[1, :4], rtol=0, atol=1e-6)
        left = torch.cat([torch.randn(1, 5, 8), x[1:2, :4]], dim=1)
        on_the_left = score(scorer, left, torch.arange(9).unsqueeze(0) < 5)
        torch.testing.assert_close(on_the_left[0, 5:], first[1, :4], rtol=0, atol=1e-6)


def test_scorer_that_needs_attention_refuses_to_score_without(name):
    scorer = build(name)
    if scorer.needs_attention:
        with pytest.raises(ValueError, match="needs the attention"):
            scorer(torch.randn(1, 3, 8))
    else:
        assert scorer(torch.randn(1, 3, 8), None, None).shape == (1, 3)
