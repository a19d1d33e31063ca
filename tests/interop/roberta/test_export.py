"""Tests of classifiers exported to transformers: logits, tokens, labels, losses, and exact round trips."""

import copy
import json
import shutil

import pytest
import torch

from pyramidion_fairseq.apps.classify.loading import load_classifier
from pyramidion_fairseq.attention import ATTENTIONS
from pyramidion_fairseq.text import Document
from tests.helpers.bart import documents

SMALL = ["--max-positions", 128, "--lsg-block-size", 16, "--lsg-sparse-block-size", 16, "--block-size", 64]
POOLED = ["--pooling-schedule", "1:40,2:12"]
VARIANTS = [["--attention", name, *more] for name in ATTENTIONS.names() for more in ([], POOLED) if name != "lsh"]
VARIANTS += [["--attention", "lsg", *POOLED, "--scorer", "attention_sum", "--pooler", "hard_topk"]]
VARIANTS += [["--attention", "full", *POOLED, "--pooler", "funnel"]]


def load(transformers, folder):
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(str(folder), trust_remote_code=True)
    return loaded.eval()


@pytest.mark.parametrize("flags", VARIANTS, ids=lambda flags: " ".join(map(str, flags[1:])))
@torch.no_grad()
def test_exported_classifier_gives_the_same_logits(transformers, hugging_face, convert, flags):
    folder = convert("roberta", hugging_face("roberta")[0], *SMALL, *flags)
    model = load_classifier(str(folder), device="cpu").model
    theirs = load(transformers, convert("huggingface", folder / "model.pt"))
    tokens = documents([120, 63, 20, 3], theirs.config.vocab_size)
    logits, _ = model.predict("sentence_classification_head", tokens)
    found = theirs(input_ids=tokens, attention_mask=tokens.ne(1).long()).logits
    assert (found - logits).abs().max() < 1e-4
    alone = theirs(input_ids=tokens[2:3, :20]).logits
    assert (alone[0] - logits[2]).abs().max() < 1e-4
    assert theirs.config.id2label == {0: "bad", 1: "so so", 2: "good"}


@pytest.mark.parametrize("kind", ["roberta", "camembert", "xlm-roberta"])
def test_round_trip_through_transformers_is_bit_exact(transformers, hugging_face, convert, capsys, kind):
    folder = convert("roberta", hugging_face(kind)[0], *SMALL, *POOLED)
    exported = convert("huggingface", folder / "model.pt")
    line = f"wrote {exported}: load it with AutoModelForSequenceClassification.from_pretrained("
    assert line in capsys.readouterr().err
    back = convert("roberta", exported)
    first, second = torch.load(folder / "model.pt"), torch.load(back / "model.pt")
    assert first["model"].keys() == second["model"].keys()
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name]), name
    assert first["extra_state"]["vocabularies"]["source"] == second["extra_state"]["vocabularies"]["source"]
    assert first["extra_state"]["labels"] == second["extra_state"]["labels"]
    for name in ("pooling_schedule", "max_positions", "attention"):
        assert first["cfg"]["model"][name] == second["cfg"]["model"][name]


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta"])
def test_exported_tokenizer_gives_the_tokens_of_training(transformers, hugging_face, convert, kind):
    folder = convert("roberta", hugging_face(kind)[0], *SMALL)
    exported = convert("huggingface", folder / "model.pt")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(exported), trust_remote_code=True)
    classifier = load_classifier(str(folder), device="cpu")
    texts = ("hello wor hell", "or hello") if kind == "roberta" else ("alpha beta gamma", "omicron")
    pair = tuple(map(Document.from_text, texts))
    assert tokenizer(texts[0])["input_ids"] == classifier.read(pair[0]).tokens
    assert tokenizer(*texts)["input_ids"] == classifier.read(pair).tokens


def change_task(folder, **changes):
    """Give a checkpoint other options of its task, as if it had been trained with these."""
    state = torch.load(folder / "model.pt")
    state["cfg"]["task"].update(changes)
    torch.save(state, folder / "model.pt")


@pytest.mark.parametrize("init", [0, None])
def test_pairs_without_a_separator_are_encoded_as_in_training(transformers, hugging_face, convert, init):
    """Check that each text still ends with </s>."""
    folder = convert("roberta", hugging_face("xlm-roberta")[0], *SMALL)
    change_task(folder, init_token=init, separator_token=None)
    exported = convert("huggingface", folder / "model.pt")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(exported), trust_remote_code=True)
    classifier = load_classifier(str(folder), device="cpu")
    pair = Document.from_text("alpha beta gamma"), Document.from_text("omicron")
    expected = classifier.read(pair).tokens
    assert expected.count(2) == 2 and tokenizer("alpha beta gamma", "omicron")["input_ids"] == expected
    special = tokenizer("alpha beta gamma", "omicron", return_special_tokens_mask=True)["special_tokens_mask"]
    assert special == [int(token in (0, 2)) for token in expected]


def test_byte_level_pairs_without_a_separator_are_encoded_as_in_training(
    transformers, hugging_face, convert, tmp_path
):
    """Check that texts end with </s>; that single texts are read like RoBERTa's; and a saved tokenizer."""
    folder = convert("roberta", hugging_face("roberta")[0], *SMALL)
    load_tokenizer = transformers.AutoTokenizer.from_pretrained
    texts = [" hello <mask> wor\n\u00e9\U0001f600 hell", "", "or <s> hello</s>", "a  b\t<pad><unk>"]
    alike = load_tokenizer(str(convert("huggingface", folder / "model.pt")), trust_remote_code=True)(texts)
    change_task(folder, separator_token=None)
    tokenizer = load_tokenizer(str(convert("huggingface", folder / "model.pt")), trust_remote_code=True)
    tokenizer.save_pretrained(tmp_path / "saved")
    classifier = load_classifier(str(folder), device="cpu")
    pair = Document.from_text("hello wor hell"), Document.from_text("or hello")
    expected = classifier.read(pair).tokens
    assert expected.count(2) == 2
    for read in (tokenizer, load_tokenizer(str(tmp_path / "saved"))):
        assert dict(read(texts)) == dict(alike) and read.model_max_length == 128
        assert read("hello wor hell", "or hello")["input_ids"] == expected
        assert read.decode(read(texts[0])["input_ids"]) == f"<s>{texts[0]}</s>"


def test_no_tokenizer_is_exported_where_documents_start_with_another_symbol(hugging_face, convert, capsys):
    folder = convert("roberta", hugging_face("xlm-roberta")[0], *SMALL)
    change_task(folder, init_token=7)
    exported = convert("huggingface", folder / "model.pt")
    assert not (exported / "tokenizer_config.json").exists()
    assert "the model was trained without <s> before documents" in capsys.readouterr().err


def test_exported_classifier_gives_the_cross_entropy_of_labels(transformers, hugging_face, convert, tmp_path):
    folder = convert("roberta", hugging_face("roberta")[0], *SMALL, "--attention", "full")
    exported = convert("huggingface", folder / "model.pt")
    theirs, tokens = load(transformers, exported), documents([20, 9], 40)
    assert theirs.accepts_loss_kwargs is False  # Trainer takes the mean over the batches of an update
    out = theirs(input_ids=tokens, labels=torch.tensor([2, 0]))
    assert out.loss.item() == pytest.approx(torch.nn.functional.cross_entropy(out.logits, torch.tensor([2, 0])).item())
    theirs.save_pretrained(tmp_path / "saved")
    for path in exported.iterdir():  # an older transformers saves no code
        if path.suffix == ".py" and not (tmp_path / "saved" / path.name).exists():
            shutil.copyfile(path, tmp_path / "saved" / path.name)
    again = load(transformers, tmp_path / "saved")
    assert torch.equal(again(input_ids=tokens).logits, out.logits)


def test_inputs_embeds_are_refused(transformers, hugging_face, convert):
    folder = convert("roberta", hugging_face("roberta")[0], *SMALL)
    theirs = load(transformers, convert("huggingface", folder / "model.pt"))
    for more in ({}, {"input_ids": documents([5], 40)}):
        with pytest.raises(ValueError, match="the encoder needs input_ids, not inputs_embeds"):
            theirs(inputs_embeds=torch.zeros(1, 5, 32), **more)


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression", "single_label_classification"])
def test_loss_follows_the_problem_type(transformers, hugging_face, convert, kind):
    """Check the losses of transformers' RoBERTa with the same logits."""
    given, theirs = hugging_face("roberta")
    exported = convert("huggingface", convert("roberta", given, *SMALL, "--attention", "full") / "model.pt")
    more = {"trust_remote_code": True, "problem_type": kind}
    ours = transformers.AutoModelForSequenceClassification.from_pretrained(str(exported), **more).eval()
    tokens = {"input_ids": documents([20, 9], 40), "attention_mask": documents([20, 9], 40).ne(1).long()}
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    stock = copy.deepcopy(theirs)
    stock.config.problem_type = kind
    labels = torch.tensor([2, 0]) if kind.startswith("single") else labels
    expected, found = (model(**tokens, labels=labels) for model in (stock, ours))
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-4)


def test_labels_of_regression_may_be_a_column(transformers, hugging_face, convert):
    folder = convert("roberta", hugging_face("roberta", num_labels=1, id2label={0: "x"}, label2id={"x": 0})[0], *SMALL)
    theirs, tokens = load(transformers, convert("huggingface", folder / "model.pt")), documents([20, 9], 40)
    row, column = (theirs(input_ids=tokens, labels=torch.tensor([0.5, -1]).reshape(shape)) for shape in (2, (2, 1)))
    assert (
        row.loss.item()
        == column.loss.item()
        == pytest.approx((row.logits.flatten() - torch.tensor([0.5, -1])).square().mean().item())
    )


def test_new_head_for_other_classes_is_initialised_with_small_weights(
    transformers, hugging_face, convert, monkeypatch
):
    """Check that all values are set: transformers leaves memory uninitialised, which holds NaN here."""
    folder = convert("roberta", hugging_face("roberta")[0], *SMALL)
    exported, tokens = convert("huggingface", folder / "model.pt"), documents([20, 9], 40)
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *given, **more: empty_like(*given, **more).fill_(float("nan")))
    more = {"trust_remote_code": True, "num_labels": 5, "ignore_mismatched_sizes": True}
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(str(exported), **more).eval()
    monkeypatch.undo()
    assert theirs.classifier.out_proj.bias.tolist() == [0] * 5
    assert 0 < theirs.classifier.out_proj.weight.abs().max() < 0.2
    known = load(transformers, exported)
    assert torch.equal(theirs.classifier.dense.weight, known.classifier.dense.weight)
    assert theirs(input_ids=tokens, labels=torch.tensor([4, 0])).loss < 10


def test_export_of_a_checkpoint_without_a_head_is_refused(hugging_face, convert):
    folder = convert("roberta", hugging_face("roberta", "ForMaskedLM")[0], *SMALL)
    with pytest.raises(SystemExit, match="has no classification head"):
        convert("huggingface", folder / "model.pt")
    card = json.loads((folder / "conversion.json").read_text())
    assert card["options"]["max_positions"] == 128
