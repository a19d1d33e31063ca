"""Tests of encoders for classification: against fairseq's RoBERTa, pooling that keeps <s>, padding, errors."""

from argparse import Namespace

import pytest
import torch
from fairseq.tasks.masked_lm import MaskedLMConfig, MaskedLMTask

from pyramidion_fairseq.attention import ATTENTIONS
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.models.architectures import ENCODERS, config_of
from pyramidion_fairseq.models.roberta import LSGRobertaModel
from pyramidion_fairseq.poolers import POOLERS
from pyramidion_fairseq.scorers import SCORERS
from tests.helpers.bart import documents, make_dictionary, randomise, symbols_of
from tests.helpers.roberta import HEAD, SHAPE, WORDS, build, build_stock, load_state

FULL = {"attention": "full"}
POOLED = {"pooling_schedule": "1:12,2:6"}
USABLE = [name for name in POOLERS.names() if not POOLERS.get(name).adds_scores_to_attention]


@pytest.mark.parametrize("options", [FULL, {"attention": "blockwise", "block_size": 64}], ids=str)
@pytest.mark.parametrize("prenorm", [False, True])
@torch.no_grad()
def test_unpooled_encoder_equals_fairseqs_roberta(options, prenorm):
    theirs = build_stock(encoder_normalize_before=prenorm)
    ours = load_state(build(**options, encoder_normalize_before=prenorm), theirs.state_dict())
    tokens = documents([50, 64, 3], WORDS)
    visible = tokens.ne(1)
    for arguments in ({}, {"features_only": True}):
        expected, found = theirs(tokens, **arguments)[0], ours(tokens, **arguments)[0]
        assert (expected - found)[visible].abs().max() < 1e-4
    expected, found = (model(tokens, classification_head_name=HEAD)[0] for model in (theirs, ours))
    assert expected.shape == found.shape == (3, 3)
    assert (expected - found).abs().max() < 1e-4


@pytest.mark.parametrize("attention", ATTENTIONS.names())
@pytest.mark.parametrize("options", [{}, POOLED], ids=["whole", "pooled"])
@torch.no_grad()
def test_logits_of_a_document_do_not_depend_on_its_batch(attention, options):
    model = randomise(build(attention=attention, block_size=8, **options))
    lengths = [60, 33, 12, 9, 3]
    tokens = documents(lengths, WORDS)
    batch = model(tokens, classification_head_name=HEAD)[0]
    for row, length in enumerate(lengths):
        alone = model(tokens[row : row + 1, :length], classification_head_name=HEAD)[0]
        left = torch.cat([torch.ones(1, 5, dtype=torch.long), tokens[row : row + 1, :length]], dim=1)
        assert (alone[0] - batch[row]).abs().max() < 1e-4
        assert (alone - model(left, classification_head_name=HEAD)[0]).abs().max() < 1e-4
    single = model(tokens[:, :1], classification_head_name=HEAD)[0]
    padded = model(documents([1, 40], WORDS), classification_head_name=HEAD)[0]
    assert single.isfinite().all() and padded.isfinite().all()


@pytest.mark.parametrize("pooler", USABLE)
@pytest.mark.parametrize("attention", ["full", "lsg"])
def test_first_vector_is_never_pooled(pooler, attention):
    """Check poolings to one vector: the classifier still reads another one, of <s> or of the global token."""
    model = randomise(build(attention=attention, pooler=pooler, pooling_schedule="1:5,2:1"))
    tokens = documents([40, 20], WORDS)
    x, extra = model(tokens, features_only=True)
    upsampled = pooler == "funnel"
    length = 40 if upsampled else 1 + (attention == "full")
    assert x.shape == (2, length, 32) and extra["padding_mask"].shape == (2, length)
    model(tokens, classification_head_name=HEAD)[0].sum().backward()
    encoder = model.encoder.sentence_encoder
    assert encoder.layers[2].fc1.weight.grad.abs().max() > 0
    scorers = [pooling.scorer for pooling in encoder.poolings.values() if pooling.scorer is not None]
    for parameter in (parameter for scorer in scorers for parameter in scorer.parameters()):
        assert parameter.grad is not None


@torch.no_grad()
def test_first_token_bypasses_the_poolings():
    """Check a pooling to one vector, which merges the other tokens: <s> remains as the first layer made it."""
    model = randomise(build(attention="full", pooling_schedule="1:1", encoder_layers=2))
    tokens = documents([30], WORDS)
    states = model(tokens, features_only=True, return_all_hiddens=True)[1]["inner_states"]
    assert [len(state) for state in states] == [29, 1, 1]
    bare = build(attention="full", encoder_layers=2)
    bare.load_state_dict({k: v for k, v in model.state_dict().items() if "poolings" not in k})
    whole = bare(tokens, features_only=True, return_all_hiddens=True)[1]["inner_states"][1]
    record = model(tokens, features_only=True)[1]["encoder_out"]
    slots, weights = record["pooling_slots"][0][0], record["pooling_weights"][0][0]
    assert slots.tolist() == [0] * 29
    torch.testing.assert_close(states[1][0, 0], (weights.unsqueeze(1) * whole[1:, 0]).sum(dim=0))
    second = bare.encoder.sentence_encoder.layers[1]
    kept = torch.stack([whole[0, 0], states[1][0, 0]]).unsqueeze(0)
    expected = second(kept, None)
    torch.testing.assert_close(model(tokens, features_only=True)[0], expected)


@pytest.mark.parametrize("scorer", SCORERS.names())
@pytest.mark.parametrize("attention", ["full", "lsg"])
def test_every_scorer_pools_to_the_scheduled_length(scorer, attention):
    model = build(attention=attention, scorer=scorer, **POOLED)
    x, _ = model(documents([40, 9], WORDS), features_only=True)
    assert x.shape[1] == 6 + (attention == "full")


def test_loading_roberta_repeats_positions_and_makes_global_tokens():
    theirs = build_stock()
    ours = load_state(build(max_positions=200, **POOLED), theirs.state_dict())
    encoder, stock = ours.encoder.sentence_encoder, theirs.encoder.sentence_encoder
    positions, before = encoder.embed_positions.weight, stock.embed_positions.weight
    assert positions.shape == (202, 32)
    for row in (0, 1, 2, 65, 66, 130, 201):
        assert torch.equal(positions[row], before[row if row < 2 else (row - 2) % 64 + 2])
    tokens = stock.embed_tokens.weight
    assert torch.equal(encoder.global_embeddings.weight[0], before[2] + tokens[0])
    mask = ours.encoder.dictionary.index("<mask>")
    assert torch.equal(encoder.global_embeddings.weight[1], before[2 + 64 * 64 // 1024] + tokens[mask])
    assert ours(documents([200, 90], WORDS), classification_head_name=HEAD)[0].isfinite().all()


@torch.no_grad()
def test_old_checkpoints_with_joint_projections_load():
    theirs = build_stock()
    old = {}
    for name, value in theirs.state_dict().items():
        if "q_proj" in name:
            parts = [theirs.state_dict()[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            name, value = name.replace("q_proj.", "in_proj_"), torch.cat(parts)
        elif "k_proj" in name or "v_proj" in name:
            continue
        name = name.replace("layernorm_embedding", "emb_layer_norm").replace("encoder.sen", "decoder.sen")
        old[name.replace("encoder.lm", "decoder.lm")] = value
    ours = load_state(build(**FULL), old)
    tokens = documents([40, 20], WORDS)
    assert (ours(tokens)[0] - theirs(tokens)[0])[tokens.ne(1)].abs().max() < 1e-4


def test_pooled_and_unpooled_models_load_each_others_states():
    pooled, bare = build(**POOLED), build(**FULL)
    load_state(bare, pooled.state_dict())
    load_state(pooled, bare.state_dict())
    for name, value in bare.state_dict().items():
        assert torch.equal(value, pooled.state_dict()[name])


def test_checkpoint_with_another_vocabulary_size_is_refused():
    with pytest.raises(PyramidionError, match="the checkpoint has 60 symbols, the data's dictionary 61"):
        load_state(build(words=61), build_stock().state_dict())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pooling_schedule": "3:6"}, r"pools after the last layer \(3\), where nothing reads what is left"),
        ({"pooler": "nugget_topk", **POOLED}, "--pooler nugget_topk adds scores to a decoder's attention"),
        ({"pooling_schedule": "1:65"}, r"keeps 65 tokens after layer 1, but documents have at most 64 \(--max-pos"),
        ({"max_positions": 1}, "--max-positions must be at least 3, got 1"),
        ({"encoder_attention_heads": 5}, r"--encoder-embed-dim \(32\) must be a multiple"),
        ({"scorer": "attention_sum", "attention": "lsh", **POOLED}, "the scorer needs the column sums"),
    ],
)
def test_invalid_options_are_refused_with_a_one_line_error(options, message):
    with pytest.raises(PyramidionError, match=message) as error:
        build(**options)
    assert "\n" not in str(error.value)


def test_halve_does_not_pool_after_the_last_layer():
    assert str(build(pooling_schedule="halve").encoder.sentence_encoder.schedule) == "1:32,2:16"


@pytest.mark.parametrize("options, ok", [({}, True), (POOLED, False), ({"pooler": "funnel", **POOLED}, True)])
def test_masked_lm_refuses_models_without_a_vector_for_every_token(options, ok):
    task = MaskedLMTask(MaskedLMConfig(tokens_per_sample=64), make_dictionary(symbols_of(WORDS)))
    args = Namespace(**{**SHAPE, "max_positions": 64, "lsg_block_size": 8, "lsg_sparse_block_size": 8, **options})
    if ok:
        logits, _ = LSGRobertaModel.build_model(args, task)(documents([30, 9], WORDS))
        assert logits.shape == (2, 30, WORDS)
    else:
        with pytest.raises(PyramidionError, match="has no vector for every token, which masked_lm predicts"):
            LSGRobertaModel.build_model(args, task)
        with pytest.raises(PyramidionError, match="has no vector for every token"):
            build(**options)(documents([30], WORDS))


def test_masked_lm_refuses_samples_longer_than_max_positions():
    task = MaskedLMTask(MaskedLMConfig(tokens_per_sample=65), make_dictionary(symbols_of(WORDS)))
    with pytest.raises(PyramidionError, match="--tokens-per-sample 65 is more than --max-positions 64"):
        LSGRobertaModel.build_model(Namespace(**{**SHAPE, "max_positions": 64}), task)


@pytest.mark.parametrize("options, told", [({}, True), ({"pooling_schedule": "1:7"}, False)])
def test_unpooled_blockwise_classifier_warns_that_it_reads_one_block(options, told, caplog):
    build(attention="blockwise", block_size=8, **options)
    assert ("reads nothing of the rest" in caplog.text) == told


@pytest.mark.parametrize("name", ENCODERS)
def test_roberta_architectures_have_the_sizes_of_roberta(name):
    config = config_of(name)()
    large = name.endswith("large")
    assert (config.encoder_layers, config.encoder_embed_dim) == ((24, 1024) if large else (12, 768))
    assert (config.encoder_attention_heads, config.max_positions) == (16 if large else 12, 4096)
    assert config.pooling_schedule == ("4:2048,8:1024" if name.endswith("pooled") else "")
