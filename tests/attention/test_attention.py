"""Tests of block-wise and full attention against loops and against fairseq's own."""

import pytest
import torch
from fairseq.modules import MultiheadAttention

from pyramidion_fairseq.attention.blockwise import BlockwiseAttention
from pyramidion_fairseq.attention.full import FullAttention
from pyramidion_fairseq.functional import block_attention
from pyramidion_fairseq.functional.reference.topk import blockwise_attention
from tests.helpers.tensors import heads


@pytest.mark.paper("related-blockwise", "blockwise")
@pytest.mark.parametrize("lengths", [(7, 7), (7, 3), (16, 1), (12, 5)])
@pytest.mark.parametrize("size", [1, 4, 5, 100])
def test_blockwise_attention_equals_loops(lengths, size):
    torch.manual_seed(0)
    attention = BlockwiseAttention(8, 2, block_size=size).double()
    x = torch.randn(len(lengths), max(lengths), 8, dtype=torch.float64)
    mask = torch.arange(x.size(1)) >= torch.tensor(lengths).unsqueeze(1)
    q, k, v = (attention.split_heads(p(x)) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    slow = attention.out_proj(blockwise_attention(q, k, v, size, mask).transpose(1, 2).flatten(2))
    fast, _ = attention(x, key_padding_mask=mask if mask.any() else None)
    torch.testing.assert_close(fast[~mask], slow[~mask], rtol=0, atol=1e-12)
    assert fast.isfinite().all()


def test_full_attention_loads_the_weights_of_fairseq_and_equals_it():
    torch.manual_seed(0)
    stock = MultiheadAttention(12, 3, self_attention=True).double()
    ours = FullAttention(12, 3).double()
    ours.load_state_dict(stock.state_dict(), strict=True)
    x = torch.randn(3, 9, 12, dtype=torch.float64)
    mask = torch.arange(9) >= torch.tensor([[9], [4], [6]])
    expected, _ = stock(*[x.transpose(0, 1)] * 3, key_padding_mask=mask)
    torch.testing.assert_close(ours(x, key_padding_mask=mask)[0][~mask], expected.transpose(0, 1)[~mask])


def test_full_attention_is_initialised_like_fairseq():
    torch.manual_seed(0)
    stock = MultiheadAttention(64, 4, self_attention=True)
    torch.manual_seed(0)
    ours = FullAttention(64, 4)
    for name, parameter in stock.named_parameters():
        other = dict(ours.named_parameters())[name]
        assert torch.isclose(parameter.std(), other.std(), rtol=0.1) and parameter.mean().abs() < 0.05


def test_blockwise_attention_drops_out_only_in_training():
    torch.manual_seed(0)
    attention = BlockwiseAttention(8, 2, dropout=0.5, block_size=4)
    x = torch.randn(1, 8, 8)
    assert not torch.equal(attention(x)[0], attention(x)[0])
    attention.eval()
    assert torch.equal(attention(x)[0], attention(x)[0])


@pytest.mark.parametrize(
    "arguments", [{"need_weights": True}, {"attn_mask": torch.zeros(3, 3)}, {"key": torch.zeros(1, 3, 8)}]
)
def test_unsupported_arguments_of_fairseq_attention_are_refused(arguments):
    with pytest.raises(ValueError, match="self-attention"):
        FullAttention(8, 2)(torch.zeros(1, 3, 8), **arguments)


def test_invalid_sizes_are_refused():
    with pytest.raises(ValueError, match="multiple of num_heads"):
        FullAttention(8, 3)
    with pytest.raises(ValueError, match="at least 1"):
        BlockwiseAttention(8, 2, block_size=0)


def reference_in_blocks(query, key, value, size):
    """Compute ``blockwise_attention`` by matrix products in the precision of the inputs, (B, T, H, D) each."""
    parts = []
    for start in range(0, query.size(1), size):
        q, k, v = (x[:, start : start + size].transpose(1, 2) for x in (query, key, value))
        parts.append(((q @ k.mT / q.size(-1) ** 0.5).softmax(dim=-1) @ v).transpose(1, 2))
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("known", ["mask", "lengths", "nothing is padded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_block_attention_rounds_no_worse_than_the_formula(dtype, known):
    """Check outputs and gradients against float64: at most twice the formula's error in the same precision."""
    exact = [x.requires_grad_() for x in heads(2, 24, 2, 8, count=3)]
    lengths = [24, 24] if known == "nothing is padded" else [24, 13]
    probe = torch.randn(2, 24, 2, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kept = torch.arange(24) < torch.tensor(lengths).unsqueeze(1)
    probe *= kept[:, :, None, None]

    def run(inputs, attend):
        out = attend(*inputs)
        grads = torch.autograd.grad((out * probe.to(out)).sum(), inputs)
        return [x.double() for x in (out * kept[:, :, None, None], *grads)]

    def loops(*inputs):
        rows = [reference_in_blocks(*(x[i : i + 1, :n] for x in inputs), 8) for i, n in enumerate(lengths)]
        return torch.cat([torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 24 - x.size(1))) for x in rows])

    def ours(*inputs):
        mask = None if kept.all() else ~kept
        return block_attention(*inputs, 8, mask, lengths if known == "lengths" else None)

    right = run(exact, loops)
    low = [x.detach().to(dtype).requires_grad_() for x in exact]
    for truth, mine, plain in zip(right, run(low, ours), run(low, loops)):
        assert (mine - truth).abs().max() <= 2 * (plain - truth).abs().max()
        assert (mine - truth).square().mean() <= 4 * (plain - truth).square().mean()
