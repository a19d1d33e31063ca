"""Tests of selections, relaxations and windows: against loops, and the properties of each."""

import pytest
import torch

from pyramidion_fairseq.functional import (
    gumbel_topk,
    hard_topk,
    iterative_topk,
    max_windows,
    mean_windows,
    repeat_slots,
    sinkhorn_topk,
    threshold_topk,
    window_size,
)
from pyramidion_fairseq.functional.reference import poolers as reference
from pyramidion_fairseq.functional.topk.threshold import LINKS, threshold_gates
from tests.helpers.topk import random_case

CASES = {
    "hard": (hard_topk, reference.hard_rule, {}),
    "mean": (mean_windows, reference.window_rule, {"window": 1}),
    "mean of 3": (mean_windows, reference.window_rule, {"window": 3}),
    "iterative": (iterative_topk, reference.iterative_rule, {"temperature": 0.01}),
    "iterative, as benchmarked": (iterative_topk, reference.iterative_rule, {"temperature": 1.0}),
    "gumbel": (gumbel_topk, reference.gumbel_rule, {"temperature": 0.5}),
    "gumbel, cold": (gumbel_topk, reference.gumbel_rule, {"temperature": 0.1}),
    "sinkhorn": (sinkhorn_topk, reference.sinkhorn_rule, {"epsilon": 0.05, "iterations": 20}),
    "sinkhorn, once": (sinkhorn_topk, reference.sinkhorn_rule, {"epsilon": 0.5, "iterations": 1}),
    **{
        f"threshold, {link} {epsilon}": (threshold_topk, reference.threshold_rule, {"link": link, "epsilon": epsilon})
        for link in LINKS
        for epsilon in (0.02, 0.5)
    },
}
SHAPES = [(1, 1), (5, 7), (7, 7), (8, 2), (13, 3), (16, 1), (31, 6), (20, 19)]


@pytest.mark.paper("b-iterative", "eq-2")
@pytest.mark.parametrize("padding", [None, "right", "left", "anywhere"])
@pytest.mark.parametrize("length, k", SHAPES)
@pytest.mark.parametrize("name", CASES)
def test_poolers_equal_loops(name, length, k, padding):
    fast, rule, options = CASES[name]
    embeddings, scores, mask = random_case(4, length, 3, seed=length * 50 + k, padding=padding)
    ours = fast(embeddings, scores, k, padding_mask=mask, **options)
    loops = reference.pool(embeddings, scores, k, rule, mask, **options)
    if length <= k:  # everything passes, padding too, at its position
        assert torch.equal(ours.embeddings, embeddings) and ours.padding_mask is mask
        return
    assert (ours.padding_mask is None) == (loops.padding_mask is None)
    assert loops.padding_mask is None or torch.equal(ours.padding_mask, loops.padding_mask)
    used = torch.ones_like(ours.scores, dtype=torch.bool) if loops.padding_mask is None else ~loops.padding_mask
    torch.testing.assert_close(ours.embeddings[used], loops.embeddings[used], rtol=0, atol=1e-9)
    torch.testing.assert_close(ours.scores[used], loops.scores[used], rtol=0, atol=1e-9)
    torch.testing.assert_close(ours.weights, loops.weights, rtol=0, atol=1e-9)
    assert torch.equal(ours.slot_of_token[loops.weights > 0], loops.slot_of_token[loops.weights > 0])


@pytest.mark.parametrize("name", ["hard", "iterative"])
@pytest.mark.parametrize("padding", [None, "anywhere"])
def test_ties_go_to_the_earlier_token(name, padding):
    fast, rule, options = CASES[name]
    embeddings, scores, mask = random_case(4, 24, 3, seed=5, ties=True, padding=padding)
    ours = fast(embeddings, scores, 5, padding_mask=mask, **options)
    loops = reference.pool(embeddings, scores, 5, rule, mask, **options)
    used = torch.ones_like(ours.scores, dtype=torch.bool) if mask is None else ~loops.padding_mask
    torch.testing.assert_close(ours.embeddings[used], loops.embeddings[used], rtol=0, atol=1e-12)


@pytest.mark.paper("scorer-windows")
@pytest.mark.parametrize("padding", [None, "right", "left", "anywhere"])
@pytest.mark.parametrize("length, k", [(8, 2), (13, 3), (16, 1), (31, 6), (20, 19)])
@pytest.mark.parametrize("window", [1, 4])
def test_max_windows_equal_loops(window, length, k, padding):
    embeddings, scores, mask = random_case(4, length, 5, seed=length, padding=padding)
    ours = max_windows(embeddings, scores, k, window=window, padding_mask=mask)
    values, weights = reference.max_windows(embeddings, scores, k, window, mask)
    assert torch.equal(ours.embeddings, values)
    short = torch.zeros(4, 1, dtype=torch.bool) if mask is None else (~mask).sum(dim=1, keepdim=True) <= k
    torch.testing.assert_close(ours.weights, weights, rtol=0, atol=1e-12)
    # A token that passes unchanged is alone in its slot and gives every coordinate.
    assert (ours.weights[short.expand_as(weights) & (weights > 0)] == 1).all()


@pytest.mark.parametrize(
    "function, options, message",
    [
        (iterative_topk, {"temperature": float("nan")}, "temperature must be above 0"),
        (gumbel_topk, {"temperature": 0.0}, "temperature must be above 0"),
        (sinkhorn_topk, {"epsilon": float("inf")}, "epsilon must be above 0 and finite"),
        (sinkhorn_topk, {"iterations": 0}, "iterations must be a whole number, at least 1"),
        (threshold_topk, {"epsilon": 0.0}, "epsilon must be above 0"),
        (threshold_topk, {"link": "cubic"}, "link must be one of laplace, clip, exp, sigmoid, got 'cubic'"),
        (mean_windows, {"window": 0}, "window must be a whole number, at least 1"),
        (max_windows, {"window": float("inf")}, "window must be a whole number, at least 1"),
        (hard_topk, {"k": float("inf")}, "k must be a whole number, at least 1"),
    ],
)
def test_invalid_options_are_named_in_the_error(function, options, message):
    embeddings, scores, _ = random_case(2, 8, 3, seed=0)
    with pytest.raises(ValueError, match=message):
        function(embeddings, scores, **{"k": 2, **options})


@pytest.mark.paper("scorer-windows")
@pytest.mark.parametrize("count, k, window, expected", [(2048, 512, 4, 4), (2047, 512, 4, 4), (600, 512, 4, 4)])
def test_window_size_matches_table_4(count, k, window, expected):
    assert window_size(count, k, window) == expected


def test_window_size_is_one_for_short_documents_and_grows_for_long_ones():
    assert window_size(512, 512, 4) == 1 and window_size(1, 512, 4) == 1
    assert window_size(2049, 512, 4) == 5 and window_size(10_000, 512, 4) == 20
    counts = torch.tensor([1, 512, 600, 2048, 2049])
    assert window_size(counts, 512, 4).tolist() == [1, 1, 4, 4, 5]


@pytest.mark.paper("b-iterative", "b2-dispersed")
def test_iterative_topk_at_the_temperature_of_figure_6_is_nearly_a_mean():
    """Check temperature 0.5, which gives the published values, and 1."""
    embeddings, scores, _ = random_case(1, 64, 8, seed=0)
    for temperature in (0.5, 1.0):
        pooled = iterative_topk(embeddings, scores, 4, temperature=temperature)
        assert pooled.weights.max() < 0.04
    assert iterative_topk(embeddings, scores, 4, temperature=1e-9).weights.topk(4).values.min() > 0.99


def test_iterative_and_gumbel_topk_become_hard_at_low_temperature():
    embeddings, _, _ = random_case(2, 16, 4, seed=0)
    scores = torch.stack([torch.randperm(16), torch.randperm(16)]).double() / 16 + 1e-3
    hard = hard_topk(embeddings, scores, 4)
    for soft in (
        iterative_topk(embeddings, scores, 4, temperature=1e-5),
        gumbel_topk(embeddings, scores, 4, temperature=1e-3),
    ):
        torch.testing.assert_close(soft.embeddings, hard.embeddings, rtol=0, atol=1e-6)


@pytest.mark.paper("b-sinkhorn")
def test_sinkhorn_topk_converges_to_the_marginals():
    """Check that at convergence the token with the most mass gives all of it, and none gives more."""
    _, scores, _ = random_case(3, 40, 4, seed=0)
    totals = []
    for iterations in (1, 200):
        eye = torch.eye(40, dtype=torch.float64).expand(3, -1, -1)
        shares = sinkhorn_topk(eye, scores, 8, epsilon=1e-2, iterations=iterations).embeddings
        torch.testing.assert_close(shares.sum(dim=2), torch.ones(3, 8, dtype=torch.float64))  # always convex
        totals.append(shares.sum(dim=1).max().item())
    assert totals[0] < 0.9 and totals[1] == pytest.approx(1, abs=0.01)


@pytest.mark.paper("b-gumbel")
def test_gumbel_topk_samples_without_replacement_in_proportion_to_scores():
    torch.manual_seed(0)
    scores = torch.tensor([[0.8, 0.1, 0.1]]).expand(4000, 3)
    eye = torch.eye(3).expand(4000, 3, 3)
    picked = gumbel_topk(eye, scores, 2, temperature=1e-3, noise=True).embeddings.sum(dim=1)
    # P(token 0 is among the two) = 0.8 + 2 * 0.1 * 0.8 / 0.9
    assert picked[:, 0].gt(0.5).float().mean().item() == pytest.approx(0.8 + 0.2 * 0.8 / 0.9, abs=0.015)
    quiet = gumbel_topk(eye, scores, 2, temperature=1e-3)
    assert torch.equal(quiet.embeddings, gumbel_topk(eye, scores, 2, temperature=1e-3).embeddings)


@pytest.mark.paper("b2-dispersed")
@pytest.mark.parametrize(
    "function", [hard_topk, mean_windows, max_windows, iterative_topk, gumbel_topk, sinkhorn_topk, threshold_topk]
)
def test_extreme_scores_give_finite_outputs_and_gradients(function):
    for size in (1e4, 1e-30, 0.0):
        embeddings, scores, mask = random_case(3, 40, 3, seed=0, padding="anywhere", dtype=torch.float32)
        scores = (scores.detach() * size).requires_grad_()
        pooled = function(embeddings, scores, 6, padding_mask=mask)
        (pooled.embeddings.sum() + 0 * scores.sum()).backward()
        assert all(t.isfinite().all() for t in (pooled.embeddings, pooled.scores, embeddings.grad, scores.grad))


@pytest.mark.parametrize(
    "function", [hard_topk, mean_windows, max_windows, iterative_topk, gumbel_topk, sinkhorn_topk, threshold_topk]
)
def test_invalid_arguments_are_named_in_the_error(function):
    with pytest.raises(ValueError, match="k must be a whole number, at least 1"):
        function(torch.rand(2, 6, 3), torch.rand(2, 6), 0)
    with pytest.raises(ValueError, match=r"scores \(B, n\)"):
        function(torch.rand(2, 6, 3), torch.rand(2, 5), 2)
    with pytest.raises(ValueError, match=r"embeddings must be floating point, got torch\.int64"):
        function(torch.ones(2, 6, 3, dtype=torch.long), torch.rand(2, 6), 2)


@pytest.mark.parametrize("function", [hard_topk, mean_windows, max_windows, iterative_topk, sinkhorn_topk])
def test_empty_batch_gives_an_empty_output(function):
    pooled = function(torch.rand(0, 6, 3), torch.rand(0, 6), 2)
    assert (pooled.embeddings.shape, pooled.weights.shape) == ((0, 2, 3), (0, 6))


def test_repeat_slots_undoes_a_pooling_of_equal_tokens():
    x = torch.tensor([1.0, 1, 1, 2, 2, 2, 3, 3]).view(1, 8, 1)
    pooled = mean_windows(x, torch.zeros(1, 8), 4, window=3)
    assert pooled.embeddings.flatten().tolist() == [1, 2, 3, 0] and pooled.padding_mask.tolist() == [[0, 0, 0, 1]]
    assert torch.equal(repeat_slots(pooled.embeddings, pooled.slot_of_token), x)


@pytest.mark.parametrize("epsilon", [1e-3, 0.05, 1.0, 30.0])
@pytest.mark.parametrize("link", ["laplace", "clip", "exp"])
def test_threshold_gates_sum_to_k_and_follow_the_scores(link, epsilon):
    """Check every k, for scores with ties, with gaps and far from 0."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(4, 40, generator=generator, dtype=torch.float64)
    scores[1] = (scores[1] * 5).round() / 5
    scores[2] = scores[2] * 1e3 - 500
    scores[3, :7] += 3
    for k in range(1, 40):
        gates = threshold_gates(scores, k, torch.ones_like(scores, dtype=torch.bool), link, epsilon)
        torch.testing.assert_close(gates.sum(dim=1), torch.full((4,), k, dtype=torch.float64), rtol=1e-9, atol=1e-9)
        assert gates.min() >= 0 and gates.max() <= 1
        order = scores.argsort(dim=1)
        assert (gates.gather(1, order).diff(dim=1) >= -1e-12).all()


@pytest.mark.parametrize("k", [1, 3, 7])
def test_exponential_gates_match_coordinate_descent(k):
    scores = torch.rand(1, 12, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    gates = threshold_gates(scores, k, torch.ones_like(scores, dtype=torch.bool), "exp", 0.1)[0]
    expected = torch.tensor(reference.coordinate_descent(scores[0].tolist(), k, 0.1), dtype=torch.float64)
    torch.testing.assert_close(gates, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("huge", [1e30, 1e300])
def test_threshold_topk_keeps_a_token_with_a_huge_score(link, huge):
    scores = torch.rand(1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores[0, 3] = huge
    weights = threshold_topk(torch.eye(8, dtype=torch.float64)[None], scores, 2, link=link).weights
    assert weights[0, 3] > 0.99 and weights.isfinite().all() and (weights > 0).sum() <= 2


@pytest.mark.parametrize("link", LINKS)
def test_threshold_topk_with_a_small_epsilon_equals_hard_topk(link):
    scores = torch.tensor([[0.1, 0.9, 0.4, 0.8, 0.2]], dtype=torch.float64)
    eye = torch.eye(5, dtype=torch.float64).unsqueeze(0)
    pooled = threshold_topk(eye, scores, 2, link=link, epsilon=1e-3)
    torch.testing.assert_close(pooled.embeddings, hard_topk(eye, scores, 2).embeddings, rtol=0, atol=1e-9)
