"""Tests of partition_sum: values, gradients, torch.compile and autocast; and of the operator's cost."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pyramidion_fairseq.functional import TokenRecord, partition_sum, pool_by_record
from pyramidion_fairseq.functional import successive_halving_topk as pool
from pyramidion_fairseq.functional.reference import topk as reference
from pyramidion_fairseq.functional.topk import partition_ops
from tests.helpers.partition_cases import SHAPES, case
from tests.helpers.tensors import LargestTensor

pytestmark = pytest.mark.usefixtures("both_ways")


def arguments(shape, dtype=torch.float64):
    """Return differentiable (embeddings, weights), (slots, members, filled), and a gradient."""
    (embeddings, weights, grad), index = case(*shape)
    exact = torch.promote_types(dtype, torch.float32)
    return (embeddings.to(dtype).requires_grad_(), weights.to(exact).requires_grad_()), index, grad.to(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_partition_sum_equals_scattered_products(shape):
    floats, index, grad = arguments(shape)
    ours = partition_sum(*floats, *index)
    plain = pool_by_record(floats[0], TokenRecord(index[0], floats[1]), shape[2])
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
    for a, b in zip(torch.autograd.grad(ours, floats, grad), torch.autograd.grad(plain, floats, grad)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_partition_sum_ignores_placeholders_that_point_at_nan():
    (x, weights), (slots, members, filled), grad = arguments((3, 24, 5, 7, 0.4), torch.float32)
    padding = weights.detach() == 0
    assert padding.any(dim=1).all()
    holed = x.detach().masked_fill(padding.unsqueeze(2), torch.nan).requires_grad_()
    first = padding.byte().argmax(dim=1)[:, None, None]  # padding of each document
    expected = partition_sum(x, weights, slots, members, filled)
    found = partition_sum(holed, weights, slots, torch.where(filled, members, first), filled)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y, z, grad)[0] for y, z in ((found, holed), (expected, x))))


@pytest.mark.parametrize("shape", [(2, 8, 8, 2, 0), (2, 13, 4, 3, 0.4)], ids=str)
def test_partition_sum_passes_gradcheck(shape):
    floats, index, _ = arguments(shape)
    used = floats[1].detach() > 0  # the weight of padding is a constant 0
    assert torch.autograd.gradcheck(lambda e, w: partition_sum(e, w * used, *index), floats)


@pytest.mark.parametrize(
    "shape, dtype", [((2, 16, 4, 5, 0), torch.bfloat16), ((3, 24, 5, 7, 0.4), torch.float32)], ids=str
)
def test_partition_sum_passes_opcheck(shape, dtype):
    (embeddings, weights), (slots, members, filled), grad = arguments(shape, dtype)
    torch.library.opcheck(partition_ops.partition_sum_op, (embeddings, weights, slots, members, filled))
    for wanted in ((True, True), (True, False), (False, True)):
        plain = [x.detach() for x in (grad, embeddings, weights)]
        torch.library.opcheck(partition_ops.partition_sum_backward_op, (*plain, slots, *wanted))


def test_partition_sum_refuses_second_derivatives():
    floats, index, _ = arguments((2, 16, 4, 5, 0))
    (first,) = torch.autograd.grad(partition_sum(*floats, *index).square().sum(), floats[0], create_graph=True)
    with pytest.raises(RuntimeError, match="pooling is differentiable once"):
        torch.autograd.grad(first.sum(), floats[0])


@pytest.mark.parametrize("length, k, padded", [(32, 8, False), (27, 4, True)])  # without padding; with a mask and byes
def test_torch_compile_has_no_graph_break_and_equals_eager(length, k, padded):
    torch.manual_seed(0)
    embeddings, scores = torch.randn(2, length, 6, requires_grad=True), torch.rand(2, length, requires_grad=True)
    mask = torch.arange(length) >= torch.tensor([[length], [9]]) if padded else None
    compiled = torch.compile(pool, fullgraph=True, backend="aot_eager")
    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"  # torch 2.6
    with torch._dynamo.config.patch({limit: 16}):
        results = [f(embeddings, scores, k, padding_mask=mask) for f in (pool, compiled)]
    grads = [torch.autograd.grad(r.embeddings.square().sum() + r.scores.sum(), [embeddings, scores]) for r in results]
    for eager, other in zip((*results[0], *grads[0]), (*results[1], *grads[1])):
        assert eager is None or torch.equal(eager, other) or torch.allclose(eager, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_does_not_change_results(dtype):
    torch.manual_seed(0)
    embeddings, scores = torch.randn(2, 32, 6, dtype=dtype, requires_grad=True), torch.rand(2, 32, requires_grad=True)
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            pooled = pool(embeddings, scores, 8)
        grads = torch.autograd.grad(pooled.embeddings.float().square().sum(), [embeddings, scores])
        results.append((pooled.embeddings, pooled.scores, pooled.weights, *grads))
    assert all(torch.equal(a, b) for a, b in zip(*results))


@pytest.mark.paper("alg-1")
@pytest.mark.parametrize("base", [20.0, None])
@pytest.mark.parametrize("length, k", [(64, 16), (64, 2), (32, 32)])
def test_successive_halving_equals_algorithm_1_as_printed(length, k, base):
    torch.manual_seed(0)
    inputs = [x.double().requires_grad_() for x in (torch.randn(3, length, 5), torch.rand(3, length))]
    ours, plain = pool(*inputs, k, base=base, preserve_order=False)[:2], reference.algorithm_1(*inputs, k, base)
    for a, b in zip(ours, plain):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    grads = [torch.autograd.grad(r[0].square().sum() + r[1].sum(), inputs) for r in (ours, plain)]
    for a, b in zip(*grads):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


class Operations(TorchDispatchMode):
    """Count the operations that reach the dispatcher."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_two_rounds_take_at_most_100_operations_for_any_batch_size():
    counts = set()
    for batch in (1, 2, 16):
        embeddings, scores = torch.randn(batch, 64, 6, requires_grad=True), torch.rand(batch, 64, requires_grad=True)
        with Operations() as forward:
            pooled = pool(embeddings, scores, 16)
        with Operations() as backward:
            pooled.embeddings.sum().backward()
        counts.add((forward.count, backward.count))
    assert len(counts) == 1
    assert 2 < forward.count <= 100 and 2 < backward.count <= 100


def test_pooling_allocates_nothing_larger_than_the_embeddings():
    """Check the largest tensors: a tournament of embeddings would copy them, pairs of scores would be (B, n, n)."""
    embeddings, scores = torch.randn(2, 256, 64, requires_grad=True), torch.rand(2, 256, requires_grad=True)
    with LargestTensor() as forward:
        pooled = pool(embeddings, scores, 32)
    assert forward.nbytes == pooled.embeddings.nbytes == embeddings.nbytes // 8
    with LargestTensor() as backward:
        pooled.embeddings.sum().backward()
    assert backward.nbytes == embeddings.nbytes
