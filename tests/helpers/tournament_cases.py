"""What the tests of every way to hold a tournament share."""

import torch

from pyramidion_fairseq.functional.topk.tournament import tournament


def hold(scores, *arguments):
    """(TournamentResult, gradient of the scores) under random gradients of the slots' scores and the weights."""
    result = tournament(scores, *arguments)
    generator = torch.Generator().manual_seed(1)
    loss = sum(
        (x * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)).sum()
        for x in (result.slot_scores, result.weights)
    )
    return result, torch.autograd.grad(loss, scores)[0]


def assert_same(results, **tolerance):
    """Of two ways to compute: the same tokens in the same slots, and numbers within a tolerance."""
    (ours, gradient), (plain, expected) = results
    for name in ("slots", "members", "filled"):
        a, b = getattr(ours, name), getattr(plain, name)
        assert (a is None) == (b is None) and (a is None or torch.equal(a, b)), name
    for a, b in ((ours.slot_scores, plain.slot_scores), (ours.weights, plain.weights), (gradient, expected)):
        torch.testing.assert_close(a, b, **tolerance)
