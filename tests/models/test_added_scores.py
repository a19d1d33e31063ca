"""Tests of --pooler nugget_topk, which adds scores of pooled vectors to the logits of the decoder's attention."""

import contextlib

import pytest
import torch

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.functional import Pooled
from pyramidion_fairseq.generation import cuda_graphs, plain_generation
from pyramidion_fairseq.generation.scored_attention import ScoredAttention
from pyramidion_fairseq.interop.huggingface.export import read_options
from pyramidion_fairseq.models.pooled_encoder import _sum_of_scores
from tests.helpers.generation import OPTIONS, RAGGED, assert_same, generate
from tests.helpers.pointers import ROUNDING
from tests.helpers.recording import replay  # noqa: F401 -- a fixture

NUGGET = {"pooler": "nugget_topk", "scorer_activation": "none"}


def test_scored_attention_matches_its_formula():
    torch.manual_seed(0)
    attention = ScoredAttention(8, 2, kdim=6, vdim=6, encoder_decoder_attention=True).double().eval()
    query, key = torch.randn(3, 2, 8, dtype=torch.float64), torch.randn(5, 2, 6, dtype=torch.float64)
    scores = torch.randn(2, 5, dtype=torch.float64)
    scores[1, 3:] = -torch.inf
    out, weights = attention(query, key, key, scores, need_head_weights=True)
    q, k, v = attention.q_proj(query), attention.k_proj(key), attention.v_proj(key)
    for row in range(2):
        for step in range(3):
            heads = []
            for head in range(2):
                part = slice(4 * head, 4 * head + 4)
                logits = k[:, row, part] @ q[step, row, part] / 2 + scores[row]
                expected = logits.softmax(0)
                torch.testing.assert_close(weights[head, row, step], expected, rtol=0, atol=1e-12)
                heads.append(expected @ v[:, row, part])
            torch.testing.assert_close(out[step, row], attention.out_proj(torch.cat(heads)), rtol=0, atol=1e-12)
    mean = attention(query, key, key, scores)[1]
    torch.testing.assert_close(mean, weights.mean(dim=0), rtol=0, atol=1e-12)


def test_nugget_topk_with_scores_of_zero_equals_hard_topk(confident_model, random_tokens):
    """Check that a scorer that rates everything 0 gives the logits of --pooler hard_topk."""
    nugget, hard = confident_model(**NUGGET), confident_model(pooler="hard_topk", scorer_activation="none")
    hard.load_state_dict(nugget.state_dict())
    for model in (nugget, hard):
        for name, parameter in model.named_parameters():
            if ".scorer." in name:
                torch.nn.init.zeros_(parameter)
    tokens, summaries = random_tokens(RAGGED), torch.tensor([[2, 5, 6]] * 4)
    ours, theirs = nugget(tokens, None, summaries)[0], hard(tokens, None, summaries)[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)  # float32: the sums are in another order


def test_scores_of_successive_poolings_are_summed():
    before = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    kept = Pooled(torch.zeros(1, 2, 3), torch.tensor([[10.0, 20.0]]), None, torch.tensor([[0, 0, 0, 1]]),
                  torch.tensor([[0.0, 1.0, 0.0, 1.0]]))  # fmt: skip
    assert _sum_of_scores(kept, None).tolist() == [[10, 20]]
    assert _sum_of_scores(kept, before).tolist() == [[12, 28]]


@pytest.mark.parametrize(
    "options, replaced, before",
    [
        ({}, 0, 3),
        ({"lsg_no_global_to_decoder": True}, 1, 1),
        ({"lsg_no_global_to_decoder": True, "lsg_no_pool_with_global": True}, 0, 0),
    ],
    ids=str,
)
def test_scores_are_those_of_the_vectors_and_zero_for_global_tokens(
    tiny_model, random_tokens, options, replaced, before
):
    """Check that ``before`` global tokens, of which one may replace the first vector, have a score of 0."""
    model = tiny_model(**NUGGET, attention="lsg", lsg_global_tokens=3, pooling_schedule="2:7", **options)
    pooled = []
    model.encoder.poolings["2"].on_pooled = lambda scores, mask, result: pooled.append(result.scores)
    out = model.encoder(random_tokens([40, 30]), None)
    expected = torch.cat([torch.zeros(2, before), pooled[0][:, replaced:]], dim=1)
    assert torch.equal(out["added_scores"][0], expected) and expected.any()
    assert out["added_scores"][0].shape == out["encoder_padding_mask"][0].shape


def test_every_scorer_gets_a_gradient(tiny_model, random_tokens):
    model = tiny_model(**NUGGET).train()
    for lengths in ([40, 30], [3, 2]):
        model.zero_grad()
        logits, _ = model(random_tokens(lengths), None, torch.tensor([[2, 5, 6]] * 2))
        logits.log_softmax(2)[..., 7].sum().backward()
        grads = {
            name: p.grad for name, p in model.named_parameters() if ".scorer." in name and name.endswith("weight")
        }
        assert len(grads) == 2 and all(grad.abs().max() > 0 for grad in grads.values())


@pytest.mark.parametrize("options", [OPTIONS["beam 2"], OPTIONS["beam 8"], OPTIONS["length penalty"]])
@pytest.mark.parametrize("more", [{}, {"attention": "lsg"}, {"attention": "lsg", "lsg_no_global_to_decoder": True}])
@pytest.mark.usefixtures("replay", "exact_softmax")
def test_generation_with_scores_is_the_same_plain_cached_and_graphed(confident_model, random_tokens, options, more):
    model, tokens, found = confident_model(**NUGGET, **more), random_tokens(RAGGED), {}
    for context in (contextlib.nullcontext, plain_generation, cuda_graphs):
        with context(model) if context is not contextlib.nullcontext else context():
            found[context] = generate([model], tokens, **options)
    assert_same(found[contextlib.nullcontext], found[plain_generation], ROUNDING)
    assert_same(found[cuda_graphs], found[contextlib.nullcontext])
    alone = generate([model], tokens[1:2, : RAGGED[1]], **options)
    assert_same(found[contextlib.nullcontext][1:2], alone)


def test_added_scores_change_the_logits(confident_model, random_tokens):
    model, tokens = confident_model(**NUGGET), random_tokens(RAGGED)
    out = model.encoder(tokens, None)
    assert out["added_scores"][0].shape == out["encoder_padding_mask"][0].shape
    zeros = [torch.zeros_like(scores) for scores in out["added_scores"]]
    summaries = torch.tensor([[2, 5, 6]] * 4)
    ours, without = (model.decoder(summaries, encoded)[0] for encoded in (out, {**out, "added_scores": zeros}))
    assert (ours - without).abs().max() > 1e-4


def test_export_to_transformers_refuses_added_scores():
    model = {"_name": "transpooler", "pooler": "nugget_topk"}
    with pytest.raises(PyramidionError, match="cannot add scores to its attention"):
        read_options({"cfg": {"model": model}})
