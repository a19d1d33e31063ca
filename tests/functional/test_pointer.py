"""Tests of copying through poolings against explicit distributions over the tokens, gradients included."""

import pytest
import torch

from pyramidion_fairseq.functional import (
    CopySource,
    copy_attention,
    copy_distribution,
    copy_probability,
    histories,
    mix_log_probabilities,
)
from pyramidion_fairseq.functional.reference import pointer as reference_pointer
from pyramidion_fairseq.models.pointer import PointerOutput
from tests.helpers.tensors import LargestTensor

VOCABULARY = 23


def random_case(batch=2, n=30, k=7, t=5, seed=0, dtype=torch.float64, words=9, context=3, unknown=0):
    """Return attention over k vectors, a source, targets and histories.

    Three vectors hold no tokens, some tokens are dropped, and every ``unknown``-th token cannot be copied.
    """
    generator = torch.Generator().manual_seed(seed)
    attention = torch.randn(batch, t, k, generator=generator, dtype=dtype).softmax(2)
    slots = torch.randint(0, k - 3, (batch, n), generator=generator)
    weights = torch.rand(batch, n, generator=generator, dtype=dtype)
    weights[:, 4::5] = 0  # dropped
    sums = weights.new_zeros(batch, k).scatter_add(1, slots, weights)
    weights = weights / sums.gather(1, slots).clamp(min=1e-30)
    tokens = torch.randint(4, 4 + words, (batch, n), generator=generator)
    if unknown:
        tokens[:, ::unknown] = -1
    targets = torch.randint(4, 4 + words, (batch, t), generator=generator)
    past = torch.randint(4, 4 + words, (batch, t), generator=generator)
    common = min(n, t) // 2
    passage = tokens[:, -common:] if common else past[:, :0]
    past[:, :common] = passage.masked_fill(passage < 0, 3)  # of the source; 3 is <unk>
    past[0, -1] = VOCABULARY - 1  # not in the source, nor is the last target
    targets[-1, -1] = VOCABULARY - 1
    return attention, CopySource(tokens, slots, weights), targets, histories(past, context, t)


@pytest.mark.parametrize("seed, unknown", enumerate([0, 1, 2, 7]))
@pytest.mark.parametrize(
    "n, k, t, context", [(30, 7, 5, 3), (30, 7, 9, 1), (1, 4, 1, 2), (64, 5, 40, 5), (2, 4, 3, 4), (30, 7, 5, 0)]
)
def test_pointer_mixture_equals_explicit_distributions(n, k, t, context, unknown, seed):
    attention, source, targets, history = random_case(n=n, k=k, t=t, seed=seed, context=context, unknown=unknown)
    generator = torch.Generator().manual_seed(seed + 1)
    logits = torch.randn(2, t, VOCABULARY, generator=generator, dtype=torch.float64).requires_grad_()
    gates = torch.randn(2, t, 3, generator=generator, dtype=torch.float64).requires_grad_()
    attention.requires_grad_()
    weights = source.weights.clone().requires_grad_()
    source = source._replace(weights=weights)
    inputs = (logits, gates, attention, weights)

    pointer = PointerOutput(gates.log_softmax(2), copy_attention(attention, source), history, source)
    fast = pointer.log_probabilities(logits)
    at_target = logits.log_softmax(2).gather(2, targets.unsqueeze(2)).squeeze(2)
    of_targets = pointer.target_log_probabilities(at_target, targets, VOCABULARY)
    slow = reference_pointer.mixed_distribution(logits, gates, attention, source, history)

    torch.testing.assert_close(fast.exp(), slow, rtol=0, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(pointer.log_probabilities(logits), fast, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(slow.sum(2), torch.ones(2, t, dtype=torch.float64), rtol=0, atol=1e-12)
    expected = slow.gather(2, targets.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(of_targets.exp(), expected, rtol=0, atol=1e-10)
    wanted = torch.autograd.grad(expected.log().sum(), inputs, retain_graph=True)
    for loss in (of_targets.sum(), fast.gather(2, targets.unsqueeze(2)).sum()):
        for ours, theirs in zip(torch.autograd.grad(loss, inputs, retain_graph=True), wanted):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_copy_probabilities_match_hand_computed_values():
    # Two vectors: the first holds tokens 5 and 6, the second 5 alone; 6 follows 5.
    source = CopySource(torch.tensor([[5, 6, 5]]), torch.tensor([[0, 0, 1]]), torch.tensor([[0.25, 0.75, 1.0]]))
    attention = torch.tensor([[[0.4, 0.6]]])
    targets, previous = torch.tensor([[5]]), torch.tensor([[[5]]])
    never, always = torch.zeros(1, 1), torch.ones(1, 1)
    assert copy_probability(attention, source, targets, previous, never, 9)[0].item() == pytest.approx(0.1 + 0.6)
    assert copy_probability(attention, source, targets, previous, always, 9)[0].item() == 0  # only 6 follows 5
    assert copy_probability(attention, source, targets + 1, previous, always, 9)[0].item() == pytest.approx(1)
    whole, left = copy_distribution(attention, source, previous, never, 9)
    assert left.item() == 0
    assert whole.flatten().tolist() == pytest.approx([0, 0, 0, 0, 0, 0.7, 0.3, 0, 0])
    # Nothing follows token 8: the continuation is a copy from anywhere.
    ends = torch.tensor([[[8]]])
    assert copy_probability(attention, source, targets, ends, always, 9)[0].item() == pytest.approx(0.7)


def test_copy_attention_gives_vectors_without_tokens_no_weight():
    attention, source, _, _ = random_case()
    pointing = copy_attention(attention, source)
    assert (pointing[:, :, -3:] == 0).all()
    torch.testing.assert_close(pointing.sum(2), torch.ones(2, 5, dtype=torch.float64))


def test_copy_probability_allocates_no_matrix_of_tokens_or_symbols():
    n, k, t, vocabulary = 4096, 16, 64, 32_000
    attention, source, targets, history = random_case(1, n, k, t, dtype=torch.float32, words=3000)
    with LargestTensor() as largest:
        copy_probability(attention, source, targets, history, torch.full((1, t), 0.5), vocabulary)
    assert largest.numel <= max(t * k, n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_pointer_in_low_precision_stays_finite_for_unlikely_symbols(dtype):
    attention, source, _, history = random_case(dtype=torch.float32)
    logits = torch.zeros(2, 5, VOCABULARY, dtype=dtype)
    logits[:, :, 0] = 300.0  # nothing else can be written
    logits.requires_grad_()
    gates = torch.tensor([0.0, -60.0, -60.0]).expand(2, 5, 3).to(dtype).float().log_softmax(2)
    pointing = copy_attention(attention.to(dtype), source)
    pointer = PointerOutput(gates, pointing, history, source)
    mixed = pointer.log_probabilities(logits)
    assert mixed.isfinite().all() and mixed.dtype == torch.float32
    torch.testing.assert_close(mixed.exp().sum(2), torch.ones(2, 5), rtol=0, atol=1e-5)
    with torch.no_grad():
        of_step = pointer.log_probabilities(logits)
    above = mixed > -80  # below it the sum with gradients has a floor
    assert of_step.isfinite().all() and above.any(dim=2).all() and (of_step[~above] < -80).all()
    torch.testing.assert_close(of_step[above], mixed[above], rtol=1e-5, atol=1e-5)
    mixed.sum().backward()
    assert logits.grad.isfinite().all()


def test_tokens_with_weight_zero_get_a_gradient():
    """Check a token of weight 0 that should have been copied: its gradient raises the weight."""
    source = CopySource(torch.tensor([[5, 6]]), torch.tensor([[0, 0]]), torch.tensor([[1.0, 0.0]], requires_grad=True))
    written = torch.tensor([[-9.0]])
    targets, previous, anywhere = torch.tensor([[6]]), torch.tensor([[[8]]]), torch.zeros(1, 1)
    copied, _ = copy_probability(torch.ones(1, 1, 1), source, targets, previous, anywhere, 9)
    half = torch.tensor([[0.5]]).log()
    mix_log_probabilities(written, half, copied, half).sum().backward()
    assert source.weights.grad[0, 1].item() == pytest.approx(1 / torch.tensor(-9.0).exp().item(), rel=1e-3)
    assert source.weights.grad[0, 0].item() == 0


def test_continuation_follows_the_longest_common_passage():
    """Check a source in which 9 or 10 follows the passage 7 8, but only 9 follows 5 7 8."""
    tokens = torch.tensor([[5, 7, 8, 9, 6, 7, 8, 10]])
    source = CopySource(tokens, torch.zeros_like(tokens), torch.full((1, 8), 1 / 8, dtype=torch.float64))
    attention, always = torch.ones(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    history = torch.tensor([[[8, 7, 5]]])
    two = copy_distribution(attention, source, history[:, :, :2], always, 12)[0][0, 0]
    assert two[9].item() == pytest.approx(0.5) and two[10].item() == pytest.approx(0.5)
    three = copy_distribution(attention, source, history, always, 12)[0][0, 0]
    assert three[9].item() == pytest.approx(100 / 101) and three[10].item() == pytest.approx(1 / 101)
    for token in (9, 10, 6):
        one, _ = copy_probability(attention, source, torch.tensor([[token]]), history, always, 12)
        assert one.item() == pytest.approx(three[token].item(), abs=1e-12)


def test_continuation_in_the_example_of_the_docstring():
    """Check that in the document 1 2 1 3, after 2 1, a continuation is 3 with probability 100 / 101."""
    tokens = torch.tensor([[1, 2, 1, 3]])
    source = CopySource(tokens, torch.arange(4).unsqueeze(0), torch.ones(1, 4, dtype=torch.float64))
    attention, always = torch.full((1, 1, 4), 0.25, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    for target, expected in ((1, 0), (2, 1 / 101), (3, 100 / 101)):
        found, _ = copy_probability(attention, source, torch.tensor([[target]]), torch.tensor([[[1, 2]]]), always, 4)
        assert found.item() == pytest.approx(expected)


def test_passage_continues_at_a_vector_without_attention_with_the_floors_share():
    """Check that 5 is followed by 6 in the vector that is attended to, and by 7 in the other."""
    source = CopySource(
        torch.tensor([[5, 6, 5, 7]]), torch.tensor([[0, 0, 1, 1]]), torch.full((1, 4), 0.5, dtype=torch.float64)
    )
    attention, always = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    found = copy_distribution(attention, source, torch.tensor([[[5]]]), always, 8)[0][0, 0]
    assert found[7].item() == pytest.approx(0.005 / 1.01) and found[6].item() == pytest.approx(1.005 / 1.01)


def test_histories_list_the_tokens_before_the_last_rows_latest_first():
    tokens = torch.tensor([[2, 5, 6, 7]])
    assert histories(tokens, 3, 2).tolist() == [[[6, 5, 2], [7, 6, 5]]]
    assert histories(tokens, 3, 4)[0, 0].tolist() == [2, -2, -2]
    assert histories(tokens[:, :1], 3, 1).tolist() == [[[2, -2, -2]]]


@pytest.mark.parametrize("seed", range(8))
def test_last_tokens_of_the_vocabulary_are_copied_like_others(seed):
    """Check that missing tokens before a summary's first ones are not taken for tokens of the vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY - 3, VOCABULARY, (2, 12), generator=generator)
    targets = torch.randint(VOCABULARY - 3, VOCABULARY, (2, 6), generator=generator)
    history = histories(torch.cat([torch.full((2, 1), 2), targets[:, :-1]], dim=1), 3, 6)
    source = CopySource(tokens, torch.arange(12).expand(2, 12), torch.ones(2, 12, dtype=torch.float64))
    attention = torch.rand(2, 6, 12, generator=generator, dtype=torch.float64)
    attention = attention / attention.sum(dim=2, keepdim=True)
    continued = torch.rand(2, 6, generator=generator, dtype=torch.float64)
    expected, _ = copy_distribution(attention, source, history, continued, VOCABULARY)
    expected = expected.gather(2, targets.unsqueeze(2)).squeeze(2)
    ours, _ = copy_probability(attention, source, targets, history, continued, VOCABULARY)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


def test_probability_of_uncopyable_tokens_goes_to_writing():
    """Check a vector of 5 and <unk>, where the half of <unk> goes to writing, and no vector, where all does."""
    source = CopySource(torch.tensor([[5, -1]]), torch.zeros(1, 2, dtype=torch.int64), torch.full((1, 2), 0.5))
    history, never = torch.tensor([[[7]]]), torch.zeros(1, 1)
    copied, left = copy_distribution(torch.ones(1, 1, 1), source, history, never, 9)
    assert copied.sum().item() == copied[0, 0, 5].item() == left.item() == 0.5
    gates = torch.tensor([[[0.2, 0.8, 0.0]]]).log()
    mixed = PointerOutput(gates, torch.ones(1, 1, 1), history, source).log_probabilities(torch.zeros(1, 1, 9)).exp()
    assert mixed[0, 0].tolist() == pytest.approx([0.6 / 9] * 5 + [0.4 + 0.6 / 9] + [0.6 / 9] * 3)
    empty = source._replace(weights=torch.zeros(1, 2))
    pointer = PointerOutput(gates, copy_attention(torch.ones(1, 1, 1), empty), history, empty)
    written = pointer.log_probabilities(torch.zeros(1, 1, 9)).exp()
    assert written[0, 0].tolist() == pytest.approx([1 / 9] * 9)


@pytest.mark.parametrize("unknown, context", [(0, 3), (3, 2), (1, 1), (0, 0)])
def test_pointer_passes_gradcheck(unknown, context):
    attention, source, targets, history = random_case(1, 9, 5, 3, unknown=unknown, context=context)
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(1, 3, VOCABULARY, generator=generator, dtype=torch.float64).requires_grad_()
    gates = torch.randn(1, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()

    def loss(logits, gates, attention):
        pointer = PointerOutput(gates.log_softmax(2), copy_attention(attention, source), history, source)
        written = logits.log_softmax(2).gather(2, targets.unsqueeze(2)).squeeze(2)
        return pointer.target_log_probabilities(written, targets, VOCABULARY)

    assert torch.autograd.gradcheck(loss, (logits, gates, attention.requires_grad_()))
