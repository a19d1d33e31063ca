"""Tests of merge_similar and boundary_chunks: against loops, and on inputs with known groups."""

import pytest
import torch

from pyramidion_fairseq.functional import boundary_chunks, merge_similar
from pyramidion_fairseq.functional.reference import grouping as reference
from pyramidion_fairseq.functional.topk import grouping
from tests.helpers.topk import random_case

CASES = {"similar": (merge_similar, reference.similar_groups), "chunks": (boundary_chunks, reference.chunks)}


@pytest.mark.parametrize("padding", [None, "right", "left", "anywhere"])
@pytest.mark.parametrize("length, k", [(5, 7), (8, 2), (13, 3), (16, 1), (31, 6), (20, 19), (40, 39), (64, 5)])
@pytest.mark.parametrize("name", CASES)
def test_grouping_poolers_equal_loops(monkeypatch, name, length, k, padding):
    monkeypatch.setattr(grouping, "ROWS", 7)
    fast, slow = CASES[name]
    embeddings, scores, mask = random_case(4, length, 3, seed=length * 50 + k, padding=padding)
    pooled = fast(embeddings, scores, k, padding_mask=mask)
    if length <= k:
        assert torch.equal(pooled.embeddings, embeddings)
        return
    for row in range(4):
        tokens = torch.arange(length) if mask is None else (~mask[row]).nonzero().flatten()
        x, s = embeddings[row, tokens], scores[row, tokens]
        groups = slow(x, k) if len(tokens) > k else [[i] for i in range(len(tokens))]
        assert pooled.padding_mask is None or pooled.padding_mask[row].tolist() == [i >= len(groups) for i in range(k)]
        for slot, group in enumerate(groups):
            assert pooled.slot_of_token[row, tokens[group]].tolist() == [slot] * len(group)
            torch.testing.assert_close(pooled.embeddings[row, slot], x[group].mean(dim=0), rtol=0, atol=1e-12)
            torch.testing.assert_close(pooled.scores[row, slot], s[group].mean(), rtol=0, atol=1e-12)
            assert pooled.weights[row, tokens[group]].tolist() == pytest.approx([1 / len(group)] * len(group))


def test_merge_similar_groups_equal_directions_at_any_position():
    """Check that every group holds one of five directions, which stand at random positions."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(0, 5, (1, 64), generator=generator)
    x = torch.eye(5, dtype=torch.float64)[kinds] * (0.5 + torch.rand(1, 64, 1, generator=generator))
    pooled = merge_similar(x, torch.zeros(1, 64), 16)
    assert ((pooled.embeddings[0] > 0).sum(dim=1) == 1).all()


@pytest.mark.parametrize("function", [merge_similar, boundary_chunks])
def test_autocast_does_not_change_groups(function):
    """Check embeddings with a large common part, whose similarities bfloat16 cannot tell apart."""
    x = torch.randn(1, 256, 64, generator=torch.Generator().manual_seed(0)) + 3
    slots = function(x, torch.zeros(1, 256), 64).slot_of_token
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(function(x, torch.zeros(1, 256), 64).slot_of_token, slots)


def test_boundary_chunks_start_where_the_embeddings_change():
    kinds = torch.tensor([[0] * 7 + [1] * 3 + [2] * 10 + [0] * 4])
    x = torch.eye(3)[kinds]
    pooled = boundary_chunks(x, torch.zeros(1, 24), 4)
    assert pooled.slot_of_token.tolist() == [[0] * 7 + [1] * 3 + [2] * 10 + [3] * 4]
    assert (pooled.embeddings - torch.eye(3)[torch.tensor([[0, 1, 2, 0]])]).abs().max() < 1e-6


@pytest.mark.parametrize("function", [merge_similar, boundary_chunks])
def test_grouping_of_equal_or_zero_tokens_stays_finite(function):
    for x in (torch.ones(2, 16, 4), torch.zeros(2, 16, 4)):
        pooled = function(x.requires_grad_(), torch.zeros(2, 16), 5)
        pooled.embeddings.sum().backward()
        assert pooled.embeddings.isfinite().all() and x.grad.isfinite().all()
        assert pooled.slot_of_token.max() == 4


@pytest.mark.parametrize("function", [merge_similar, boundary_chunks])
def test_grouping_supports_vmap_over_embeddings(function):
    x, scores = torch.randn(2, 3, 21, 4), torch.rand(3, 21)
    mask = torch.arange(21) >= torch.tensor([[21], [7], [0]])

    def pool(batch):
        return function(batch, scores, 6, padding_mask=mask).embeddings

    torch.testing.assert_close(torch.func.vmap(pool)(x), torch.stack(list(map(pool, x))))
