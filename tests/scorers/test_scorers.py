"""Tests of each scorer against its formula (paper, Appendix A)."""

import math
from argparse import Namespace

import pytest
import torch

from pyramidion_fairseq.config import PyramidionConfig, complete
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.scorers import EPSILON, SCORERS, TokenScorer
from pyramidion_fairseq.scorers.attention_sum import AttentionSumScorer
from pyramidion_fairseq.scorers.embedding import EmbeddingScorer
from pyramidion_fairseq.scorers.index import IndexScorer
from pyramidion_fairseq.scorers.linear import LinearScorer
from pyramidion_fairseq.scorers.nonlinear import NonlinearScorer
from pyramidion_fairseq.scorers.random import RandomScorer, hashed_uniform

X = torch.randn(2, 9, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MASK = torch.arange(9) >= torch.tensor([[9], [4]])


@pytest.mark.paper("eq-1", "linear-best", "scorer-linear", "scorer-embedding")
@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_linear_nonlinear_and_embedding_scorers_match_their_formulas(activation):
    def expected(rating):
        return rating if activation == "none" else 1 / (1 + math.exp(-rating)) + EPSILON

    linear = LinearScorer(6, activation).double()
    nonlinear = NonlinearScorer(6, activation).double()
    embedding = EmbeddingScorer(6, 4, activation)
    w, b = linear.proj.weight[0].tolist(), linear.proj.bias.item()
    w1, b1 = nonlinear.dense.weight.tolist(), nonlinear.dense.bias.tolist()
    w2, b2 = nonlinear.proj.weight[0].tolist(), nonlinear.proj.bias.item()
    for document in range(2):
        for token in range(9):
            e = X[document, token].tolist()
            hidden = [math.tanh(sum(a * c for a, c in zip(row, e)) + bias) for row, bias in zip(w1, b1)]
            for scorer, rating in (
                (linear, sum(a * c for a, c in zip(w, e)) + b),
                (nonlinear, sum(a * c for a, c in zip(w2, hidden)) + b2),
                (embedding, e[4]),
            ):
                assert scorer(X)[document, token].item() == pytest.approx(expected(rating), abs=1e-12)


@pytest.mark.paper("scorer-nonlinear")
def test_nonlinear_scorer_has_the_parameters_of_a_roberta_head():
    shapes = {name: tuple(p.shape) for name, p in NonlinearScorer(6).named_parameters()}
    assert shapes == {"dense.weight": (6, 6), "dense.bias": (6,), "proj.weight": (1, 6), "proj.bias": (1,)}


@pytest.mark.paper("scorer-index")
@pytest.mark.parametrize("stride", [1, 3, 4, 100])
def test_index_scorer_counts_from_the_start_of_the_document(stride):
    scorer = IndexScorer(stride)
    assert scorer(X)[0].tolist() == [float(i % stride == 0) for i in range(9)]
    moved = torch.tensor([[True] * 5 + [False] * 4])
    assert scorer(X[:1], moved)[0, 5:].tolist() == [float(i % stride == 0) for i in range(4)]


@pytest.mark.paper("scorer-index")
def test_index_scorer_with_stride_4_selects_a_quarter_of_the_tokens():
    assert IndexScorer(4)(torch.zeros(1, 2048, 1)).sum() == 512


@pytest.mark.paper("scorer-random")
def test_random_scorer_is_uniform_and_fixed_only_in_evaluation():
    scorer, x = RandomScorer(), torch.zeros(1, 20_000, 1)
    torch.manual_seed(0)
    assert not torch.equal(scorer(x), scorer(x))
    scorer.eval()
    scores = scorer(x)
    assert torch.equal(scores, scorer(x))
    counts = scores.histc(bins=20, min=0, max=1)
    assert ((counts - 1000).square() / 1000).sum() < 43.8  # chi-squared, 19 degrees of freedom, p = 0.001
    lag = torch.corrcoef(torch.stack([scores[0, :-1], scores[0, 1:]]))[0, 1]
    assert lag.abs() < 0.02 and scores.min() >= 0 and scores.max() < 1


def test_hashed_uniform_matches_its_formula():
    def one(position):
        h = (position + 1) & 0xFFFFFFFF
        h = ((h ^ (h >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        h = ((h ^ (h >> 15)) * 0x846CA68B) & 0xFFFFFFFF
        return ((h ^ (h >> 16)) >> 8) / 2**24

    positions = torch.tensor([0, 1, 2, 8191, 10**6])
    assert hashed_uniform(positions).tolist() == [one(p) for p in positions.tolist()]


def test_attention_sum_scorer_maps_attention_to_odds_and_keeps_its_order():
    received = torch.tensor([[8.0, 0.0, 24.0, 0.8]])
    scores = AttentionSumScorer(heads=8)(X[:1, :4].float(), None, received)
    torch.testing.assert_close(scores, torch.tensor([[0.5, 0.0, 0.75, 0.1 / 1.1]]))
    many = torch.rand(1, 5000, dtype=torch.float64) * 500
    order = AttentionSumScorer(heads=8)(torch.zeros(1, 5000, 1, dtype=torch.float64), None, many)
    assert torch.equal(order.argsort(), many.argsort())


def test_scorers_are_built_with_the_chosen_options():
    chosen = {"encoder_attention_heads": 4, "decoder_attention_heads": 2, "index_stride": 3, "embedding_coordinate": 5}
    cfg = complete(Namespace(**{**vars(PyramidionConfig()), **chosen}))
    assert SCORERS.build("attention_sum", cfg).heads == 4
    assert SCORERS.build("index", cfg).stride == 3
    assert SCORERS.build("embedding", cfg).coordinate == 5


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: IndexScorer(0), "--index-stride must be at least 1, got 0"),
        (lambda: EmbeddingScorer(6, 6), r"--embedding-coordinate must be below --encoder-embed-dim \(6\)"),
        (lambda: EmbeddingScorer(6, -1), "not negative, got -1"),
    ],
)
def test_invalid_options_are_named_in_the_error(build, message):
    with pytest.raises(PyramidionError, match=message):
        build()


@pytest.mark.parametrize("activation", ["sigmoid", "none"])
@pytest.mark.parametrize(
    "rate",
    [
        lambda x: x.mean(dim=2, keepdim=True),
        lambda x: x.mean(dim=(1, 2)),
        lambda x: x.mean(dim=(1, 2)).unsqueeze(1),
        lambda x: x[:, :, 0] > 0,
        lambda x: x[:, :, 0].bfloat16(),
    ],
)
def test_ratings_of_another_shape_or_dtype_are_refused(rate, activation):
    """Check what a pooling would not notice for short documents, which pass it unchanged."""

    class Wrong(TokenScorer):
        def rate(self, x, padding_mask, attention=None):
            return rate(x)

    with pytest.raises(ValueError, match=r"^Wrong.rate must return float32 or float64 of shape \(2, 9\), got torch"):
        Wrong(activation)(X, MASK)
