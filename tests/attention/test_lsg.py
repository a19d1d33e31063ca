"""Tests of LSG attention against loops and full attention, and of its global tokens in the model."""

import pytest
import torch

from pyramidion_fairseq.attention.full import FullAttention
from pyramidion_fairseq.attention.lsg import SPARSITY_TYPES, LSGAttention
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.functional.reference import lsg as reference_lsg
from pyramidion_fairseq.models.global_tokens import GlobalTokens
from tests.helpers.tensors import LargestTensor, ragged_mask


def build(**options):
    torch.manual_seed(0)
    return LSGAttention(12, 3, **options).double().eval()


def oracle(attention, x):
    """Compute the module's output for one document (G + T, C) in loops."""
    q, k, v = (projected.unflatten(-1, (3, 4)) for projected in attention.project(x))
    g, block = attention.num_global_tokens, attention.block_size
    factor, reach = attention.sparsity_factor, attention.sparse_reach
    tokens, chunk = (k[g:], v[g:]), min(block, reach)
    reducers = {
        "none": lambda h: [],
        "norm": lambda h: reference_lsg.norm(*tokens, h, chunk, factor),
        "pooling": lambda h: reference_lsg.pooling(*tokens, h, factor),
        "bos_pooling": lambda h: reference_lsg.bos_pooling(q[g:], *tokens, h, factor),
        "stride": lambda h: reference_lsg.block_stride(*tokens, h, factor, factor),
        "block_stride": lambda h: reference_lsg.block_stride(*tokens, h, block, factor),
        "lsh": lambda h: reference_lsg.lsh(*tokens, h, chunk, factor, [r() for r in attention.rotations]),
    }
    kind = attention.sparsity_type
    reduce = reducers[kind] if factor > 1 else reducers["pooling"]  # groups of one are the tokens themselves
    sparse = [reduce(h) for h in range(3)] if kind != "none" else [[]] * 3
    out = reference_lsg.lsg_attention(q, k, v, g, block, factor, sparse, reach)
    return attention.out_proj(out.flatten(1))


def test_lsg_options_do_not_shadow_methods_of_modules():
    assert build().type(torch.float32).q_proj.weight.dtype == torch.float32


@pytest.mark.parametrize("kind", SPARSITY_TYPES)
@pytest.mark.parametrize("block, sparse, factor", [(4, 4, 2), (8, 4, 2), (4, 8, 4), (6, 6, 2), (4, 2, 1), (6, 12, 6)])
@pytest.mark.parametrize("lengths, num_globals", [((45, 17), 1), ((24, 8, 1), 3)])
def test_lsg_attention_equals_loops_over_each_document(kind, block, sparse, factor, lengths, num_globals):
    attention = build(
        block_size=block,
        sparse_block_size=sparse,
        sparsity_factor=factor,
        sparsity_type=kind,
        num_globals=num_globals,
    )
    lengths = [num_globals + n for n in lengths]
    x = torch.randn(len(lengths), max(lengths), 12, dtype=torch.float64)
    fast, _ = attention(x, key_padding_mask=ragged_mask(lengths))
    for b, n in enumerate(lengths):
        torch.testing.assert_close(fast[b, :n], oracle(attention, x[b, :n]), rtol=0, atol=1e-12)
    assert fast.isfinite().all()


@pytest.mark.parametrize(
    "kind, sparse",
    [("norm", 5), ("norm", 11), ("pooling", 3), ("stride", 5), ("block_stride", 3), ("bos_pooling", 11), ("lsh", 5)],
)
def test_lsg_attention_equals_loops_where_the_reach_cuts_chunks(kind, sparse):
    attention = build(block_size=4, sparse_block_size=sparse, sparsity_factor=2, sparsity_type=kind)
    x = torch.randn(1, 42, 12, dtype=torch.float64)
    torch.testing.assert_close(attention(x)[0][0], oracle(attention, x[0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rounds", [0, 2])
def test_lsg_attention_equals_loops_for_other_numbers_of_hashing_rounds(rounds):
    attention = build(block_size=8, sparse_block_size=8, sparsity_type="lsh", lsh_pre_rounds=rounds)
    x = torch.randn(1, 42, 12, dtype=torch.float64)
    torch.testing.assert_close(attention(x)[0][0], oracle(attention, x[0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", SPARSITY_TYPES)
@pytest.mark.parametrize("length", [1, 7, 8, 15, 16])
def test_documents_of_two_blocks_get_full_attention_in_any_batch(kind, length):
    attention = build(block_size=8, sparse_block_size=8, sparsity_type=kind, num_globals=2)
    full = FullAttention(12, 3).double()
    full.load_state_dict(attention.state_dict())
    x = torch.randn(2, 52, 12, dtype=torch.float64)
    mask = ragged_mask((52, 2 + length))
    together = attention(x, key_padding_mask=mask)[0][1, : 2 + length]
    expected = full(x[1:, : 2 + length])[0][0]
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(attention(x[1:, : 2 + length])[0][0], expected, rtol=0, atol=1e-12)


def test_lsh_sparsity_with_one_bucket_equals_bos_pooling():
    options = {"block_size": 4, "sparse_block_size": 4, "sparsity_factor": 4}
    x = torch.randn(1, 40, 12, dtype=torch.float64)
    lsh, bos = (build(sparsity_type=kind, **options)(x)[0] for kind in ("lsh", "bos_pooling"))
    assert torch.equal(lsh, bos)


def test_hash_functions_are_fixed_in_evaluation_only():
    options = {"block_size": 8, "sparse_block_size": 8, "sparsity_type": "lsh"}
    x = torch.randn(1, 60, 12, dtype=torch.float64)
    attention = build(**options)
    assert torch.equal(attention(x)[0], build(**options)(x)[0])
    assert not torch.equal(attention(x)[0], build(seed=2, **options)(x)[0])
    attention.train()
    assert not torch.equal(attention(x)[0], attention(x)[0])


def test_dropout_is_applied_only_in_training():
    attention, x = build(dropout=0.5), torch.randn(1, 8, 12, dtype=torch.float64)
    assert torch.equal(attention(x)[0], attention(x)[0])
    attention.train()
    assert not torch.equal(attention(x)[0], attention(x)[0])


@pytest.mark.parametrize("kind", SPARSITY_TYPES)
def test_lsg_memory_is_linear_in_the_length(kind):
    """Check 4096 tokens and one head of 64 with default options: 641 keys per query."""
    with LargestTensor() as largest:
        LSGAttention(64, 1, sparsity_type=kind)(torch.randn(1, 4097, 64))[0].sum().backward()
    assert largest.numel <= 641 * 4096


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"sparsity_type": "other"}, "lsg-sparsity-type"),
        ({"block_size": 0}, "lsg-block-size"),
        ({"sparsity_factor": 3}, "must divide --lsg-block-size"),
        ({"sparse_block_size": 96}, "must be a multiple"),
        ({"sparse_block_size": 2, "sparsity_factor": 4}, "must be a multiple"),
        ({"num_globals": 0}, "lsg-global-tokens"),
        ({"num_globals": 513}, "lsg-global-tokens"),
    ],
)
def test_invalid_options_are_refused(options, complaint):
    with pytest.raises(PyramidionError, match=complaint):
        LSGAttention(12, 3, **options)


def encode(model, tokens):
    out = model.encoder(tokens, None, return_all_hiddens=True)
    return out, out["encoder_out"][0].transpose(0, 1), out["encoder_padding_mask"][0]


@pytest.mark.paper("combines")
def test_global_tokens_precede_the_document_and_are_not_pooled(tiny_model, random_tokens):
    model = tiny_model(attention="lsg", lsg_global_tokens=3)
    out, states, mask = encode(model, random_tokens([40, 3]))
    assert states.shape == (2, 3 + 5, 8)
    assert mask.tolist() == [[False] * 8, [False] * 6 + [True] * 2]
    assert [len(state) for state in out["encoder_states"]] == [40, 12, 5, 5]
    assert [tuple(slots.shape) for slots in out["pooling_slots"]] == [(2, 40), (2, 12)]
    assert out["pooling_slots"][0].max() < 12


def test_only_the_used_global_embeddings_get_gradients(tiny_model, random_tokens):
    model, tokens = tiny_model(attention="lsg", lsg_global_tokens=3), random_tokens([40])
    assert model.encoder.global_embeddings.weight.shape == (512, 8)
    assert "encoder.global_embeddings.weight" in model.state_dict()
    encode(model, tokens)[1].square().sum().backward()
    used = model.encoder.global_embeddings.weight.grad.abs().sum(dim=1) > 0
    assert used.tolist() == [True] * 3 + [False] * 509


@pytest.mark.parametrize("options, std", [({}, 1), ({"no_scale_embedding": True}, 8**-0.5)], ids=str)
def test_new_global_tokens_vary_as_much_as_scaled_token_embeddings(tiny_model, options, std):
    model = tiny_model(attention="lsg", **options)
    assert model.encoder.global_embeddings.weight.std().item() == pytest.approx(std, rel=0.05)  # of 512 x 8 values


def test_global_tokens_get_the_dropout_of_token_embeddings(tiny_model, random_tokens):
    model = tiny_model(attention="lsg", lsg_global_tokens=3, dropout=0.5).train()
    embedded = model.encoder.embed(random_tokens([40, 40]), None, None)[:, :3]
    dropped = embedded == 0
    assert dropped.any() and not dropped.all()
    doubled = 2 * model.encoder.global_embeddings.weight[:3].expand(2, -1, -1)
    torch.testing.assert_close(embedded[~dropped], doubled[~dropped], rtol=0, atol=1e-12)


def test_lsg_no_global_to_decoder_drops_global_tokens_from_the_output(tiny_model, random_tokens):
    tokens = random_tokens([40, 3])
    passed, dropped, replaced = (
        encode(tiny_model(attention="lsg", lsg_global_tokens=2, **options), tokens)
        for options in (
            {},
            {"lsg_no_global_to_decoder": True, "lsg_no_pool_with_global": True},
            {"lsg_no_global_to_decoder": True},
        )
    )
    assert torch.equal(dropped[1], passed[1][:, 2:]) and torch.equal(dropped[2], passed[2][:, 2:])
    assert torch.equal(replaced[1][:, 1:], passed[1][:, 3:]) and torch.equal(replaced[2], dropped[2])
    assert torch.equal(replaced[1][:, 0], passed[1][:, 0])


@pytest.mark.parametrize("length", [40, 1])
def test_lsg_mask_first_token_hides_it_until_the_first_pooling(tiny_model, random_tokens, length):
    tokens = random_tokens([length])
    other = tokens.clone()
    other[0, 0] = tokens[0, 0] % 30 + 4
    for hidden in (False, True):
        model = tiny_model(attention="lsg", pooling_schedule="", lsg_mask_first_token=hidden)
        same = [torch.equal(a, b) for a, b in zip(encode(model, tokens)[1][0], encode(model, other)[1][0])]
        assert not same[1] and set(same[:1] + same[2:]) == {hidden}
        pooled = tiny_model(attention="lsg", pooling_schedule="1:40", lsg_mask_first_token=hidden)
        assert not torch.equal(encode(pooled, tokens)[1][0, 0], encode(pooled, other)[1][0, 0])


def test_key_padding_mask_of_globals_does_not_change_the_callers_mask():
    globals_ = GlobalTokens(8, 2, std=1.0, hide_first=True, in_output=True, replace_first=True)
    mask, x = torch.tensor([[False, False, True]]), torch.zeros(1, 5, 8)
    assert globals_.key_padding_mask(x, mask, has_first_token=True).tolist() == [[False, False, True, False, True]]
    assert globals_.key_padding_mask(x, None, has_first_token=True).tolist() == [[False, False, True, False, False]]
    assert globals_.key_padding_mask(x, mask, has_first_token=False).tolist() == [[False, False, False, False, True]]
    assert mask.tolist() == [[False, False, True]]


@pytest.mark.parametrize("attention", ["full", "blockwise", "lsh", "efficient"])
def test_other_attentions_have_no_global_tokens(tiny_model, attention):
    model = tiny_model(attention=attention)
    assert model.encoder.num_globals == 0
    assert not [name for name in model.state_dict() if "global" in name]


@pytest.mark.parametrize("kind", SPARSITY_TYPES)
@pytest.mark.parametrize("lengths", [(26, 11), (13, 13)])
def test_lsg_column_sums_equal_loops(kind, lengths):
    """Check received attention: the sum of the output for a value of 1 at a token, and of 0 at all others."""
    attention = build(block_size=4, sparse_block_size=4, sparsity_factor=2, sparsity_type=kind, num_globals=2)
    x = torch.randn(len(lengths), max(lengths), 12, dtype=torch.float64)
    mask = ragged_mask(lengths)
    sums = attention.received(x, mask)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(attention.received(x.clone(), None if mask is None else mask.clone()), sums)
    assert not sums.requires_grad
    assert mask is None or sums[mask].abs().sum() == 0
    torch.testing.assert_close(sums.sum(dim=1), 3 * torch.tensor(lengths).double())
    values = {}
    attention.project = lambda x: (attention.q_proj(x), attention.k_proj(x), values["of"])
    attention.out_proj = torch.nn.Identity()
    for b, n in enumerate(lengths):
        for token in range(n):
            values["of"] = torch.zeros(n, 12, dtype=torch.float64)
            values["of"][token] = 1
            expected = oracle(attention, x[b, :n]).sum() / 4
            torch.testing.assert_close(sums[b, token], expected, rtol=0, atol=1e-12)
