"""Tests of models with ``--pointer``: exact mixtures, gradients through copying, generation as in training."""

from argparse import Namespace
from contextlib import nullcontext

import pytest
import torch
from fairseq.criterions.cross_entropy import CrossEntropyCriterion
from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion

from pyramidion_fairseq.criterions import ChunkedCrossEntropyCriterion
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.functional import CopySource, copy_distribution, projected_softmax
from pyramidion_fairseq.functional.reference import pointer as reference_pointer
from pyramidion_fairseq.generation import cuda_graphs, plain_generation
from pyramidion_fairseq.generation.encoder_output import COPY_SOURCE, POOLING_SLOTS
from pyramidion_fairseq.models import PyramidionModel
from pyramidion_fairseq.poolers import POOLERS
from tests.helpers.generation import EQUAL, OPTIONS, RAGGED, STRATEGIES, assert_same, generate
from tests.helpers.models import TINY, make_dictionary
from tests.helpers.pointers import ROUNDING, gated, repetitive
from tests.helpers.recording import replay  # noqa: F401 -- a fixture

EXACT = [name for name in POOLERS.names() if POOLERS.get(name).exact_record]
MODELS = {
    **{name: {"pooler": name} for name in EXACT},
    "unpooled": {"pooling_schedule": ""},
    "pooled once": {"pooling_schedule": "3:5"},
    "global tokens": {"attention": "lsg", "lsg_global_tokens": 3},
    "hidden global tokens": {"attention": "lsg", "lsg_no_global_to_decoder": True},
    "another layer, all heads": {"pointer_layer": 1, "pointer_heads": 2},
    "one token of context": {"pointer_context": 1},
    "no context": {"pointer_context": 0},
    "norm before": {"decoder_normalize_before": True, "encoder_normalize_before": True},
}


def a_sample(rows=3, length=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(4, 14, (rows, length), generator=generator)
    target[-1, -2:] = 1
    previous = torch.cat([torch.full((rows, 1), 2), target[:, :-1]], dim=1)
    documents = repetitive([40, 17, 9])[:rows]
    net_input = {"src_tokens": documents, "src_lengths": None, "prev_output_tokens": previous}
    return {"net_input": net_input, "target": target, "ntokens": int(target.ne(1).sum())}


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_pointer_model_equals_explicit_distributions(tiny_model, exact_softmax, options):
    """Check the mixture and the gradient of every parameter against loops over tokens."""
    model, sample = gated(tiny_model(pointer=True, **options)), a_sample()
    logits, extra = model(**sample["net_input"])
    features, _ = model(**sample["net_input"], features_only=True)
    encoded = model.encoder(sample["net_input"]["src_tokens"], None)
    source, pointer = CopySource(*encoded[COPY_SOURCE]), extra["pointer"]
    mixed = model.get_normalized_probs((logits, extra), log_probs=False)
    slow = reference_pointer.mixed_distribution(
        logits, model.decoder.pointer.gate(features), pointer.attention, source, pointer.history
    )
    torch.testing.assert_close(mixed, slow, rtol=0, atol=1e-10)
    torch.testing.assert_close(mixed.sum(2), torch.ones_like(mixed[..., 0]), rtol=0, atol=1e-12)
    target = sample["target"].unsqueeze(2)
    ours = model.get_normalized_probs((logits, extra), log_probs=True).gather(2, target).sum()
    parameters = [p for p in model.parameters()]
    fast = torch.autograd.grad(ours, parameters, retain_graph=True)
    # The reference's gradients go through its inputs: logits, attention and weights, and features of a second pass.
    slow = torch.autograd.grad(slow.log().gather(2, target).sum(), parameters, allow_unused=True)
    for a, b in zip(fast, slow):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("schedule", ["", "1:12,2:5"])
@pytest.mark.parametrize(
    "options, before",
    [
        ({}, 0),
        ({"attention": "lsg", "lsg_global_tokens": 3}, 3),
        ({"attention": "lsg", "lsg_global_tokens": 3, "lsg_no_global_to_decoder": True}, 0),
    ],
    ids=str,
)
def test_copied_tokens_are_those_of_the_vector_that_the_decoder_reads(tiny_model, options, before, schedule):
    """Check that a token's slot in the copy source is that of the poolings, after ``before`` global tokens."""
    encoded = tiny_model(pointer=True, pooling_schedule=schedule, **options).encoder(repetitive([40, 17, 9]), None)
    slots = torch.arange(40).repeat(3, 1)
    for pooled in encoded[POOLING_SLOTS]:
        slots = pooled.gather(1, slots)
    tokens = torch.arange(40) < torch.tensor([[40], [17], [9]])
    assert torch.equal(CopySource(*encoded[COPY_SOURCE]).slots[tokens], before + slots[tokens])


@pytest.mark.parametrize("pooler", sorted(set(POOLERS.names()) - set(EXACT)))
def test_pointer_refuses_poolers_without_an_exact_record(tiny_model, pooler):
    with pytest.raises(PyramidionError, match=f"--pooler {pooler} the tokens of a vector are not known exactly"):
        tiny_model(pointer=True, pooler=pooler)
    tiny_model(pointer=True, pooler=pooler, pooling_schedule="")  # nothing is pooled


@pytest.mark.parametrize(
    "options, line",
    [
        ({"pointer_layer": 3}, "--pointer-layer must be from 1 to 2, or 0, got 3"),
        ({"pointer_heads": 0}, "--pointer-heads must be from 1 to 2, got 0"),
        ({"pointer_heads": 3}, "--pointer-heads must be from 1 to 2, got 3"),
        ({"pointer_context": 21}, "--pointer-context must be at least 0 and at most 20, got 21"),
    ],
)
def test_invalid_pointer_options_are_refused(tiny_model, options, line):
    with pytest.raises(PyramidionError) as error:
        tiny_model(pointer=True, **options)
    assert str(error.value) == line


def test_pointer_refuses_two_dictionaries():
    task = Namespace(source_dictionary=make_dictionary(40), target_dictionary=make_dictionary(41))
    with pytest.raises(PyramidionError, match="one dictionary for both"):
        PyramidionModel.build_model(Namespace(**{**TINY, "pointer": True, "share_all_embeddings": False}), task)


def test_pointer_is_off_by_default(tiny_model):
    model = tiny_model()
    assert model.decoder.pointer is None and model.encoder(repetitive([9]), None)[COPY_SOURCE] == []
    assert not [name for name in model.state_dict() if "pointer" in name]


def test_new_pointer_has_the_last_layer_and_the_given_bias_of_both_copying_gates(tiny_model):
    model = tiny_model(pointer=True, pointer_bias=-1.5)
    assert model.decoder.pointer.layer == 1 and tiny_model(pointer=True, pointer_layer=1).decoder.pointer.layer == 0
    assert model.decoder.pointer.gate.bias.tolist() == [0, -1.5, -1.5]
    assert not model.decoder.pointer.gate.weight.any()


def scorer_gradients(model):
    sample = a_sample()
    criterion = ChunkedCrossEntropyCriterion(Namespace(target_dictionary=make_dictionary(40)), False, 0.0)
    model.zero_grad()
    criterion(model, sample)[0].backward()
    return [p.grad.clone() for name, p in model.named_parameters() if ".scorer." in name]


def test_scorers_get_gradients_through_copying(tiny_model):
    """Check that attached weights give scorers another gradient than detached ones."""
    attached, detached = (gated(tiny_model(pointer=True, pointer_detach_weights=d)).train() for d in (False, True))
    attached.load_state_dict(detached.state_dict())
    differences = [(a - b).abs().max() for a, b in zip(*map(scorer_gradients, (attached, detached)))]
    assert len(differences) == 4 and min(differences) > 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("options", [{}, {"pointer": True}, {"pointer": True, "share_all_embeddings": False}], ids=str)
def test_chunked_criterion_equals_fairseqs(tiny_model, exact_softmax, monkeypatch, options, smoothing):
    monkeypatch.setattr(projected_softmax, "CHUNK_LOGITS", 100)
    model, task, sample = tiny_model(**options), Namespace(target_dictionary=make_dictionary(40)), a_sample()
    stock = CrossEntropyCriterion(task, False)
    if smoothing:
        stock = LabelSmoothedCrossEntropyCriterion(task, False, smoothing)
    results = []
    for criterion in (stock, ChunkedCrossEntropyCriterion(task, False, smoothing)):
        model.zero_grad()
        loss, size, logged = criterion(model, sample)
        loss.backward()
        results.append((loss.item(), size, [p.grad.clone() for p in model.parameters()]))
        assert logged["ntokens"] == 16
    (ours, ours_size, ours_grads), (stock_loss, stock_size, stock_grads) = results
    assert ours == pytest.approx(stock_loss, abs=1e-10) and ours_size == stock_size
    for a, b in zip(ours_grads, stock_grads):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"pointer": True}], ids=str)
def test_chunked_criterion_reports_the_same_accuracy_as_fairseqs(confident_model, options):
    """Check targets of which some are the most probable symbols, and some are not."""
    model, sample = confident_model(**options).eval(), a_sample()
    task = Namespace(target_dictionary=make_dictionary(40))
    best = model(**sample["net_input"])[0].argmax(dim=2)
    sample["target"][:, ::2] = torch.where(sample["target"] == 1, 1, best)[:, ::2]
    classes = (LabelSmoothedCrossEntropyCriterion, ChunkedCrossEntropyCriterion)
    stock, ours = (criterion(task, False, 0.1, report_accuracy=True)(model, sample)[2] for criterion in classes)
    assert (ours["n_correct"], ours["total"]) == (stock["n_correct"], stock["total"])
    assert 0 < ours["n_correct"] < ours["total"] == 16


def test_chunked_criterion_counts_no_padding_as_correct(confident_model):
    model, sample = confident_model().eval(), a_sample()
    sample["target"] = model(**sample["net_input"])[0].argmax(dim=2)
    padding = int(sample["target"][0, 0])
    criterion = ChunkedCrossEntropyCriterion(Namespace(target_dictionary=make_dictionary(40)), False, 0.0)
    criterion.padding_idx, criterion.report_accuracy = padding, True
    words = int(sample["target"].ne(padding).sum())
    logged = criterion(model, sample)[2]
    assert (logged["n_correct"], logged["total"]) == (words, words) and words < sample["target"].numel()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_chunked_criterion_without_reduction_has_fairseqs_loss_of_each_token(tiny_model, exact_softmax, smoothing):
    model, task, sample = tiny_model().eval(), Namespace(target_dictionary=make_dictionary(40)), a_sample()
    classes = (LabelSmoothedCrossEntropyCriterion, ChunkedCrossEntropyCriterion)
    stock, ours = (criterion(task, False, smoothing)(model, sample, reduce=False) for criterion in classes)
    assert ours[0].numel() == sample["target"].numel()
    torch.testing.assert_close(ours[0], stock[0].flatten(), rtol=0, atol=1e-10)
    torch.testing.assert_close(ours[2]["nll_loss"], stock[2]["nll_loss"].flatten(), rtol=0, atol=1e-10)


def test_chunked_criterion_refuses_an_ignored_prefix(tiny_model):
    task = Namespace(target_dictionary=make_dictionary(40))
    criterion = ChunkedCrossEntropyCriterion(task, False, 0.1, ignore_prefix_size=1)
    with pytest.raises(PyramidionError, match="--ignore-prefix-size is not supported by chunked_cross_entropy"):
        criterion(tiny_model(), a_sample())


@pytest.mark.parametrize("lengths", [EQUAL, RAGGED], ids=["equal", "ragged"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_pointer_generation_equals_plain_generation(confident_model, exact_softmax, options, lengths):
    model, tokens = gated(confident_model(pointer=True)), repetitive(lengths)
    ours = generate([model], tokens, **options)
    with plain_generation(model):
        assert_same(ours, generate([model], tokens, **options), ROUNDING)


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_generated_scores_equal_teacher_forced_scores(confident_model, exact_softmax, options):
    model, tokens = gated(confident_model(pointer=True, **options)), repetitive(RAGGED)
    for document, hypotheses in zip(tokens, generate([model], tokens, beam_size=3)):
        best = hypotheses[0]["tokens"].unsqueeze(0)
        previous = torch.cat([torch.tensor([[2]]), best[:, :-1]], dim=1)
        with torch.no_grad():
            mixed = model.get_normalized_probs(model(document.unsqueeze(0), None, previous), log_probs=True)
        scores = mixed.gather(2, best.unsqueeze(2)).flatten()
        torch.testing.assert_close(hypotheses[0]["positional_scores"], scores, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("strategy, prefix", STRATEGIES.values(), ids=STRATEGIES)
def test_every_search_strategy_equals_plain_generation(confident_model, exact_softmax, strategy, prefix):
    model, tokens, results = gated(confident_model(pointer=True)), repetitive(RAGGED), []
    for context in (nullcontext(), plain_generation(model)):
        chosen = strategy(make_dictionary(40)) if strategy else None
        with context:
            forced = None if prefix is None else torch.tensor(prefix)
            results.append(generate([model], tokens, chosen, forced, beam_size=4))
    assert_same(*results, ROUNDING)


def test_unknown_tokens_are_not_copied(tiny_model):
    """Check documents full of <unk>: it is copied with probability 0, and all probabilities sum to one."""
    model, sample = gated(tiny_model(pointer=True)), a_sample()
    sample["net_input"]["src_tokens"][0, ::2] = 3
    sample["net_input"]["src_tokens"][1, :-1] = 3
    logits, extra = model(**sample["net_input"])
    mixed = model.get_normalized_probs((logits, extra), log_probs=False)
    torch.testing.assert_close(mixed.sum(2), torch.ones_like(mixed[..., 0]), rtol=0, atol=1e-12)
    pointer = extra["pointer"]
    copied, left = copy_distribution(pointer.attention, pointer.source, pointer.history, pointer.continued, 40)
    assert (copied[..., 3] == 0).all() and (left[:2] > 0).any() and (left[2] == 0).all()
    torch.testing.assert_close(copied.sum(2) + left, torch.ones_like(left), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_special_symbols_except_eos_are_not_copied(exact_softmax, options):
    """Check documents that are half <unk>, <s> or <mask>; </s> is copied, as it ends summaries, too."""
    task = Namespace(**dict.fromkeys(("source_dictionary", "target_dictionary"), make_dictionary(39)))
    mask = task.source_dictionary.add_symbol("<mask>")
    torch.manual_seed(0)
    model = gated(PyramidionModel.build_model(Namespace(**{**TINY, "pointer": True, **options}), task).double().eval())
    sample = a_sample()
    documents = sample["net_input"]["src_tokens"]
    documents[:, 0] = documents[:, 1:7:3] = 3
    documents[0, 2], documents[1, 2], documents[2, 2] = 0, mask, 3
    documents[:, 3] = 2  # at the beginning, which is all that some poolers keep
    logits, extra = model(**sample["net_input"])
    mixed = model.get_normalized_probs((logits, extra), log_probs=False)
    gates, attention, history, source = extra["pointer"]
    copied, _ = copy_distribution(attention, source, history, extra["pointer"].continued, 40)
    assert not copied[..., [0, 1, 3, mask]].any() and (copied[..., 2] > 0).any()
    slow = reference_pointer.mixed_distribution(logits, gates, attention, source, history)
    torch.testing.assert_close(mixed, slow, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "tokens", [[[2]], [[5, 2]], [[3, 2]], [[0, 2]], [[1]]], ids=["empty", "one word", "unknown", "<s>", "padding"]
)
@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_probabilities_of_tiny_documents_sum_to_one(tiny_model, options, tokens):
    """Check documents in which little or nothing can be copied."""
    model = gated(tiny_model(pointer=True, **options))
    mixed = model.get_normalized_probs(model(torch.tensor(tokens), None, torch.tensor([[2, 5]])), log_probs=False)
    torch.testing.assert_close(mixed.sum(2), torch.ones_like(mixed[..., 0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.7])
def test_temperature_applies_to_the_mixture(confident_model, exact_softmax, temperature):
    """Check that it divides the log probabilities of each model of an ensemble, as in fairseq."""
    models = [gated(confident_model(pointer=True)), gated(confident_model(seed=3, pointer=True, pointer_layer=1))]
    tokens = repetitive(RAGGED)
    for chosen in (models[:1], models):
        found = generate(chosen, tokens, beam_size=3, temperature=temperature)
        with plain_generation(*chosen):
            assert_same(found, generate(chosen, tokens, beam_size=3, temperature=temperature), ROUNDING)
        for document, hypotheses in zip(tokens, found):
            best = hypotheses[0]["tokens"].unsqueeze(0)
            previous = torch.cat([torch.tensor([[2]]), best[:, :-1]], dim=1)
            with torch.no_grad():
                mixed = [
                    model.get_normalized_probs(model(document.unsqueeze(0), None, previous), log_probs=False)
                    for model in chosen
                ]
            tempered = [probabilities ** (1 / temperature) for probabilities in mixed]
            mean = sum(p / p.sum(dim=2, keepdim=True) for p in tempered) / len(chosen)
            scores = mean.log().gather(2, best.unsqueeze(2)).flatten()
            torch.testing.assert_close(hypotheses[0]["positional_scores"], scores, rtol=0, atol=ROUNDING)


def test_ensembles_with_and_without_a_pointer_equal_plain_generation(confident_model, exact_softmax):
    models = [gated(confident_model(pointer=True)), confident_model(seed=3, pooling_schedule="2:7", decoder_layers=1)]
    tokens = repetitive(RAGGED)
    ours = generate(models, tokens, beam_size=3)
    with plain_generation(*models):
        assert_same(ours, generate(models, tokens, beam_size=3), ROUNDING)


@pytest.mark.parametrize("options", [OPTIONS["beam 2"], OPTIONS["minimum"]], ids=["beam 2", "minimum"])
def test_graphed_steps_generate_the_same(confident_model, exact_softmax, replay, options):  # noqa: F811
    model, tokens = gated(confident_model(pointer=True)), repetitive(RAGGED)
    plain = generate([model], tokens, **options)
    with cuda_graphs(model):
        assert_same(generate([model], tokens, **options), plain)
    assert replay.made and replay.replayed > replay.made


def test_another_alignment_layer_is_refused(tiny_model):
    model, sample = tiny_model(pointer=True), a_sample()
    with pytest.raises(PyramidionError, match="alignment_layer 0: this model points with layer 1"):
        model(**sample["net_input"], alignment_layer=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("criterion", [ChunkedCrossEntropyCriterion, LabelSmoothedCrossEntropyCriterion])
def test_loss_of_a_batch_is_the_sum_over_its_documents(tiny_model, exact_softmax, criterion, smoothing):
    """Check that losses and gradients of single documents add up to those of all, as with --update-freq."""
    model, sample = gated(tiny_model(pointer=True)), a_sample()
    whole = criterion(Namespace(target_dictionary=make_dictionary(40)), False, smoothing)
    loss = whole(model, sample)[0]
    expected = torch.autograd.grad(loss, list(model.parameters()))
    losses = []
    for row in range(3):
        length = int(sample["net_input"]["src_tokens"][row].ne(1).sum())
        inputs = {**sample["net_input"], "src_tokens": sample["net_input"]["src_tokens"][row : row + 1, :length]}
        inputs["prev_output_tokens"], target = (
            x[row : row + 1] for x in (inputs["prev_output_tokens"], sample["target"])
        )
        losses.append(whole(model, {"net_input": inputs, "target": target, "ntokens": 1})[0])
    assert sum(losses).item() == pytest.approx(loss.item(), abs=1e-10)
    for a, b in zip(torch.autograd.grad(sum(losses), list(model.parameters())), expected):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias", [[0.0, -40.0, -40.0], [-40.0, 40.0, -40.0], [-40.0, -40.0, 40.0]], ids=str)
def test_losses_in_half_precision_are_finite_and_close_to_float32(tiny_model, dtype, smoothing, bias):
    """Check gates that leave no choice, and a document with nothing to copy."""
    model, sample = gated(tiny_model(pointer=True)), a_sample()
    sample["net_input"]["src_tokens"][2, :8] = 3
    with torch.no_grad():
        model.decoder.pointer.gate.bias.copy_(torch.tensor(bias))
    task, losses = Namespace(target_dictionary=make_dictionary(40)), []
    for criterion in (LabelSmoothedCrossEntropyCriterion, ChunkedCrossEntropyCriterion):
        for kind in (torch.float32, dtype):
            model.to(kind).zero_grad()
            loss = criterion(task, False, smoothing)(model, sample)[0]
            loss.backward()
            assert all(p.grad.isfinite().all() for p in model.parameters())
            losses.append(loss.item())
    assert losses == pytest.approx([losses[0]] * 4, rel=0.05)
