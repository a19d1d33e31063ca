"""Tests of pooling in the encoder beyond tests/contracts: column sums, gradients, upsampling, errors."""

from argparse import Namespace

import pytest
import torch

from pyramidion_fairseq.attention import ATTENTIONS, base
from pyramidion_fairseq.attention.blockwise import BlockwiseAttention
from pyramidion_fairseq.attention.full import FullAttention
from pyramidion_fairseq.config import PyramidionConfig, complete
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.functional import (
    gumbel_topk,
    hard_topk,
    iterative_topk,
    max_windows,
    mean_windows,
    perturbed_topk,
    sinkhorn_topk,
    successive_halving_topk,
    threshold_topk,
)
from pyramidion_fairseq.functional.reference import poolers as reference
from pyramidion_fairseq.models.pooling import RepresentationPooling
from pyramidion_fairseq.poolers import POOLERS, Pooler
from pyramidion_fairseq.scorers import SCORERS


@pytest.mark.paper("scorer-power")
@pytest.mark.parametrize("chunk", [1, 64, 2**24])
@pytest.mark.parametrize("lengths", [(7, 7), (7, 3), (16, 1), (12, 5)])
@pytest.mark.parametrize("size", [1, 4, 5, None])
def test_column_sums_equal_loops(monkeypatch, lengths, size, chunk):
    monkeypatch.setattr(base, "CHUNK", chunk)
    torch.manual_seed(0)
    attention = FullAttention(8, 2) if size is None else BlockwiseAttention(8, 2, block_size=size)
    attention = attention.double()
    x = torch.randn(len(lengths), max(lengths), 8, dtype=torch.float64)
    mask = torch.arange(x.size(1)) >= torch.tensor(lengths).unsqueeze(1)
    query, key = (attention.split_heads(project(x)) for project in (attention.q_proj, attention.k_proj))
    loops = reference.column_sums(query, key, size or 100, mask)
    sums = attention.received(x, mask if mask.any() else None)
    torch.testing.assert_close(sums, loops, rtol=0, atol=1e-12)
    assert sums[mask].abs().sum() == 0
    torch.testing.assert_close(sums.sum(dim=1), 2 * torch.tensor(lengths).double())


def test_column_sums_match_the_attention_weights_of_the_layer():
    """Check with one-hot values, for which the output of attention is the weights themselves."""
    torch.manual_seed(0)
    attention = FullAttention(8, 2).double()
    x = torch.randn(1, 4, 8, dtype=torch.float64)
    query, key = attention.q_proj(x), attention.k_proj(x)
    value = torch.eye(4, dtype=torch.float64).repeat(1, 2).unsqueeze(0)  # the same in both heads
    weights = attention.attend(query, key, value, None).view(1, 4, 2, 4)
    torch.testing.assert_close(attention.received(x, None), weights.sum(dim=(1, 2)))


@pytest.mark.parametrize("pre_norm", [False, True])
def test_scorer_gets_the_attention_of_the_layer_before_the_pooling(tiny_model, random_tokens, pre_norm):
    model = tiny_model(scorer="attention_sum", encoder_normalize_before=pre_norm)
    attended, given = [], []
    for layer in model.encoder.layers[:2]:
        layer.self_attn.register_forward_pre_hook(lambda _, args, kwargs: attended.append(kwargs), with_kwargs=True)
    for pooling in model.encoder.poolings.values():
        pooling.scorer.register_forward_pre_hook(lambda _, args: given.append(args))
    model.encoder(random_tokens([50, 20]), None)
    for layer, seen, (_, _, sums) in zip(model.encoder.layers, attended, given):
        torch.testing.assert_close(sums, layer.self_attn.received(seen["query"], seen["key_padding_mask"]))
        assert sums.shape == seen["query"].shape[:2]


def test_column_sums_save_no_full_attention_matrix(monkeypatch):
    monkeypatch.setattr(base, "CHUNK", 2**12)
    attention, largest = FullAttention(4, 2), 0
    x = torch.randn(1, 512, 4)

    def pack(tensor):
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        sums = attention.received(x, None)
    sums.square().sum().backward()
    assert largest <= x.numel() and attention.q_proj.weight.grad.abs().sum() > 0


def test_attention_sum_refuses_attentions_without_column_sums(tiny_model, monkeypatch):
    class Blind(FullAttention):
        column_sums = base.EncoderAttention.column_sums

    monkeypatch.setitem(ATTENTIONS._classes, "full", Blind)
    with pytest.raises(PyramidionError, match="which Blind does not have: use --attention full, blockwise or lsg"):
        tiny_model(scorer="attention_sum", attention="full")
    assert tiny_model(attention="full", scorer="linear").encoder.layers[0].returns_column_sums is False


def build_pooling(k=4, **options):
    cfg = complete(Namespace(**{**vars(PyramidionConfig()), "encoder_embed_dim": 8, **options}))
    return RepresentationPooling.from_config(cfg, k).double()


@pytest.mark.parametrize("length", [3, 9])
@pytest.mark.parametrize("pooler", ["successive_halving", "hard_topk", "mean_window"])
def test_on_pooled_gets_the_scores_the_mask_and_the_result(pooler, length):
    """Check also documents that are kept whole. The scores that the callback gets have no gradient."""
    pooling, told = build_pooling(pooler=pooler), []
    x = torch.randn(2, length, 8, dtype=torch.float64, requires_grad=True)
    mask = torch.zeros(2, length, dtype=torch.bool)
    mask[1, 2:] = True
    pooling.on_pooled = lambda *args: told.append(args)
    pooled = pooling(x, mask)
    ((scores, padding_mask, seen),) = told
    assert padding_mask is mask and seen is pooled
    if pooling.scorer is None:
        assert scores is None
    else:
        assert torch.equal(scores, pooling.scorer(x, mask, None)) and not scores.requires_grad
    pooling.on_pooled = None
    pooling(x, mask)
    assert len(told) == 1


@pytest.mark.paper("related-power")
@pytest.mark.parametrize("scorer", ["linear", "nonlinear"])
@pytest.mark.parametrize("pooler", POOLERS.names())
def test_scorers_get_gradients_exactly_where_their_scores_are_differentiable(pooler, scorer):
    torch.manual_seed(0)
    pooling = build_pooling(pooler=pooler, scorer=scorer)
    x = torch.randn(2, 19, 8, dtype=torch.float64, requires_grad=True)
    pooled = pooling(x, None)
    read = [pooled.embeddings]
    if pooling.pooler.adds_scores_to_attention:  # the decoder reads them, too
        read.append(pooled.scores)
    sum(part.square().sum() for part in read).backward()
    if not pooling.pooler.uses_scores:
        assert pooling.scorer is None and not list(pooling.parameters())
        return
    for parameter in pooling.parameters():
        assert parameter.grad is not None  # data-parallel training waits for every gradient
        learns = pooling.pooler.differentiable_in_scores or pooling.pooler.adds_scores_to_attention
        assert (parameter.grad.abs().sum() > 0) == learns


def test_hard_topk_does_not_backpropagate_into_the_attention():
    pooling = build_pooling(pooler="hard_topk", scorer="attention_sum")
    attention = torch.rand(1, 9, dtype=torch.float64, requires_grad=True)
    pooled = pooling(torch.randn(1, 9, 8, dtype=torch.float64, requires_grad=True), None, attention)
    (grad,) = torch.autograd.grad(pooled.embeddings.sum(), [attention], allow_unused=True)
    assert grad is None
    soft = build_pooling(scorer="attention_sum")(torch.randn(1, 9, 8, dtype=torch.float64), None, attention)
    (grad,) = torch.autograd.grad(soft.embeddings.sum(), [attention])
    assert grad.abs().max() > 0


def test_scores_that_the_decoder_reads_backpropagate_into_the_attention():
    """Check a scorer without parameters, whose layers learn through the attention alone."""
    pooling = build_pooling(pooler="nugget_topk", scorer="attention_sum")
    attention = torch.rand(1, 9, dtype=torch.float64, requires_grad=True)
    pooled = pooling(torch.randn(1, 9, 8, dtype=torch.float64), None, attention)
    (grad,) = torch.autograd.grad(pooled.scores.sum(), [attention])
    assert int((grad > 0).sum()) == 4


def test_gumbel_topk_refuses_scores_that_may_be_negative():
    with pytest.raises(PyramidionError, match="it needs --scorer-activation sigmoid"):
        build_pooling(pooler="gumbel_topk", scorer_activation="none")
    assert build_pooling(pooler="gumbel_topk", scorer_activation="none", scorer="random").k == 4


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pooler": "iterative_topk", "iterative_temperature": 0.0}, "--iterative-temperature must be positive"),
        ({"pooler": "gumbel_topk", "gumbel_temperature": -1.0}, "--gumbel-temperature must be positive"),
        ({"pooler": "sinkhorn_topk", "sinkhorn_epsilon": 0.0}, "--sinkhorn-epsilon must be positive"),
        ({"pooler": "sinkhorn_topk", "sinkhorn_iterations": 0}, "--sinkhorn-iterations must be at least 1"),
        ({"pooler": "perturbed_topk", "perturbed_sigma": 0.0}, "--perturbed-sigma must be positive"),
        ({"pooler": "perturbed_topk", "perturbed_samples": 1}, "--perturbed-samples must be at least 2"),
        ({"pooler": "threshold_topk", "threshold_epsilon": 0.0}, "--threshold-epsilon must be positive"),
        ({"pooler": "threshold_topk", "threshold_link": "x"}, "--threshold-link must be one of laplace"),
    ],
)
def test_invalid_options_are_named_in_the_error(options, message):
    with pytest.raises(PyramidionError, match=message):
        build_pooling(**options)


WINDOWS = {"pooling_schedule": "1:4", "max_source_positions": 36}  # 9 tokens each
CHOSEN = [
    ("successive_halving", {"softmax_base": 2.0}, successive_halving_topk, {"base": 2.0}),
    ("successive_halving", {"softmax_base": 0.0}, successive_halving_topk, {"base": None}),
    ("successive_halving", {"no_sort": True}, successive_halving_topk, {"sort": False}),
    ("successive_halving", {"score_order": True}, successive_halving_topk, {"preserve_order": False}),
    ("gumbel_topk", {"gumbel_temperature": 0.7}, gumbel_topk, {"temperature": 0.7, "noise": False}),
    ("iterative_topk", {"iterative_temperature": 0.3}, iterative_topk, {"temperature": 0.3}),
    ("sinkhorn_topk", {"sinkhorn_epsilon": 0.3}, sinkhorn_topk, {"epsilon": 0.3}),
    ("sinkhorn_topk", {"sinkhorn_iterations": 3}, sinkhorn_topk, {"iterations": 3}),
    ("perturbed_topk", {"perturbed_sigma": 0.5}, perturbed_topk, {"sigma": 0.5, "samples": 100}),
    ("perturbed_topk", {"perturbed_samples": 3}, perturbed_topk, {"sigma": 0.05, "samples": 3}),
    ("threshold_topk", {"threshold_link": "exp"}, threshold_topk, {"link": "exp", "epsilon": 0.1}),
    ("threshold_topk", {"threshold_epsilon": 0.5}, threshold_topk, {"link": "laplace", "epsilon": 0.5}),
    ("mean_window", WINDOWS, mean_windows, {"window": 9}),
    ("max_window", WINDOWS, max_windows, {"window": 9}),
]


@pytest.mark.parametrize("pooler, options, function, arguments", CHOSEN, ids=[f"{c[0]} {c[1]}" for c in CHOSEN])
def test_options_reach_the_function_of_the_pooler(pooler, options, function, arguments):
    """Check that the result is the function's with the chosen arguments, and another one than with the defaults."""
    pooling, other = build_pooling(pooler=pooler, **options), build_pooling(pooler=pooler)
    x = torch.randn(2, 19, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    scores = torch.rand(2, 19, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = []
    for module in (pooling.pooler, other.pooler):
        module.train(pooler == "perturbed_topk")  # which is hard in evaluation
        torch.manual_seed(3)
        found.append(module(x, scores, None, 4).embeddings)
    torch.manual_seed(3)
    assert torch.equal(found[0], function(x, scores, 4, **arguments).embeddings)
    assert found[0].shape != found[1].shape or (found[0] - found[1]).abs().max() > 1e-3


def test_gumbel_topk_adds_noise_only_in_training():
    pooling, x = build_pooling(pooler="gumbel_topk"), torch.randn(1, 30, 8, dtype=torch.float64)
    assert not torch.equal(pooling(x, None).embeddings, pooling(x, None).embeddings)
    pooling.eval()
    assert torch.equal(pooling(x, None).embeddings, pooling(x, None).embeddings)


@pytest.mark.paper("funnel")
@pytest.mark.parametrize("schedule", ["1:12", "1:12,2:5"])
@pytest.mark.parametrize("lengths", [[64, 30], [5, 3], [13]])
@pytest.mark.parametrize("count", [0, 2], ids="{} global tokens".format)
def test_funnel_upsamples_by_repeating_and_adds_the_first_layers_output(
    tiny_model, random_tokens, schedule, lengths, count
):
    options = {"attention": "lsg", "lsg_global_tokens": count} if count else {}
    model = tiny_model(pooler="funnel", pooling_schedule=schedule, **options)
    first, last, tokens = [], [], random_tokens(lengths)
    model.encoder.layers[0].register_forward_hook(lambda *args: first.append(args[2]))
    model.encoder.layers[-1].register_forward_hook(lambda *args: last.append(args[2]))
    out = model.encoder(tokens, None)["encoder_out"][0].transpose(0, 1)
    windows = [6, 3][: schedule.count(":")]  # ceil(64 / 12), ceil(12 / 5)
    for document, length in enumerate(lengths):
        for token in range(length):
            slot, left = token, length
            for window, k in zip(windows, [12, 5]):
                if left > k:
                    slot, left = slot // window, -(-left // window)
            expected = last[0][document, count + slot] + first[0][document, count + token]
            torch.testing.assert_close(out[document, count + token], expected, rtol=0, atol=1e-12)
    global_tokens = slice(0, count)
    assert torch.equal(out[:, global_tokens], last[0][:, global_tokens] + first[0][:, global_tokens])
    assert out.shape[:2] == (len(lengths), count + max(lengths))


def test_no_upsampling_gives_the_decoder_the_pooled_states(tiny_model, random_tokens):
    model = tiny_model(pooler="funnel", no_upsampling=True)
    other = tiny_model(pooler="mean_window")
    tokens = random_tokens([64, 30])
    assert model.encoder(tokens, None)["encoder_out"][0].shape == (5, 2, 8)
    assert torch.equal(model.encoder(tokens, None)["encoder_out"][0], other.encoder(tokens, None)["encoder_out"][0])


@pytest.mark.paper("scorer-power")
def test_power_keeps_the_tokens_that_receive_most_attention(tiny_model, random_tokens):
    """Check PoWER-BERT (Goyal et al. 2020): tokens that receive most attention are kept, and not changed."""
    model = tiny_model(pooler="hard_topk", scorer="attention_sum")
    tokens, given = random_tokens([50]), []
    for pooling in model.encoder.poolings.values():
        pooling.register_forward_pre_hook(lambda _, args: given.append(args))
    states = model.encoder(tokens, None, return_all_hiddens=True)["encoder_states"]
    for layer, k in ((1, 12), (2, 5)):
        before, _, sums = given[layer - 1]
        best = sums[0].topk(k).indices.sort().values
        assert torch.equal(states[layer][:, 0], before[0, best])


@pytest.mark.paper("combines")
def test_every_scorer_runs_with_every_pooler(tiny_model, random_tokens):
    tokens, summary = random_tokens([40, 3]), torch.tensor([[2, 5]] * 2)
    for scorer in SCORERS.names():
        for pooler in POOLERS.names():
            model = tiny_model(scorer=scorer, pooler=pooler).train()
            model(tokens, None, summary)[0].square().sum().backward()
            grads = [p.grad for p in model.parameters()]
            assert all(grad is not None and grad.isfinite().all() for grad in grads), (scorer, pooler)


@pytest.mark.parametrize("name", ["gumbel_topk", "hard_topk"])
def test_poolers_that_need_positive_scores_are_named_in_the_error(monkeypatch, tiny_model, name):
    monkeypatch.setattr(POOLERS.get(name), "needs_positive_scores", True)
    tiny_model(pooler=name, scorer="random", scorer_activation="none")
    with pytest.raises(PyramidionError, match=f"^--pooler {name} takes scores as weights of a sample"):
        tiny_model(pooler=name, scorer_activation="none")


def test_error_names_a_pooler_of_another_package_by_its_option(monkeypatch, tiny_model):
    """Check a pooler whose module has any name."""
    own = type("Own", (POOLERS.get("gumbel_topk"),), {"__module__": "my_plugin"})
    monkeypatch.setitem(POOLERS._classes, "own_topk", own)
    with pytest.raises(PyramidionError, match=r"^--pooler own_topk takes scores as weights of a sample"):
        tiny_model(pooler="own_topk", scorer_activation="none")


@pytest.mark.parametrize("more", [-1, 1])
def test_pooler_that_returns_another_number_of_vectors_is_refused(more):
    class Wrong(Pooler):
        def forward(self, x, scores, padding_mask, k):
            return hard_topk(x, scores, k + more, padding_mask=padding_mask)

    pooling = RepresentationPooling(None, Wrong(), 4)
    with pytest.raises(
        ValueError, match=rf"^Wrong must return embeddings of shape \(2, 4, 3\), got \(2, {4 + more}, 3\)"
    ):
        pooling(torch.randn(2, 9, 3), None)
    assert pooling(torch.randn(2, 4, 3), None).embeddings.shape == (2, 4, 3)  # 4 tokens are not pooled


def test_attention_that_returns_another_shape_is_refused():
    class Wrong(base.EncoderAttention):
        def attend(self, query, key, value, padding_mask, document_lengths=None):
            return value.mean(dim=1, keepdim=True)  # broadcasting would add it to every token

    with pytest.raises(ValueError, match=r"^Wrong.attend must return \(2, 9, 8\), got \(2, 1, 8\)$"):
        Wrong(8, 2)(torch.randn(2, 9, 8))
