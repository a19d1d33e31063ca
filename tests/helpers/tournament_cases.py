"""Functions shared by the tests of every implementation of the tournament."""

import torch

from pyramidion_fairseq.functional.topk.tournament import tournament


def hold(scores, *arguments):
    """Return the TournamentResult and the gradient of the scores for random gradients of slot scores and weights."""
    result = tournament(scores, *arguments)
    generator = torch.Generator().manual_seed(1)
    loss = sum(
        (x * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)).sum()
        for x in (result.slot_scores, result.weights)
    )
    return result, torch.autograd.grad(loss, scores)[0]


def assert_same(results, **tolerance):
    """Check that two results have the same tokens in the same slots, and numbers equal within a tolerance."""
    (ours, gradient), (plain, expected) = results
    for name in ("slots", "members", "filled"):
        a, b = getattr(ours, name), getattr(plain, name)
        assert (a is None) == (b is None) and (a is None or torch.equal(a, b)), name
    for a, b in ((ours.slot_scores, plain.slot_scores), (ours.weights, plain.weights), (gradient, expected)):
        torch.testing.assert_close(a, b, **tolerance)
