"""Tests of the Triton kernels of the tournament against torch: on a GPU if there is one, else in the interpreter."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pyramidion_fairseq.functional import successive_halving_topk
from pyramidion_fairseq.functional.topk import native, tournament_ops
from pyramidion_fairseq.functional.topk.gpu import Kernels
from pyramidion_fairseq.functional.topk.tournament import TournamentResult, tournament
from pyramidion_fairseq.functional.topk.tournament_torch import tournament_torch
from tests.helpers import needs
from tests.helpers.topk import outputs_and_gradients, random_case
from tests.helpers.tournament_cases import assert_same, hold

triton = pytest.importorskip("triton", reason="Triton is made for Linux only")
kernels = pytest.importorskip("pyramidion_fairseq.functional.topk.tournament_triton")
ranks = pytest.importorskip("pyramidion_fairseq.functional.topk.tournament_triton_ranks")
gradient = pytest.importorskip("pyramidion_fairseq.functional.topk.tournament_triton_gradient")

interpreting = pytest.importorskip("tests.helpers.interpreting")

interpreting.use()
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # in masked lanes


#: Every size with every padding; order and base alternate along both, so that any two values meet.
PAIRS = [
    (*size, padding, (i + j) % 2 == 0, (20.0, None)[(i // 2 + j) % 2])
    for i, size in enumerate([(2, 1), (8, 2), (13, 3), (40, 39)])
    for j, padding in enumerate([None, "right", "left", "anywhere"])
]


@pytest.fixture
def taken(monkeypatch):
    """Use the kernels on any device: in the interpreter, the tensors of the tests are on the CPU."""
    monkeypatch.setattr(native, "_FUNCTIONS", None)
    monkeypatch.setattr(Kernels, "supports", lambda self, *tensors: self is tournament_ops.kernels)


@pytest.fixture
def small_chunks(monkeypatch):
    """Sort rounds of few candidates in several chunks, too."""
    monkeypatch.setattr(ranks, "_chunk_size", lambda size: min(8, triton.next_power_of_2(size)))


def both(scores, mask, k, base, preserve_order, sort=True):
    """Return (TournamentResult, gradient of the scores) of the kernels and of torch's operations."""
    scores = scores.detach().to(DEVICE).requires_grad_()
    mask = None if mask is None else mask.to(DEVICE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_FUNCTIONS", None)
        results = []
        for supports in (lambda self, *tensors: True, lambda self, *tensors: False):
            patch.setattr(Kernels, "supports", supports)
            results.append(hold(scores, mask, k, base, sort, preserve_order))
    return results


@pytest.mark.parametrize("length, k, padding, preserve_order, base", PAIRS)
def test_tournament_kernels_equal_torch(length, k, base, preserve_order, padding, small_chunks):
    _, scores, mask = random_case(3, length, 1, seed=length, padding=padding, dtype=torch.float32)
    assert_same(both(scores, mask, k, base, preserve_order), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", [None, "right", "anywhere"])
@pytest.mark.parametrize("preserve_order", [True, False])
@pytest.mark.parametrize("length, k", [(13, 3), (40, 5)])
def test_tournament_kernels_without_sorting_equal_torch(length, k, preserve_order, padding, small_chunks):
    """Check the ablation of Appendix B.5, in which candidates keep their order."""
    _, scores, mask = random_case(3, length, 1, seed=length, padding=padding, dtype=torch.float32)
    assert_same(both(scores, mask, k, 20.0, preserve_order, sort=False), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", [None, "anywhere"])
def test_tournament_kernels_break_ties_like_torch(padding, small_chunks):
    _, scores, mask = random_case(3, 40, 1, seed=0, ties=True, padding=padding, dtype=torch.float32)
    assert_same(both(scores, mask, 5, 20.0, True), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(GPU or not interpreting.IS_KNOWN, reason="kernels are not interpreted, or in the only way")
def test_kernels_give_the_same_results_in_the_unmodified_interpreter(small_chunks, monkeypatch):
    _, scores, mask = random_case(2, 13, 1, seed=0, padding="anywhere", dtype=torch.float32)
    ((ours, gradient), _) = both(scores, mask, 3, 20.0, True)
    for place, name, value in interpreting.own_way():
        monkeypatch.setattr(place, name, value)
    ((own, expected), _) = both(scores, mask, 3, 20.0, True)
    assert all(torch.equal(getattr(ours, name), getattr(own, name)) for name in ("slots", "members", "filled"))
    assert torch.equal(ours.weights, own.weights) and torch.equal(gradient, expected)


def test_tournament_kernels_equal_torch_with_default_chunk_sizes():
    """Check rounds that are sorted in chunks of 1,024, 256, 256 and 128."""
    generator = torch.Generator().manual_seed(0)  # scores so far apart that rounding exchanges no two of them
    scores = torch.randperm(1500, generator=generator)[None].float() / 1500
    assert_same(both(scores, None, 100, 20.0, True), rtol=1e-5, atol=1e-4)  # gradients go up to 20


@pytest.mark.parametrize("length, k", [(50, 25), (49, 25)])
def test_kernels_sort_special_scores_like_torch(length, k, small_chunks):
    """Check one round, in which the sort alone decides who meets whom: it must be the same for any scores."""
    info = torch.finfo(torch.float32)
    special = torch.tensor([0.0, -0.0, info.smallest_normal, -info.tiny, info.max, -info.max,
                            float("inf"), -float("inf"), 1.0, -1.0])  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for scores in (
        special[torch.randint(0, len(special), (3, length), generator=generator)],
        torch.randn(3, length, generator=generator) * 100,
        special[:1].expand(3, length),
    ):
        assert_same(both(scores, None, k, 20.0, True), rtol=1e-5, atol=1e-5)


def test_tournament_kernels_keep_nan_and_give_every_token_a_slot(small_chunks):
    """Check that NaN stays NaN, and that every token is a member of one slot."""
    scores = torch.rand(2, 40, generator=torch.Generator().manual_seed(0))
    scores[:, 7], scores[1, 9] = float("nan"), -float("nan")
    (played, gradient), _ = both(scores, None, 5, 20.0, True)
    assert torch.equal(played.members[played.filled].view(2, 40).sort().values.cpu(), torch.arange(40).expand(2, 40))
    assert played.weights.isnan().any(dim=1).all() and gradient.isnan().any(dim=1).all()


@pytest.mark.parametrize("base", [20.0, None])
def test_infinite_scores_give_finite_gradients(base, taken, small_chunks):
    """Check large incoming gradients, as with scaled losses."""
    scores = torch.rand(8, 40, generator=torch.Generator().manual_seed(0))
    scores[:, ::7], scores[:, 1::7] = float("inf"), -float("inf")
    scores = scores.to(DEVICE).requires_grad_()
    played = tournament(scores, None, 5, base, True, True)
    loss = (played.slot_scores.sum() + played.weights[:, ::3].sum()) * 65536
    assert torch.autograd.grad(loss, scores)[0].isfinite().all()


def test_gradient_kernel_equals_torch_for_many_slots_and_for_one_large_slot():
    """Check more slots than one program handles, the last group incomplete, and one slot larger than a tile."""
    generator = torch.Generator().manual_seed(0)
    for batch, length, k, base in ((3, 2000, 999, 20.0), (1, 3000, 1, None)):
        padding = torch.rand(batch, length, generator=generator) < 0.1
        scores = torch.rand(batch, length, generator=generator).double().requires_grad_()
        padded_length = k << ((length - 1) // k).bit_length()
        plain = tournament_torch(scores, padding, padded_length, k, base, True, True)
        grads = [torch.randn(batch, size, generator=generator) for size in (k, length)]
        exact = torch.autograd.grad([plain.slot_scores, plain.weights], scores, [x.double() for x in grads])[0]
        inputs = (x.detach().to(DEVICE) for x in (*grads, scores.float(), plain.members, plain.filled))
        ours = gradient.tournament_backward(*inputs, base)
        torch.testing.assert_close(ours.cpu().double(), exact, rtol=1e-4, atol=2e-4 if base else 1e-6)


@pytest.mark.parametrize("padding", [None, "right"])
def test_successive_halving_with_kernels_equals_torch_in_float64(padding, taken, small_chunks):
    """Check the operator with kernels for the tournament alone, also through torch.compile."""
    embeddings, scores, mask = random_case(3, 40, 6, seed=2, padding=padding, dtype=torch.float32)
    embeddings, scores = (x.detach().to(DEVICE).requires_grad_() for x in (embeddings, scores))
    mask = None if mask is None else mask.to(DEVICE)
    exact = [x.detach().double().requires_grad_() for x in (embeddings, scores)]
    torch._dynamo.reset()  # tests of other files compiled the operator for other shapes
    plain, expected = outputs_and_gradients(successive_halving_topk, *exact, 5, padding_mask=mask)
    operator = (
        successive_halving_topk
        if padding
        else torch.compile(successive_halving_topk, backend="aot_eager", fullgraph=True)
    )
    ours, gradients = outputs_and_gradients(operator, embeddings, scores, 5, padding_mask=mask)
    assert torch.equal(ours.slot_of_token, plain.slot_of_token)
    for a, b in zip((ours.embeddings, ours.scores, ours.weights, *gradients),
                    (plain.embeddings, plain.scores, plain.weights, *expected)):  # fmt: skip
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length, padding", [(32, None), (30, "right")])
def test_tournament_kernels_pass_opcheck(length, padding, small_chunks):
    _, scores, mask = random_case(2, length, 1, seed=0, padding=padding, dtype=torch.float32)
    scores, mask = scores.detach().to(DEVICE).requires_grad_(), None if mask is None else mask.to(DEVICE)
    torch.library.opcheck(tournament_ops.tournament_gpu, (scores, mask, 32, 8, 20.0, True, True))
    *_, members, filled = tournament_ops.tournament_gpu(scores.detach(), mask, 32, 8, 20.0, True, True)
    grads = torch.randn(2, 8, device=DEVICE), torch.randn(2, length, device=DEVICE)
    arguments = (*grads, scores.detach(), members, filled, 20.0)
    torch.library.opcheck(tournament_ops.tournament_gpu_backward, arguments)


def test_tournament_kernels_accept_any_memory_layout_and_empty_batches(small_chunks):
    _, scores, mask = random_case(3, 20, 1, seed=0, padding="anywhere", dtype=torch.float32)
    scores, mask = scores.detach().to(DEVICE), mask.to(DEVICE)
    expected = kernels.tournament(scores, mask, 24, 3, 20.0, True, True)
    relaid = kernels.tournament(scores.t().contiguous().t(), mask.t().contiguous().t(), 24, 3, 20.0, True, True)
    assert all(torch.equal(a, b) for a, b in zip(expected, relaid))
    grads = torch.randn(3, 3, device=DEVICE), torch.randn(3, 20, device=DEVICE)
    of_scores = gradient.tournament_backward(*grads, scores, *expected[3:], 20.0)
    turned = [x.t().contiguous().t() for x in (*grads, scores)]
    assert torch.equal(of_scores, gradient.tournament_backward(*turned, *expected[3:], 20.0))
    none = kernels.tournament(scores[:0], mask[:0], 24, 3, 20.0, True, True)
    assert [tuple(x.shape) for x in none] == [(0, 3), (0, 20), (0, 20), (0, 3, 8), (0, 3, 8)]
    assert gradient.tournament_backward(*(x[:0] for x in (*grads, scores, *none[3:])), 20.0).shape == (0, 20)


def test_tournament_launches_two_kernels_per_round_and_three_more(monkeypatch):
    """Check that the batch size does not matter: a small batch costs what the host has to launch."""
    launches = []
    of_rounds = ("_sort_kernel", "_rank_kernel", "_keep_order_kernel")
    for name in (*of_rounds, "_walk_kernel", "_slot_order_kernel", "_scatter_members_kernel"):

        class Counted:
            def __getitem__(self, grid, name=name):
                return lambda *args, **options: launches.append(name)

        monkeypatch.setattr(ranks if name in of_rounds else kernels, name, Counted())
    for batch in (1, 16):
        launches.clear()
        kernels.tournament(torch.rand(batch, 8192), None, 8192, 512, 20.0, True, True)
        assert len(launches) == 4 * 2 + 3
        launches.clear()
        kernels.tournament(torch.rand(batch, 8192), None, 8192, 512, 20.0, False, True)
        assert launches[:4] == ["_keep_order_kernel"] * 4 and len(launches) == 4 + 3


@torch.no_grad()
def test_cuda_tensors_are_dispatched_to_the_kernels():
    """Check the dispatch with fake tensors, which have a device and a shape, but no data."""
    taken = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            taken.append(function.name().partition("::")[2].partition(".")[0])
            return function(*args, **(kwargs or {}))

    with FakeTensorMode(), Record():
        embeddings = torch.empty(16, 8192, 768, device="cuda", dtype=torch.bfloat16)
        pooled = successive_halving_topk(embeddings, torch.empty(16, 8192, device="cuda"), 512)
    assert taken[-2:] == ["tournament_gpu", "partition_sum"] and len(taken) < 12
    assert pooled.embeddings.shape == (16, 512, 768) and pooled.embeddings.device.type == "cuda"
    assert pooled.padding_mask is None and pooled.weights.shape == pooled.slot_of_token.shape == (16, 8192)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Return {architecture: [[kernel, bytes that a thread spills]]} of an A100 and an H100, from a new process."""
    cache = tmp_path_factory.mktemp("cache")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "tests.helpers.compile_kernels", "80", "90"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {}
    for architecture, *kernel in map(str.split, done.stdout.splitlines()):
        found.setdefault(int(architecture), []).append(kernel)
    return found


@pytest.mark.parametrize("architecture", [80, 90])
def test_kernels_compile_for_a100_and_h100_without_spilling_registers(compiled, architecture):
    """Check every kernel with every kind of argument: it compiles without a GPU, and no thread spills registers."""
    spilled = compiled[architecture]
    assert {name for name, _ in spilled} == {
        "_sort_kernel", "_rank_kernel", "_keep_order_kernel", "_walk_kernel", "_slot_order_kernel",
        "_scatter_members_kernel", "_gradient_kernel", "_sum_kernel", "_sum_backward_kernel",
    }  # fmt: skip
    assert all(int(spill) == 0 for _, spill in spilled), spilled


def test_kernels_use_tuples_only_in_returns_and_subscripts():
    """Check the sources: Triton 3.2, which torch 2.6 requires, supports tuples only as return values."""
    functions = 0
    for path in Path(kernels.__file__).parent.glob("*triton*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and "triton.jit" in map(ast.unparse, function.decorator_list):
                functions += 1
                nodes = list(ast.walk(function))
                known = {id(x.value) for x in nodes if isinstance(x, ast.Return)}
                known |= {id(x.slice) for x in nodes if isinstance(x, ast.Subscript)}
                tuples = [x for x in nodes if isinstance(x, ast.Tuple) and isinstance(x.ctx, ast.Load)]
                assert not [ast.unparse(x) for x in tuples if id(x) not in known], function.name
    assert functions > 9


@pytest.mark.skipif(not GPU, reason=needs.A_GPU)
def test_tournament_on_a_gpu_uses_the_kernels(monkeypatch):
    real, calls = kernels.tournament, []
    monkeypatch.setattr(kernels, "tournament", lambda *args: calls.append(1) or real(*args))
    scores = torch.rand(4, 8192, device="cuda")
    ours = tournament(scores, None, 512, 20.0, True, True)
    assert calls and isinstance(ours, TournamentResult)
    plain = tournament_torch(scores.double(), None, 8192, 512, 20.0, True, True)
    assert (ours.slots == plain.slots).float().mean() > 0.99
