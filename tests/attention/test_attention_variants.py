"""Tests of the LSH and efficient attention modules: local heads, options, randomness, memory."""

import pytest
import torch

from pyramidion_fairseq.attention.efficient import EfficientAttention
from pyramidion_fairseq.attention.lsh import LSHAttention
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.functional.reference import attention as reference_attention
from tests.helpers.tensors import LargestTensor, ragged_mask


def per_head(attention, x):
    """Return queries, keys and values of one document, (T, H, D) each."""
    return [projected[0].unflatten(-1, (-1, attention.head_dim)) for projected in attention.project(x)]


@pytest.mark.paper("local-heads")
def test_lsh_module_uses_windows_in_local_heads_only():
    torch.manual_seed(0)
    attention = LSHAttention(12, 3, local_heads=1, local_window=4, bucket_size=4).double().eval()
    x = torch.randn(2, 22, 12, dtype=torch.float64)
    fast, _ = attention(x, key_padding_mask=ragged_mask((22, 13)))
    for b, n in enumerate((22, 13)):
        q, k, v = per_head(attention, x[b : b + 1, :n])
        assert k.size(1) == 1
        near = reference_attention.window_attention(q[:, :1], k, v[:, :1], 4)
        buckets = reference_attention.lsh_buckets(q[:, 1:], attention.rotations(), 4)
        far = reference_attention.lsh_attention(q[:, 1:], v[:, 1:], buckets, 4)
        slow = attention.out_proj(torch.cat([near, far], dim=1).flatten(1))
        torch.testing.assert_close(fast[b, :n], slow, rtol=0, atol=1e-12)


@pytest.mark.paper("local-heads")
def test_efficient_module_uses_windows_in_local_heads_only():
    torch.manual_seed(0)
    attention = EfficientAttention(12, 3, local_heads=2, local_window=4).double()
    x = torch.randn(1, 22, 12, dtype=torch.float64)
    q, k, v = per_head(attention, x)
    near = reference_attention.window_attention(q[:, :2], k[:, :2], v[:, :2], 4)
    far = reference_attention.efficient_attention(q[:, 2:], k[:, 2:], v[:, 2:])
    slow = attention.out_proj(torch.cat([near, far], dim=1).flatten(1))
    torch.testing.assert_close(attention(x)[0][0], slow, rtol=0, atol=1e-12)


def test_hash_functions_are_fixed_in_evaluation_only():
    torch.manual_seed(0)
    attention, x = LSHAttention(8, 2, local_heads=0, bucket_size=4).eval(), torch.randn(1, 40, 8)
    first = attention(x)[0]
    torch.manual_seed(99)
    again = LSHAttention(8, 2, local_heads=0, bucket_size=4).eval()
    again.load_state_dict(attention.state_dict())
    assert torch.equal(again(x)[0], first)
    other = LSHAttention(8, 2, local_heads=0, bucket_size=4, seed=2).eval()
    other.load_state_dict(attention.state_dict())
    assert not torch.equal(other(x)[0], first)
    attention.train()
    assert not torch.equal(attention(x)[0], attention(x)[0])


@pytest.mark.parametrize("cls", [LSHAttention, EfficientAttention])
def test_dropout_is_applied_only_in_training(cls):
    torch.manual_seed(0)
    attention, x = cls(8, 2, dropout=0.5, local_heads=1), torch.randn(1, 8, 8)
    assert not torch.equal(attention(x)[0], attention(x)[0])
    attention.eval()
    assert torch.equal(attention(x)[0], attention(x)[0])


def test_state_dict_has_no_hash_functions_and_loads_for_any_maximum_length():
    assert sorted({name.split(".")[0] for name in LSHAttention(8, 2).state_dict()}) == [
        "k_proj",
        "out_proj",
        "q_proj",
        "v_proj",
    ]
    short, long = (LSHAttention(8, 2, local_heads=0, bucket_size=2, max_length=n).eval() for n in (4, 400))
    short.load_state_dict(long.state_dict())
    assert short(torch.randn(1, 50, 8))[0].isfinite().all()


@pytest.mark.paper("lsh-eight")
@pytest.mark.parametrize(
    "attention",
    [LSHAttention(128, 2, local_heads=1), EfficientAttention(128, 2, local_heads=1)],
    ids=lambda attention: type(attention).__name__,
)
def test_attention_memory_is_linear_in_the_length(attention):
    """Check 4096 tokens and heads of 64, where an n x n matrix would have 16.8 million numbers."""
    with LargestTensor() as largest:
        attention(torch.randn(1, 4096, 128))[0].sum().backward()
    assert largest.numel <= 4096**2 / 5


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"local_heads": 3}, "local-heads"),
        ({"local_heads": -1}, "local-heads"),
        ({"local_window": 0}, "local-window"),
        ({"bucket_size": 0}, "lsh-bucket-size"),
        ({"hashes": 0}, "lsh-hashes"),
    ],
)
def test_invalid_options_are_refused(options, complaint):
    with pytest.raises(PyramidionError, match=complaint):
        LSHAttention(8, 2, **options)
