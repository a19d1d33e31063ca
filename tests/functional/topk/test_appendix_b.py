"""Tests of Appendix B of the paper: its equations, gradients, ties and numbers of operations."""

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.utils._python_dispatch import TorchDispatchMode

from pyramidion_fairseq.functional import iterative_topk, successive_halving_topk
from pyramidion_fairseq.functional.reference import topk as reference
from pyramidion_fairseq.functional.topk.tournament_torch import tournament_torch
from tests.helpers.topk import random_case

pytestmark = pytest.mark.usefixtures("both_ways")
AS_PRINTED = {"base": None, "preserve_order": False}


def halve(embeddings, scores):
    """Apply C of Equation 5 to one document: merge the pairs (i, n + 1 - i) without sorting."""
    length = len(scores)
    pooled = successive_halving_topk(embeddings[None], scores[None], length // 2, sort=False, **AS_PRINTED)
    return pooled.embeddings[0], pooled.scores[0]


@pytest.mark.paper("eq-11", "eq-12")
@pytest.mark.parametrize("length", [2, 8, 14])
def test_derivatives_of_a_round_match_equations_11_and_12(length):
    embeddings, scores, _ = random_case(1, length, 3, seed=length)
    x, v = embeddings[0].detach(), scores[0].detach() * 6 - 3  # so far apart that some derivatives are negative
    of_x = jacobian(lambda x: halve(x, v)[0].sum(dim=1), x)  # (m, n, d), the same in every coordinate
    of_v = jacobian(lambda v: halve(x, v)[1], v)
    expected_x, expected_v = torch.zeros(length // 2, length), torch.zeros(length // 2, length)
    e = v.exp()
    for i in range(length // 2):
        for j, other in ((i, length - 1 - i), (length - 1 - i, i)):
            both = e[j] + e[other]
            expected_x[i, j] = e[j] / both
            expected_v[i, j] = e[j] * (e[other] * (v[j] - v[other]) + both) / both**2
    for coordinate in range(3):
        torch.testing.assert_close(of_x[:, :, coordinate], expected_x.double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(of_v, expected_v.double(), rtol=0, atol=1e-6)
    assert (of_v.max(dim=1).values > 0).all()  # positive for at least one of each pair
    assert torch.linalg.matrix_rank(of_v) == length // 2
    assert (jacobian(lambda x: halve(x, v)[1], x) == 0).all()  # du / dx = 0


@pytest.mark.paper("eq-5")
def test_a_round_matches_equations_5_and_6():
    embeddings, scores, _ = random_case(1, 10, 4, seed=0)
    y, _ = halve(embeddings[0], scores[0])
    for i in range(5):
        w = scores[0, i].exp() / (scores[0, i].exp() + scores[0, 9 - i].exp())
        torch.testing.assert_close(y[i], w * embeddings[0, i] + (1 - w) * embeddings[0, 9 - i])


def gradient(scores, embeddings, base):
    """Return the gradient, by the scores, of a fixed weighted sum of the slots in the order of their scores."""
    scores = torch.tensor([scores], dtype=torch.float64, requires_grad=True)
    k = scores.size(1) // 2
    pooled = successive_halving_topk(embeddings, scores, k, base=base, preserve_order=False)
    weights = torch.arange(1.0, 1 + pooled.embeddings.numel(), dtype=torch.float64).view_as(pooled.embeddings)
    return torch.autograd.grad((pooled.embeddings * weights).sum(), scores)[0]


@pytest.mark.paper("eq-7")
@pytest.mark.parametrize("base", [None, 20.0])
def test_gradient_is_continuous_at_ties_within_a_pair_and_jumps_across_pairs(base):
    """Check B.3: exchanging the two of a pair changes nothing, so that n! regions become 2^(-n/2) n!."""
    embeddings, _, _ = random_case(1, 6, 2, seed=1)
    ranks = [0.9, 0.7, 0.5, 0.4, 0.3, 0.1]  # pairs: 1 and 6, 2 and 5, 3 and 4
    step = 1e-7

    def jump(first, second):
        """Return how much the gradient changes where the second score overtakes the first."""
        sides = []
        for sign in (step, -step):
            scores = list(ranks)
            scores[first] = scores[second] = (ranks[first] + ranks[second]) / 2
            scores[first] += sign
            sides.append(gradient(scores, embeddings, base))
        return (sides[0] - sides[1]).abs().max().item()

    assert jump(2, 3) < 1e-4
    assert min(jump(0, 1), jump(1, 2), jump(3, 4)) > 0.01


@pytest.mark.paper("b2-pair-softmax", "b2-monotone", "b2-noise")
@pytest.mark.parametrize("base", [None, 20.0])
def test_higher_score_of_a_pair_gets_at_least_half_of_the_weight(base):
    """Check B.2, and that weights grow with the scores (section 4), as the pairs (i, n + 1 - i) are sorted."""
    _, scores, _ = random_case(4, 64, 1, seed=2)
    pooled = successive_halving_topk(torch.zeros(4, 64, 1), scores, 32, base=base)
    by_score = pooled.weights.gather(1, scores.argsort(dim=1, descending=True))
    assert (by_score[:, :32] >= 0.5).all() and (by_score[:, 32:] <= 0.5).all()
    assert (by_score.diff(dim=1) <= 1e-12).all()


class Exponentials(TorchDispatchMode):
    """Count the elements of which an exponential is taken."""

    names = ("exp.default", "_softmax.default", "sigmoid.default", "pow.Scalar")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if str(func).removeprefix("aten.") in self.names:
            self.count += out.numel()
        return out


def exponentials(call):
    with Exponentials() as counted, torch.no_grad():
        call()
    return counted.count


@pytest.mark.paper("b2-exponentials")
@pytest.mark.parametrize("length, k", [(64, 32), (256, 8), (1024, 1)])
def test_successive_halving_takes_at_most_2n_exponentials(length, k):
    """Check B.2 for softmaxes over pairs; the peaked softmax also takes base**score of every candidate."""
    embeddings, scores, _ = random_case(1, length, 1, seed=0)
    plain = exponentials(lambda: reference.algorithm_1(embeddings, scores, k, base=None))
    assert plain == 2 * length - 2 * k
    assert exponentials(lambda: reference.algorithm_1(embeddings, scores, k, base=20.0)) == 2 * plain
    assert 0 < exponentials(lambda: tournament_torch(scores, None, length, k, None, True, True)) < 2 * length
    iterative = exponentials(lambda: iterative_topk(embeddings, scores, k))
    assert iterative == length * k


@pytest.mark.paper("b2-cost", "powers-of-two")
@pytest.mark.parametrize("length, k, rounds", [(8, 2, 2), (64, 1, 6), (512, 512, 0), (2048, 512, 2)])
def test_number_of_rounds_is_log2_of_n_over_k(length, k, rounds):
    """Check B.3: after log2(n / k) halvings every slot has 2^rounds tokens."""
    embeddings, scores, _ = random_case(1, length, 1, seed=0)
    pooled = successive_halving_topk(embeddings, scores, k)
    assert pooled.slots[0].bincount().tolist() == [2**rounds] * k


@pytest.mark.paper("eq-4", "b2-noise", "eq-8")
def test_score_gradients_are_finite_and_almost_never_zero():
    """Check B.1 and B.4: Equation 4, dT/dv = 0, holds for the hard operator only."""
    embeddings, scores, _ = random_case(20, 64, 3, seed=0)
    pooled = successive_halving_topk(embeddings, scores, 8)
    of_scores = torch.autograd.grad(pooled.embeddings.square().sum(), scores)[0]
    assert of_scores.isfinite().all() and (of_scores != 0).float().mean() > 0.99
