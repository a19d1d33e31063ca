"""Tests of the functions compiled for a CPU, against the operations of torch that they replace."""

import logging
import sys
from types import SimpleNamespace

import pytest
import torch

from pyramidion_fairseq.functional.topk import native, partition, partition_ops, tournament_ops
from pyramidion_fairseq.functional.topk.partition_torch import partition_sum_backward_torch
from pyramidion_fairseq.functional.topk.tournament import TournamentResult, tournament
from tests.helpers import needs
from tests.helpers.partition_cases import SHAPES, case
from tests.helpers.topk import random_case
from tests.helpers.tournament_cases import assert_same, hold

NAME = "pyramidion_fairseq.functional.topk._native"
compiled = pytest.mark.skipif(native.functions() is None, reason=needs.A_COMPILER)


def both(monkeypatch, scores, *arguments):
    """Return (TournamentResult, gradient of the scores) of the compiled functions and of torch's operations."""
    results = []
    for functions in (native.functions(), None):
        with monkeypatch.context() as patch:
            patch.setattr(native, "_FUNCTIONS", functions)
            results.append(hold(scores, *arguments))
    return results


@compiled
@pytest.mark.parametrize("padding", [None, "right", "left", "anywhere"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("sort, preserve_order", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("base", [20.0, None])
@pytest.mark.parametrize("length, k", [(2, 1), (8, 2), (13, 3), (40, 39), (600, 7), (5000, 1250)])
def test_compiled_tournament_equals_torch(length, k, base, sort, preserve_order, ties, padding, monkeypatch):
    _, scores, mask = random_case(4, length, 1, seed=length, ties=ties, padding=padding)
    assert_same(both(monkeypatch, scores, mask, k, base, sort, preserve_order), rtol=0, atol=1e-12)


@compiled
@pytest.mark.parametrize("length, k", [(64, 16), (8192, 2048), (3000, 100)])
def test_compiled_tournament_in_float32_is_close_to_torch(length, k, monkeypatch):
    """Check scores so far apart that rounding exchanges none of them in the first round, and few in later ones."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.stack([torch.randperm(length, generator=generator) for _ in range(3)]).float() / length
    (ours, d_ours), (plain, d_plain) = both(monkeypatch, scores.requires_grad_(), None, k, 20.0, True, True)
    assert (ours.slots == plain.slots).float().mean() > 0.995
    assert ours.weights.dtype == ours.slot_scores.dtype == d_ours.dtype == torch.float32
    same = (ours.weights - plain.weights).abs() < 1e-4
    assert same.float().mean() > 0.995
    torch.testing.assert_close(ours.slot_scores, plain.slot_scores, rtol=0, atol=2e-3)
    assert ((d_ours - d_plain).abs() < 1e-3).float().mean() > 0.99


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length, k", [(2, 1), (50, 25), (3000, 1500), (2999, 1500)])
def test_compiled_sort_orders_special_scores_like_torch(length, k, dtype, monkeypatch):
    """Check one round, in which the sort alone decides who meets whom: it must be the same for any scores."""
    info = torch.finfo(dtype)
    special = torch.tensor([0.0, -0.0, info.smallest_normal, -info.tiny, 1e-45, -1e-45, info.max, -info.max,
                            float("inf"), -float("inf"), 1.0, -1.0], dtype=dtype)  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(0, len(special), (3, length), generator=generator)
    for scores in (
        special[draws],
        torch.randn(3, length, generator=generator, dtype=dtype),
        special[:1].expand(3, length),
    ):
        assert_same(
            both(monkeypatch, scores.clone().requires_grad_(), None, k, 20.0, True, True), rtol=1e-5, atol=1e-5
        )


@compiled
def test_compiled_tournament_keeps_nan_and_stays_within_bounds(monkeypatch):
    """Check that NaN stays NaN, and that all indices of members are within bounds."""
    scores = torch.rand(2, 40, generator=torch.Generator().manual_seed(0))
    scores[:, 7], scores[1, 9] = float("nan"), -float("nan")
    scores = scores.requires_grad_()
    played = tournament(scores, None, 5, 20.0, True, True)
    assert played.members.sort(dim=1).values.min() >= 0 and played.members.max() < 40
    assert played.weights.isnan().any(dim=1).all()
    assert torch.autograd.grad(played.weights.sum(), scores)[0].shape == scores.shape


@compiled
@pytest.mark.parametrize(
    "change",
    [
        {"members": torch.full((2, 3, 2), 8)},
        {"members": torch.full((2, 3, 2), -1)},
        {"members": torch.full((2, 3, 2), 10**12)},
        {"members": torch.zeros(1, 3, 2, dtype=torch.long)},
        {"weights": torch.rand(2, 7)},
        {"filled": torch.ones(2, 3, dtype=torch.bool)},
    ],
    ids=["too large", "negative", "far away", "too few", "too short", "flat"],
)
def test_partition_sum_refuses_tensors_that_do_not_fit(change):
    good = {
        "embeddings": torch.rand(2, 8, 300),
        "weights": torch.rand(2, 8),
        "slots": torch.zeros(2, 8, dtype=torch.long),
        "members": torch.zeros(2, 3, 2, dtype=torch.long),
        "filled": None,
    }
    assert partition.partition_sum(**good).shape == (2, 3, 300)
    with pytest.raises((RuntimeError, IndexError), match=f"{next(iter(change))} must"):
        partition.partition_sum(**{**good, **change})


@compiled
@pytest.mark.parametrize("slot", [3, -1, 10**12])
def test_partition_sum_backward_refuses_slots_out_of_range(slot):
    tensors = torch.rand(2, 3, 16), torch.rand(2, 8, 16), torch.rand(2, 8)
    with pytest.raises(IndexError, match=r"slots must lie in \[0, 3\)"):
        partition_ops.partition_sum_backward_op(*tensors, torch.full((2, 8), slot), True, True)


FOREIGN = {
    "ones": lambda record, other: torch.full_like(record, 255),
    "zeros": lambda record, other: torch.zeros_like(record),
    "of another length": lambda record, other: other,
    "garbled orders": lambda record, other: torch.cat([torch.full_like(record[:, :-16], 255), record[:, -16:]], dim=1),
    "too short": lambda record, other: record[:, :-8].contiguous(),
    "of one document": lambda record, other: record[:1],
    "no bytes": lambda record, other: record.char(),
}


@compiled
@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tournament_backward_refuses_records_that_do_not_fit(kind, dtype):
    functions = native.functions()
    scores = torch.rand(2, 32, dtype=dtype)
    record, other = (functions.tournament(x.contiguous(), None, 32, 4, 20.0, True, True)[-1] for x in
                     (scores, scores[:, :31]))  # fmt: skip
    grads = torch.rand(2, 4, dtype=dtype), torch.rand(2, 32, dtype=dtype)
    assert functions.tournament_backward(*grads, None, record, 32, 20.0).shape == (2, 32)
    with pytest.raises(RuntimeError, match="record must be"):
        functions.tournament_backward(*grads, None, FOREIGN[kind](record, other), 32, 20.0)


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tournament_backward_survives_records_with_random_bytes(dtype):
    """Check a hundred records with a few random bytes: each is refused, or gives gradients within bounds."""
    functions, draw = native.functions(), torch.Generator().manual_seed(0)
    refused = 0
    for length, k in [(32, 4), (27, 3), (600, 7), (64, 32)] * 25:
        padded_length = k << ((length - 1) // k).bit_length()
        record = functions.tournament(
            torch.rand(2, length, generator=draw, dtype=dtype), None, padded_length, k, 20.0, True, True
        )[-1]
        spots = torch.randint(record.numel(), (4,), generator=draw)
        record.view(-1)[spots] = torch.randint(256, (4,), generator=draw, dtype=torch.uint8)
        grads = torch.rand(2, k, dtype=dtype), torch.rand(2, length, dtype=dtype)
        try:
            assert functions.tournament_backward(*grads, None, record, padded_length, 20.0).shape == (2, length)
        except RuntimeError as error:
            assert "record must be" in str(error)
            refused += 1
    assert 0 < refused < 100


@compiled
@pytest.mark.parametrize("padded_length, k", [(32, 0), (33, 4), (16, 4), (2**40, 4), (-32, 4)])
def test_tournament_refuses_padded_lengths_and_k_that_do_not_fit(padded_length, k):
    functions, scores = native.functions(), torch.rand(2, 32)
    with pytest.raises(RuntimeError, match="cannot hold a tournament of 32 tokens"):
        functions.tournament(scores, None, padded_length, k, 20.0, True, True)
    with pytest.raises(RuntimeError, match="cannot hold a tournament of 32 tokens"):
        functions.tournament_backward(
            torch.rand(2, k), scores, None, torch.zeros(2, 8, dtype=torch.uint8), padded_length, 20.0
        )


@compiled
@pytest.mark.parametrize("base", [0.0, 1.0, -2.0])
def test_tournament_accepts_base_none_and_refuses_bases_up_to_one(base):
    functions, scores = native.functions(), torch.rand(2, 32)
    *_, record = functions.tournament(scores, None, 32, 4, None, True, True)
    assert functions.tournament_backward(torch.rand(2, 4), scores, None, record, 32, None).shape == (2, 32)
    with pytest.raises(RuntimeError, match="base must be above 1, or None"):
        functions.tournament(scores, None, 32, 4, base, True, True)
    with pytest.raises(RuntimeError, match="base must be above 1, or None"):
        functions.tournament_backward(torch.rand(2, 4), scores, None, record, 32, base)


@compiled
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("length, k, base", [(32, 8, 20.0), (27, 4, None)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_tournament_passes_opcheck(length, k, base, padded, dtype):
    scores = torch.rand(2, length, dtype=dtype, requires_grad=True)
    mask = torch.arange(length) >= torch.tensor([[length], [9]]) if padded else None
    torch.library.opcheck(tournament_ops.tournament_cpu, (scores, mask, 32, k, base, True, True))
    *_, record = tournament_ops.tournament_cpu(scores.detach(), mask, 32, k, base, True, True)
    gradients = torch.rand(2, k, dtype=dtype), torch.rand(2, length, dtype=dtype)
    torch.library.opcheck(tournament_ops.tournament_cpu_backward, (*gradients, mask, record, 32, base))
    apart = [x.t().contiguous().t() for x in gradients]
    torch.library.opcheck(tournament_ops.tournament_cpu_backward, (*apart, mask, record, 32, base))


@compiled
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 4100, 512, 1030, 0.3), (1, 9000, 251, 300, 0)], ids=str)
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)], ids=str)
def test_compiled_partition_sum_backward_errs_no_more_than_torch(shape, dtype, wanted):
    """Check also two large shapes: one is written past the caches, the other is not aligned for that."""
    (embeddings, weights, grad), (slots, _, _) = case(*shape)
    grad, embeddings = grad.to(dtype), embeddings.to(dtype)
    weights = weights.to(torch.promote_types(dtype, torch.float32))
    ours = partition_ops.partition_sum_backward_op(grad, embeddings, weights, slots, *wanted)
    plain = partition_sum_backward_torch(grad, embeddings, weights, slots, *wanted)
    exact = partition_sum_backward_torch(grad.double(), embeddings.double(), weights.double(), slots, *wanted)
    for our, operation, right in zip(ours, plain, exact):
        if right.numel():
            bound = 1e-13 if dtype == torch.float64 else 2 * (operation - right).abs().max()
            assert (our - right).abs().max() <= bound
    assert ours[0].dtype == dtype and ours[1].dtype == weights.dtype


@compiled
def test_float64_weights_of_float32_embeddings_get_float64_gradients(monkeypatch):
    """Check that torch's operations sum these, as the compiled functions support equal precisions only."""
    embeddings, scores, _ = random_case(2, 40, 16, seed=0)
    inputs = [embeddings.detach().float().requires_grad_(), scores]
    results = []
    for functions in (native.functions(), None):
        monkeypatch.setattr(native, "_FUNCTIONS", functions)
        played = tournament(scores, None, 5, 20.0, True, True)
        found = partition.partition_sum(inputs[0], played.weights, *played[1:2], *played[3:])
        results.append(torch.autograd.grad(found.sum(), inputs))
    assert results[0][1].dtype == torch.float64
    torch.testing.assert_close(results[0][1], results[1][1], rtol=0, atol=1e-12)


@compiled
def test_number_of_threads_does_not_change_results():
    embeddings, scores, mask = random_case(5, 700, 40, seed=3, padding="anywhere", dtype=torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            played = tournament(scores, mask, 60, 20.0, True, True)
            found = partition.partition_sum(embeddings, *played[2:0:-1], *played[3:])
            results.append((found, *torch.autograd.grad(found.square().sum(), [embeddings, scores])))
    finally:
        torch.set_num_threads(threads)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others))


def test_library_compiled_for_another_torch_is_ignored_with_a_warning(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, NAME, SimpleNamespace(torch_version="1.0.0"))
    with caplog.at_level(logging.WARNING):
        assert native._compiled() is None
    assert "compiled for 1.0.0" in caplog.text and "--no-build-isolation" in caplog.text
    fitting = SimpleNamespace(torch_version=torch.__version__, interface=native._INTERFACE)
    monkeypatch.setitem(sys.modules, NAME, fitting)
    assert native._compiled() is fitting


def test_library_compiled_from_older_sources_is_ignored_with_a_warning(monkeypatch, caplog):
    """Check that users who pull newer sources without compiling them are told what to do."""
    monkeypatch.setitem(sys.modules, NAME, SimpleNamespace(torch_version=torch.__version__))
    with caplog.at_level(logging.WARNING):
        assert native._compiled() is None
    assert "compiled from older sources" in caplog.text and "--no-build-isolation" in caplog.text


def test_library_that_fails_to_load_is_warned_about(monkeypatch, caplog):
    def missing(name):
        raise ImportError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(native.importlib, "import_module", missing)
    with caplog.at_level(logging.WARNING):
        assert native._compiled() is None
    assert "libgomp.so.1" in caplog.text


def test_missing_library_falls_back_to_torch_without_a_warning(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, NAME, None)  # as if the file did not exist
    assert native._compiled() is None and not caplog.text
    monkeypatch.setattr(native, "_FUNCTIONS", None)
    assert isinstance(tournament(torch.rand(2, 8), None, 2, 20.0, True, True), TournamentResult)
