"""Block-wise and full attention against loops and against fairseq's own."""

import pytest
import torch
from fairseq.modules import MultiheadAttention

from pyramidion_fairseq.attention.blockwise import BlockwiseAttention
from pyramidion_fairseq.attention.full import FullAttention
from pyramidion_fairseq.functional.reference import blockwise_attention


@pytest.mark.parametrize("lengths", [(7, 7), (7, 3), (16, 1), (12, 5)])
@pytest.mark.parametrize("size", [1, 4, 5, 100])
def test_blockwise_equals_loops(lengths, size):
    torch.manual_seed(0)
    attention = BlockwiseAttention(8, 2, block_size=size).double()
    x = torch.randn(len(lengths), max(lengths), 8, dtype=torch.float64)
    mask = torch.arange(x.size(1)) >= torch.tensor(lengths).unsqueeze(1)
    q, k, v = (attention.split_heads(p(x)) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    slow = attention.out_proj(attention.merge_heads(blockwise_attention(q, k, v, size, mask)))
    fast, _ = attention(x, key_padding_mask=mask if mask.any() else None)
    torch.testing.assert_close(fast[~mask], slow[~mask], rtol=0, atol=1e-12)
    assert fast.isfinite().all()


def test_full_equals_fairseq_and_takes_its_weights():
    torch.manual_seed(0)
    stock = MultiheadAttention(12, 3, self_attention=True).double()
    ours = FullAttention(12, 3).double()
    ours.load_state_dict(stock.state_dict(), strict=True)
    x = torch.randn(3, 9, 12, dtype=torch.float64)
    mask = torch.arange(9) >= torch.tensor([[9], [4], [6]])
    expected, _ = stock(*[x.transpose(0, 1)] * 3, key_padding_mask=mask)
    torch.testing.assert_close(ours(x, key_padding_mask=mask)[0][~mask], expected.transpose(0, 1)[~mask])


def test_initialised_as_fairseq():
    torch.manual_seed(0)
    stock = MultiheadAttention(64, 4, self_attention=True)
    torch.manual_seed(0)
    ours = FullAttention(64, 4)
    for name, parameter in stock.named_parameters():
        other = dict(ours.named_parameters())[name]
        assert torch.isclose(parameter.std(), other.std(), rtol=0.1) and parameter.mean().abs() < 0.05


def test_dropout_only_in_training():
    torch.manual_seed(0)
    attention = BlockwiseAttention(8, 2, dropout=0.5, block_size=4)
    x = torch.randn(1, 8, 8)
    assert not torch.equal(attention(x)[0], attention(x)[0])
    attention.eval()
    assert torch.equal(attention(x)[0], attention(x)[0])


@pytest.mark.parametrize(
    "arguments", [{"need_weights": True}, {"attn_mask": torch.zeros(3, 3)}, {"key": torch.zeros(1, 3, 8)}]
)
def test_what_it_does_not_have_is_refused(arguments):
    with pytest.raises(ValueError, match="self-attention"):
        FullAttention(8, 2)(torch.zeros(1, 3, 8), **arguments)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="multiple of num_heads"):
        FullAttention(8, 3)
    with pytest.raises(ValueError, match="at least 1"):
        BlockwiseAttention(8, 2, block_size=0)
