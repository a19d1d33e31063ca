"""Tests of perturbed_topk: expectation and gradient against quadrature, memory, invalid options."""

import math

import pytest
import torch

from pyramidion_fairseq.functional import hard_topk, perturbed_topk
from tests.helpers.tensors import LargestTensor


def left_out_probabilities(scores: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return how likely each of three tokens has the lowest perturbed score, by quadrature: (3,), float64."""
    z = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    normal = torch.distributions.Normal(0.0, 1.0)
    out = []
    for i in range(3):
        value = scores[i] + sigma * z
        others = [1 - normal.cdf((value - scores[j]) / sigma) for j in range(3) if j != i]
        out.append(torch.trapezoid(density * others[0] * others[1], z))
    return torch.stack(out)


def expected_slots(x: torch.Tensor, scores: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return the expected two slots of three tokens, (3, d) -> (2, d): without token 0 they are tokens 1 and 2."""
    out = left_out_probabilities(scores, sigma)
    first = out[0] * x[1] + (out[1] + out[2]) * x[0]
    second = (out[0] + out[1]) * x[2] + out[2] * x[1]
    return torch.stack([first, second])


def test_perturbed_topk_matches_the_expected_value_and_gradients():
    torch.manual_seed(0)
    x = torch.randn(3, 2, dtype=torch.float64).requires_grad_()
    scores = torch.tensor([0.5, 0.53, 0.45], dtype=torch.float64, requires_grad=True)
    probe = torch.randn(2, 2, dtype=torch.float64)
    wanted = expected_slots(x, scores, 0.1)
    of_x, of_scores = torch.autograd.grad((wanted * probe).sum(), [x, scores])

    pooled = perturbed_topk(x.unsqueeze(0), scores.unsqueeze(0), 2, sigma=0.1, samples=40_000)
    ours_x, ours_scores = torch.autograd.grad((pooled.embeddings[0] * probe).sum(), [x, scores])
    torch.testing.assert_close(pooled.embeddings[0], wanted, rtol=0, atol=0.02)
    torch.testing.assert_close(ours_x, of_x, rtol=0, atol=0.02)
    assert of_scores.abs().max() > 1
    torch.testing.assert_close(ours_scores, of_scores, rtol=0, atol=0.15)
    # The record holds each token's largest share of a slot.
    out = left_out_probabilities(scores.detach(), 0.1)
    assert pooled.slot_of_token.tolist() == [[0, 0 if out[0] > out[2] else 1, 1]]
    largest = torch.stack([out[1] + out[2], torch.max(out[0], out[2]), out[0] + out[1]])
    torch.testing.assert_close(pooled.weights[0], largest, rtol=0, atol=0.02)


def test_perturbed_topk_with_no_or_tiny_noise_equals_hard_topk():
    torch.manual_seed(0)
    x, scores = torch.randn(2, 20, 3), torch.rand(2, 20)
    hard = hard_topk(x, scores, 5)
    for pooled in (perturbed_topk(x, scores, 5, noise=False), perturbed_topk(x, scores, 5, sigma=1e-9)):
        torch.testing.assert_close(pooled.embeddings, hard.embeddings)
        torch.testing.assert_close(pooled.scores, hard.scores)
        assert torch.equal(pooled.weights, hard.weights)
        assert torch.equal(pooled.slot_of_token[hard.weights > 0], hard.slot_of_token[hard.weights > 0])


def test_perturbed_topk_handles_padding_and_short_documents_in_training():
    torch.manual_seed(0)
    x, scores = torch.randn(3, 12, 3, requires_grad=True), torch.rand(3, 12, requires_grad=True)
    mask = torch.arange(12) >= torch.tensor([[12], [3], [0]])
    with torch.no_grad():
        x[mask] = float("nan")
    pooled = perturbed_topk(x, scores, 4, samples=10, padding_mask=mask)
    assert pooled.padding_mask.tolist() == [[False] * 4, [False] * 3 + [True], [True] * 4]
    torch.testing.assert_close(pooled.embeddings[1, :3], x[1, :3])
    assert pooled.embeddings[pooled.padding_mask].abs().sum() == 0
    grad = torch.randn_like(pooled.embeddings).masked_fill(pooled.padding_mask.unsqueeze(2), float("nan"))
    of_x, of_scores = torch.autograd.grad(pooled.embeddings, [x, scores], grad)
    assert of_x[mask].abs().sum() == 0 and of_x.isfinite().all()
    torch.testing.assert_close(of_x[1, :3], grad[1, :3])
    assert of_scores[0].abs().max() > 0 and of_scores[1:].abs().max() < 1e-4  # documents that are kept whole


def test_perturbed_topk_allocates_no_matrix_of_slots_and_tokens():
    x, scores = torch.randn(1, 512, 4), torch.rand(1, 512)
    with LargestTensor() as largest:
        perturbed_topk(x, scores, 128, samples=20)
    assert largest.numel <= 20 * 513


@pytest.mark.parametrize(
    "options, message",
    [
        ({"samples": 1}, "samples must be at least 2"),
        ({"sigma": 0.0}, "sigma must be above 0"),
        ({"samples": 2.5}, "samples must be a whole number"),
    ],
)
def test_invalid_options_are_named_in_the_error(options, message):
    with pytest.raises(ValueError, match=message):
        perturbed_topk(torch.randn(1, 8, 2), torch.rand(1, 8), 2, **options)
