"""Tests of token records: they rebuild pooled states up to rounding, with padding, byes and short documents."""

import pytest
import torch

from pyramidion_fairseq.functional import (
    TokenRecord,
    attention_to_tokens,
    compose_poolings,
    keep_record,
    pool_by_record,
    sum_by_group,
)
from pyramidion_fairseq.poolers import POOLERS

EXACT = [name for name in POOLERS.names() if POOLERS.get(name).exact_record]
SCHEDULES = [(16, 4), (12, 5), (40, 13), (7, 2, 1), (100,)]  # with byes, with three poolings, with k above n


def pooled_chain(name, schedule, lengths, padding="right"):
    """Pool random states by a schedule, without layers: return states, [(output, mask)], slots, weights."""
    generator = torch.Generator().manual_seed(len(name))
    batch, length = len(lengths), max(lengths)
    mask = torch.arange(length) >= torch.tensor(lengths).unsqueeze(1)
    if padding == "left":
        mask = mask.flip(1)
    states = torch.randn(batch, length, 3, dtype=torch.float64, generator=generator).masked_fill(mask.unsqueeze(2), 7)
    pooler, x, outputs, slots, weights = POOLERS.get(name)(), states, [], [], []
    for k in schedule:
        scores = torch.rand(x.shape[:2], dtype=torch.float64, generator=generator)
        pooled = pooler(x, scores, mask, k)
        x, mask = pooled.embeddings, pooled.padding_mask
        outputs.append((x, mask))
        slots.append(pooled.slot_of_token)
        weights.append(pooled.weights)
    return states, outputs, slots, weights


@pytest.mark.paper("interpretation")
@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("lengths", [(64, 64), (50, 33, 1), (3, 2), (17,)])
@pytest.mark.parametrize("name", EXACT)
def test_composed_records_rebuild_every_pooling_from_the_tokens(name, lengths, schedule, padding):
    states, outputs, slots, weights = pooled_chain(name, schedule, lengths, padding)
    records = compose_poolings(slots, weights)
    assert len(records) == len(schedule)
    for record, (expected, mask) in zip(records, outputs):
        rebuilt = pool_by_record(states, record, expected.size(1))
        visible = torch.ones(expected.shape[:2], dtype=torch.bool) if mask is None else ~mask
        torch.testing.assert_close(rebuilt[visible], expected[visible], rtol=0, atol=1e-12)
        sums = pool_by_record(torch.ones_like(states[..., :1]), record, expected.size(1))[visible]
        if POOLERS.get(name).convex:
            torch.testing.assert_close(sums, torch.ones_like(sums))
        else:
            assert (sums <= 1).all()


def test_exact_record_is_set_for_the_right_poolers():
    assert {"successive_halving", "hard_topk", "mean_window", "funnel"} <= set(EXACT)
    assert not {"max_window", "iterative_topk", "gumbel_topk", "sinkhorn_topk"} & set(EXACT)


def test_compose_poolings_matches_a_hand_computed_value():
    slots = [torch.tensor([[0, 0, 1, 1, 2]]), torch.tensor([[1, 0, 1]])]
    weights = [torch.tensor([[0.25, 0.75, 1.0, 0.0, 1.0]]), torch.tensor([[0.5, 1.0, 0.5]])]
    first, second = compose_poolings(slots, weights)
    assert first.slots is slots[0] and first.weights is weights[0]
    assert second.slots.tolist() == [[1, 1, 0, 0, 1]]
    assert second.weights.tolist() == [[0.125, 0.375, 1.0, 0.0, 0.5]]


def test_compose_poolings_accepts_no_pooling_and_refuses_differing_shapes():
    assert compose_poolings([], []) == []
    record = keep_record(torch.tensor([[1.0, 1.0, 0.0]]))
    assert record.slots.tolist() == [[0, 1, 2]]
    with pytest.raises(ValueError, match="differ in shape"):
        compose_poolings([torch.zeros(1, 3, dtype=torch.long)], [torch.ones(1, 4)])


def test_attention_to_tokens_equals_loops_and_keeps_its_sum():
    _, _, slots, weights = pooled_chain("successive_halving", (12, 5), (40, 23))
    record = compose_poolings(slots, weights)[-1]
    attention = torch.rand(2, 6, 5, dtype=torch.float64).softmax(dim=2)
    tokens = attention_to_tokens(attention, record)
    for document in range(2):
        for step in range(6):
            for token in range(40):
                slot = int(record.slots[document, token])
                expected = attention[document, step, slot] * record.weights[document, token]
                assert tokens[document, step, token] == expected
    torch.testing.assert_close(tokens.sum(dim=2), torch.ones(2, 6, dtype=torch.float64))
    assert tokens[1, :, 23:].abs().max() == 0


def test_sum_by_group_adds_values_and_skips_negative_groups():
    values = torch.tensor([[1.0, 2.0, 4.0, 8.0], [0.0, 1.0, 0.0, 1.0]])
    sums = sum_by_group(values, torch.tensor([2, 0, -1, 2]), 4)
    assert sums.tolist() == [[2.0, 0.0, 9.0, 0.0], [1.0, 0.0, 1.0, 0.0]]


def test_token_record_holds_two_numbers_per_token():
    _, _, slots, weights = pooled_chain("successive_halving", (12, 5), (64,))
    for record in compose_poolings(slots, weights):
        assert isinstance(record, TokenRecord) and record.slots.numel() + record.weights.numel() == 2 * 64
