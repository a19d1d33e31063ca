"""Tests of the Triton kernels of partition_sum against torch: on a GPU if there is one, else in the interpreter."""

import pytest
import torch

from pyramidion_fairseq.functional import pool_by_record
from pyramidion_fairseq.functional.topk import partition
from pyramidion_fairseq.functional.topk.partition_torch import partition_sum_backward_torch, partition_sum_torch
from pyramidion_fairseq.functional.topk.provenance import TokenRecord
from tests.helpers import needs
from tests.helpers.partition_cases import SHAPES, case

triton = pytest.importorskip("triton", reason="Triton is made for Linux only")
partition_triton = pytest.importorskip("pyramidion_fairseq.functional.topk.partition_triton")
interpreting = pytest.importorskip("tests.helpers.interpreting")

interpreting.use()
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"


def at(tensors, dtype):
    """Move tensors to the device under test, in the given precision, the weights in float32 at least."""
    embeddings, weights, grad = tensors
    exact = torch.promote_types(dtype, torch.float32)
    return embeddings.to(DEVICE, dtype), weights.to(DEVICE, exact), grad.to(DEVICE, dtype)


def assert_errs_no_more(ours, reference, exact):
    error, allowed = ((x.double() - exact).abs().max().item() for x in (ours, reference))
    # Triton's interpreter truncates float32 to bfloat16, by up to a spacing; a GPU rounds to the nearest.
    cut = 0.0 if GPU or ours.dtype != torch.bfloat16 else torch.finfo(ours.dtype).eps * exact.abs().max().item()
    assert ours.dtype == reference.dtype and error <= 2 * allowed + cut, f"{error} > 2 * {allowed} + {cut}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_partition_kernels_err_no_more_than_torch(shape, dtype):
    floats, index = case(*shape)
    embeddings, weights, grad = at(floats, dtype)
    slots, members, filled = (x if x is None else x.to(DEVICE) for x in index)
    exact = [x.double() for x in (embeddings, weights, grad)]

    def compare(ours, reference, exact):
        assert_errs_no_more(ours.cpu(), reference.cpu(), exact.cpu())

    compare(
        partition_triton.partition_sum(embeddings, weights, members, filled),
        partition_sum_torch(embeddings, weights, members, filled),
        partition_sum_torch(exact[0], exact[1], members, filled),
    )
    ours, plain, truth = (
        function(*tensors, slots, True, True)
        for function, tensors in (
            (partition_triton.partition_sum_backward, (grad, embeddings, weights)),
            (partition_sum_backward_torch, (grad, embeddings, weights)),
            (partition_sum_backward_torch, (exact[2], exact[0], exact[1])),
        )
    )
    for gradient in zip(ours, plain, truth):
        compare(*gradient)


def test_unfilled_slots_and_zero_weights_give_zeros_despite_nan():
    """Check infinite or NaN embeddings behind placeholders, and such gradients of the slots."""
    floats, index = case(2, 33, 4, 17, 1.0)
    embeddings, weights, grad = at(floats, torch.float32)
    slots, members, filled = (x.to(DEVICE) for x in index)
    for sums, backward in (
        (partition_triton.partition_sum, partition_triton.partition_sum_backward),
        (partition_sum_torch, partition_sum_backward_torch),
    ):
        assert not filled.any() and sums(embeddings / 0, weights, members, filled).abs().sum() == 0
        assert backward(grad / 0, embeddings, weights, slots, True, False)[0].abs().sum() == 0


def test_backward_kernel_computes_only_the_wanted_gradients():
    floats, (slots, _, _) = case(2, 16, 4, 5, 0)
    embeddings, weights, grad = at(floats, torch.float32)
    both = partition_triton.partition_sum_backward(grad, embeddings, weights, slots.to(DEVICE), True, True)
    for wanted in ((True, False), (False, True), (False, False)):
        found = partition_triton.partition_sum_backward(grad, embeddings, weights, slots.to(DEVICE), *wanted)
        for ours, full, want in zip(found, both, wanted):
            assert torch.equal(ours, full) if want else ours.numel() == 0


def test_partition_kernels_accept_any_memory_layout():
    floats, index = case(3, 20, 4, 6, 0.3)
    embeddings, weights, grad = at(floats, torch.float32)
    slots, members, filled = (x.to(DEVICE) for x in index)

    def run(embeddings, weights, grad, slots, members, filled):
        return (
            partition_triton.partition_sum(embeddings, weights, members, filled),
            *partition_triton.partition_sum_backward(grad, embeddings, weights, slots, True, True),
        )

    expected = run(embeddings, weights, grad, slots, members, filled)
    for turned in ((0, 1), (1, 2), (0, 2)):
        relaid = []
        for x in (embeddings, weights, grad, slots, members, filled):
            dims = turned if x.dim() == 3 else (0, 1)
            relaid.append(x.transpose(*dims).contiguous().transpose(*dims))
        assert all(torch.equal(a, b) for a, b in zip(run(*relaid), expected))


def test_partition_kernels_ignore_nan_in_padding_and_accept_empty_batches():
    (embeddings, weights, grad), (slots, members, filled) = case(2, 24, 5, 6, 0.5)
    embeddings, weights, grad = at((embeddings, weights, grad), torch.float32)
    embeddings[(weights == 0)] = float("nan")
    members, filled = members.to(DEVICE), filled.to(DEVICE)
    assert partition_triton.partition_sum(embeddings, weights, members, filled).isfinite().all()
    none = [x[:0] for x in (grad, embeddings, weights, slots.to(DEVICE))]
    assert partition_triton.partition_sum(none[1], none[2], members[:0], None).shape == (0, 5, 6)
    assert partition_triton.partition_sum_backward(*none, True, True)[0].shape == (0, 24, 6)


@pytest.mark.skipif(not GPU, reason=needs.A_GPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_partition_sum_on_a_gpu_uses_the_kernels(dtype, monkeypatch):
    floats, index = case(3, 64, 8, 96, 0.3)
    embeddings, weights, grad = (x.requires_grad_() for x in at(floats, dtype))
    slots, members, filled = (x.to(DEVICE) for x in index)
    taken = []
    real = partition_triton.partition_sum
    monkeypatch.setattr(partition_triton, "partition_sum", lambda *args: taken.append(1) or real(*args))
    out = partition.partition_sum(embeddings, weights, slots, members, filled)
    out.backward(grad.detach())
    assert taken and embeddings.grad.isfinite().all() and weights.grad.isfinite().all()
    plain = pool_by_record(embeddings.detach().double(), TokenRecord(slots, weights.detach().double()), 8)
    torch.testing.assert_close(out.double(), plain, rtol=2e-2, atol=2e-2)
