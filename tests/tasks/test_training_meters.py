"""Tests of the meters of training against hand-computed values and the encoder's record of its poolings."""

import math
import resource

import pytest
import torch
from fairseq.logging import metrics

from pyramidion_fairseq.functional import Pooled, successive_halving_topk
from pyramidion_fairseq.poolers import POOLERS
from pyramidion_fairseq.tasks.training_meters import (
    PeakMemory,
    PoolingMeters,
    log_training,
    pooling_statistics,
    relative_positions,
    source_tokens,
    strongest_tokens,
)
from tests.helpers.tensors import ragged_mask


def values(sums):
    return {kind: float(total / sums["documents"]) for kind, total in sums.items() if kind != "documents"}


def pooled_of(slots, weights, k):
    shape = (len(slots), k)
    return Pooled(torch.zeros(*shape, 1), torch.zeros(shape), None, torch.tensor(slots), torch.tensor(weights))


def statistics(pooled, mask, scores, **options):
    """Return the statistics of a document's first pooling."""
    positions = relative_positions(pooled.slot_of_token, mask)
    return pooling_statistics(pooled, mask, strongest_tokens(pooled, mask, positions), scores, **options)


def test_pooling_statistics_match_hand_computed_values():
    """Check 8 tokens in 2 slots, in which tokens 1 and 6 have the largest weights, 3/4 and 1/2."""
    pooled = pooled_of([[0, 0, 0, 0, 1, 1, 1, 1]], [[0.25, 0.75, 0.0, 0.0, 0.25, 0.25, 0.5, 0.0]], k=2)
    positions = relative_positions(pooled.slot_of_token, None)
    assert positions[0].tolist() == pytest.approx([i / 7 for i in range(8)])
    scores = torch.tensor([[1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]])
    strongest = strongest_tokens(pooled, None, positions)
    sums = pooling_statistics(pooled, None, strongest, scores, k=2)
    assert strongest.position[0].tolist() == pytest.approx([1 / 7, 6 / 7])
    assert strongest.weight[0].tolist() == [0.75, 0.5]
    found = values(sums)
    assert found["winner"] == pytest.approx(0.625)
    assert found["entropy"] == pytest.approx(math.log(4) / math.log(8))
    assert found["spread"] == pytest.approx(math.sqrt(12) * 2.5 / 7)


def test_pooling_statistics_accept_scores_as_logarithms():
    pooled = pooled_of([[0, 0, 1, 1]], [[0.5, 0.5, 0.5, 0.5]], k=2)
    scores = torch.tensor([[0.25, 0.25, 0.5, 1e-9]]).log()
    sums = statistics(pooled, None, scores, probabilities=False, k=2)
    assert values(sums)["entropy"] == pytest.approx((0.5 * math.log(4) + 0.5 * math.log(2)) / math.log(4))


def test_even_scores_have_entropy_1_and_spread_follows_the_kept_tokens():
    """Check that a contiguous quarter of the document has a spread of 1/4, and every fourth token one of 1."""
    length, k = 4096, 1024
    scores = torch.full((1, length), 0.5)
    for kept, spread in ((torch.arange(k), 0.25), (torch.arange(0, length, 4), 1.0)):
        weights, slots = torch.zeros(1, length), torch.zeros(1, length, dtype=torch.long)
        weights[0, kept], slots[0, kept] = 1.0, torch.arange(k)
        pooled = Pooled(torch.zeros(1, k, 1), torch.zeros(1, k), None, slots, weights)
        sums = statistics(pooled, None, scores, k=k)
        assert values(sums) == pytest.approx({"winner": 1.0, "entropy": 1.0, "spread": spread}, abs=1e-3)


def test_padding_and_short_documents_are_left_out_of_the_statistics():
    """Compare the sums of a ragged batch with those of its long documents alone."""
    generator = torch.Generator().manual_seed(0)
    lengths = [40, 3, 25, 8, 40]
    x, scores = torch.randn(5, 40, 4, generator=generator), torch.rand(5, 40, generator=generator)
    mask = ragged_mask(lengths)
    batch = statistics(successive_halving_topk(x, scores, 8, padding_mask=mask), mask, scores, k=8)
    total = {}
    for row, length in enumerate(lengths):
        if length > 8:
            alone = scores[row : row + 1, :length]
            pooled = successive_halving_topk(x[row : row + 1, :length], alone, 8)
            sums = statistics(pooled, None, alone, k=8)
            total = {kind: total.get(kind, 0) + float(value) for kind, value in sums.items()}
    assert float(batch["documents"]) == 3
    assert {kind: float(value) for kind, value in batch.items()} == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"checkpoint_activations": True}, {"attention": "lsg"}])
def test_pooling_meters_match_the_encoders_own_record(tiny_model, random_tokens, options):
    model = tiny_model(**options)
    model.train()
    meters = PoolingMeters(model)
    tokens = random_tokens([40, 4, 27])
    with meters.watch() as logged:
        model(tokens, None, tokens[:, :3])
    out = model.encoder(tokens)
    assert set(logged) == {
        f"_pool{layer}_{kind}" for layer in (1, 2) for kind in ("documents", "winner", "entropy", "spread")
    }
    assert not any(value.requires_grad for value in logged.values())
    places = {row: [i / (length - 1) for i in range(length)] for row, length in ((0, 40), (2, 27))}
    for layer, k in ((1, 12), (2, 5)):
        slots, weights = out["pooling_slots"][layer - 1], out["pooling_weights"][layer - 1]
        assert logged[f"_pool{layer}_documents"] == 2
        shares, spreads = [], []
        for row in (0, 2):
            members = [
                [i for i in range(slots.size(1)) if slots[row, i] == s and weights[row, i] > 0] for s in range(k)
            ]
            best = [max(group, key=lambda i: weights[row, i]) for group in members]
            shares.append(sum(float(weights[row, i]) for i in best) / k)
            places[row] = [places[row][i] for i in best]  # positions of the next pooling's inputs
            spreads.append(math.sqrt(12) * float(torch.tensor(places[row]).std(unbiased=False)))
        assert float(logged[f"_pool{layer}_winner"]) == pytest.approx(sum(shares), rel=1e-5)
        assert float(logged[f"_pool{layer}_spread"]) == pytest.approx(sum(spreads), rel=1e-4)


def test_watch_changes_no_output_and_removes_its_hooks(tiny_model, random_tokens):
    model, tokens = tiny_model(), random_tokens([40, 4])
    expected, _ = model(tokens, None, tokens[:, :3])
    meters = PoolingMeters(model)
    poolings = model.encoder.poolings.values()
    with meters.watch():
        watched, _ = model(tokens, None, tokens[:, :3])
        assert all(pooling.on_pooled is not None for pooling in poolings)
        assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(watched, expected)
    assert all(pooling.on_pooled is None for pooling in poolings)
    with pytest.raises(RuntimeError), meters.watch():
        raise RuntimeError
    assert all(pooling.on_pooled is None for pooling in poolings)


@pytest.mark.parametrize("pooler", POOLERS.names())
def test_pooling_meters_are_in_range_for_every_pooler(tiny_model, random_tokens, pooler):
    model, tokens = tiny_model(pooler=pooler), random_tokens([40, 4, 30])
    with PoolingMeters(model).watch() as logged:
        model(tokens, None, tokens[:, :3])
    uses_scores = POOLERS.get(pooler).uses_scores
    assert ("_pool1_entropy" in logged) == uses_scores
    for layer in (1, 2):
        documents = float(logged[f"_pool{layer}_documents"])
        assert 0 < float(logged[f"_pool{layer}_winner"]) <= documents + 1e-5
        assert 0 < float(logged[f"_pool{layer}_spread"]) <= 1.74 * documents
        if uses_scores:
            assert 0 < float(logged[f"_pool{layer}_entropy"]) <= documents + 1e-5


def test_pooling_meters_log_nothing_without_poolings(tiny_model, random_tokens):
    model, tokens = tiny_model(pooling_schedule=""), random_tokens([10])
    with PoolingMeters(model).watch() as logged:
        model(tokens, None, tokens[:, :3])
    assert logged == {}


def test_log_training_weights_batches_by_their_documents():
    """Check the means of two batches in an update, and that nothing is logged where nothing was pooled."""
    first = {
        "_source_tokens": torch.tensor(100),
        "_pool2_documents": torch.tensor(1.0),
        "_pool2_winner": torch.tensor(0.5),
    }
    second = {
        "_source_tokens": torch.tensor(60),
        "_pool2_documents": torch.tensor(3.0),
        "_pool2_winner": torch.tensor(2.7),
    }
    with metrics.aggregate(new_root=True) as agg:
        log_training([first, second])
        log_training([first])
        speed = agg["src_wps"]
    assert agg.get_smoothed_values()["pool2_winner"] == pytest.approx((4 * 0.8 + 0.5) / 5, abs=1e-3)
    assert speed.n == 100  # the first update starts the clock
    with metrics.aggregate(new_root=True) as agg:
        log_training([{"_pool2_documents": torch.tensor(0.0), "_pool2_winner": torch.tensor(0.0)}])
        log_training([])
    assert not agg.get_smoothed_values()


def test_source_tokens_sums_the_lengths_of_the_batch():
    assert source_tokens({"net_input": {"src_lengths": torch.tensor([4, 6])}})["_source_tokens"] == 10


def test_peak_memory_on_cpu_is_the_resident_set_size():
    with metrics.aggregate(new_root=True) as agg:
        PeakMemory().log()
    logged = agg.get_smoothed_values()["gb_peak"]
    assert logged == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, abs=0.02)
