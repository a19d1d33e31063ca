"""Tests of pyramidion-classify: labels, probabilities, regression, pairs, kept tokens, and invalid input."""

import io
import json
import os
import sys
from argparse import Namespace

import pytest
import torch
from fairseq.data import ConcatSentencesDataset, Dictionary, ListDataset, PrependTokenDataset
from fairseq.data.shorten_dataset import maybe_shorten_dataset

from pyramidion_fairseq import class_labels
from pyramidion_fairseq.apps.classify.classifier import Classifier
from pyramidion_fairseq.apps.classify.loading import load_classifier
from pyramidion_fairseq.cli.classify import main
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.functional import compose_poolings
from pyramidion_fairseq.inference.loading import load_summarizer
from pyramidion_fairseq.models.roberta import SentenceEncoder
from pyramidion_fairseq.text import Document
from tests.helpers.classifiers import SYMBOLS, write_classifier
from tests.helpers.pages import data_of
from tests.helpers.preprocessing import WORDS
from tests.helpers.roberta import HEAD

TEXTS = [" ".join(WORDS[i:] + WORDS[:i]) for i in (0, 3, 7)] + ["beta", "", " ".join(WORDS * 5)]
POOLED = {"pooling_schedule": "1:12,2:4", "attention": "full"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return (checkpoint, model) of a classifier with poolings."""
    return write_classifier(tmp_path_factory.mktemp("classifier"), **POOLED)


@pytest.fixture
def classify(saved, tmp_path, capsys):
    """Return a function that runs the command on rows of a JSON lines file and returns the lines of its output."""

    def run(*words, rows=None, checkpoint=None):
        path = tmp_path / "documents.jsonl"
        rows = [{"id": n, "text": text} for n, text in enumerate(TEXTS)] if rows is None else rows
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        main(["--checkpoint", str(checkpoint or saved[0]), "--device", "cpu", str(path), *map(str, words)])
        return capsys.readouterr().out.split("\n")[:-1]

    return run


def ids(text):
    return [SYMBOLS.index(word) for word in text.split()]


@torch.no_grad()
def expected(model, *texts):
    tokens = [0, *ids(texts[0])[:62], 2] + ([2, *ids(texts[1]), 2] if len(texts) > 1 else [])
    return model(torch.tensor([tokens]), classification_head_name=HEAD)[0][0].softmax(dim=0).tolist()


def test_classify_gives_the_probabilities_of_the_model(classify, saved):
    names = ["7", "World News", "cs.CL"]
    rows = [json.loads(line) for line in classify("--format", "jsonl", "--batch-size", 2)]
    assert [row["index"] for row in rows] == [row["article_id"] for row in rows] == list(range(6))
    for row, text in zip(rows, TEXTS):
        if not text:
            assert (row["label"], row["probabilities"], row["tokens"]) == (None, {}, 0)
            continue
        shares = dict(zip(names, expected(saved[1], text)))
        assert row["probabilities"] == pytest.approx(shares, abs=1e-5)
        assert row["label"] == max(shares, key=shares.get) == next(iter(row["probabilities"]))
        assert row["tokens"] == min(64, len(text.split()) + 2) and row["cut"] == (len(text.split()) > 62)


@pytest.mark.parametrize("options", [POOLED, {"attention": "lsg"}], ids=["pooled", "lsg"])
def test_encoder_gets_document_lengths_from_the_host(classify, tmp_path, monkeypatch, options):
    """Check that the lengths come from the host, so that a GPU need not be asked for them."""
    taken, arrange = [], SentenceEncoder._right_pad
    checkpoint = write_classifier(tmp_path, **options)[0]
    monkeypatch.setattr(SentenceEncoder, "_right_pad", lambda *args: taken.append(args[2]) or arrange(*args))
    classify(checkpoint=checkpoint)
    assert taken == [[64, 21, 21, 21, 3]]


def test_text_output_has_one_line_per_document(classify, saved):
    lines = classify("--max-tokens", 100)
    assert len(lines) == 6 and lines[4] == ""
    label, share = lines[0].split("\t")
    assert float(share) == pytest.approx(max(expected(saved[1], TEXTS[0])), abs=1e-5)
    assert label in ("7", "World News", "cs.CL")


def test_batch_out_of_memory_is_halved(classify, monkeypatch):
    """Check the sizes of the batches; documents are sorted by length, the longest first."""
    run, sizes, expected = Classifier._run, [], classify()

    def limited(self, inputs, explain):
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise RuntimeError("CUDA out of memory.")
        return run(self, inputs, explain)

    monkeypatch.setattr(Classifier, "_run", limited)
    assert classify() == expected and sizes == [5, 2, 3, 1, 2]

    def never(self, *_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(Classifier, "_run", never)
    with pytest.raises(SystemExit, match="memory on cpu is too small for a document of 64 tokens"):
        classify()


def test_classify_reads_standard_input(saved, monkeypatch, capsys):
    class Stdin:
        buffer = io.BufferedReader(io.BytesIO(b"alpha beta gamma\ndelta\n"))

    monkeypatch.setattr(sys, "stdin", Stdin)
    main(["--checkpoint", str(saved[0]), "--device", "cpu"])
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("method", ["truncate", "none"])
def test_long_texts_are_cut_as_in_training_with_shorten_method(tmp_path, method):
    """Check against fairseq's datasets: ``truncate`` cuts the last ``</s>`` off, and the second text first."""
    checkpoint, _ = write_classifier(tmp_path, task={"shorten_method": method}, **POOLED)
    classifier = load_classifier(str(checkpoint), device="cpu")
    long, short = " ".join(WORDS * 5), "delta mu"
    for texts in ((short,), (long,), (short, short), (long, short), (short, long), (long, long)):
        sides = [ListDataset([torch.tensor([*ids(text), 2])], [len(text.split()) + 1]) for text in texts]
        sides = [PrependTokenDataset(side, token) for side, token in zip(sides, (0, 2))]
        dataset = ConcatSentencesDataset(*sides) if len(sides) == 2 else sides[0]
        dataset = maybe_shorten_dataset(dataset, "train", "", method, 64, 1)
        documents = tuple(Document.from_text(text) for text in texts)
        encoded = classifier.read(documents if len(texts) == 2 else documents[0])
        total = sum(len(text.split()) + 2 for text in texts)
        assert encoded.cut == (total > 64) and len(encoded.token_words) == len(encoded.tokens) == min(total, 64)
        assert (encoded.tokens == dataset[0].tolist()) == (method == "truncate" or total <= 64)
        read = len({word for word in encoded.token_words if word >= 0})
        assert read + sum(encoded.unread) == sum(len(text.split()) for text in texts)


def test_pairs_are_encoded_as_in_training_and_share_the_positions(classify, saved):
    rows = [{"text": "alpha beta gamma", "title": "delta mu"}]
    (row,) = map(json.loads, classify("--second-field", "title", "--format", "jsonl", rows=rows))
    shares = expected(saved[1], "alpha beta gamma", "delta mu")
    assert sorted(row["probabilities"].values()) == pytest.approx(sorted(shares), abs=1e-5)
    classifier = load_classifier(str(saved[0]), device="cpu")
    long, short = Document.from_text(" ".join(WORDS * 5)), Document.from_text("delta mu")
    for pair, kept in (((long, short), 58), ((short, long), 58), ((long, long), 30)):
        reading = classifier.read(pair)
        assert len(reading.tokens) == 64 and reading.cut and reading.tokens[-1] == 2
        assert max(reading.tokens.index(2) - 1, 64 - reading.tokens.index(2) - 3) == kept
        assert reading.token_words.count(-1) == 4
    for length in (4, 5):  # <s> </s> </s> </s>, and one token for two texts
        classifier.model.max_positions = lambda length=length: length
        with pytest.raises(PyramidionError, match=f"the model reads {length} tokens, of which 4 are added"):
            classifier.read((long, short))


@torch.no_grad()
def test_explain_lists_the_kept_tokens_of_the_record(classify, saved):
    rows = [json.loads(line) for line in classify("--format", "jsonl", "--explain")]
    tokens = torch.tensor([[0, *ids(TEXTS[1]), 2]])
    out = saved[1](tokens, features_only=True)[1]["encoder_out"]
    records = compose_poolings(out["pooling_slots"], out["pooling_weights"])
    assert [stage["stage"] for stage in rows[1]["poolings"]] == ["after layer 1", "after layer 2"]
    for stage, record, left in zip(rows[1]["poolings"], records, (12, 4)):
        assert stage["vectors"] == left
        weights = {token["position"]: token["weight"] for token in stage["tokens"]}
        found = {0: 1.0, **{i + 1: w for i, w in enumerate(record.weights[0].tolist()) if w > 0}}
        assert weights == pytest.approx(found, abs=1e-5) and stage["survivors"] == len(found)
        for token in stage["tokens"][1:]:
            assert token["vector"] == record.slots[0, token["position"] - 1]
        words = {token["position"]: token["word"] for token in stage["tokens"]}
        assert all(word == (TEXTS[1].split()[at - 1] if 0 < at < 20 else None) for at, word in words.items())
    assert rows[4]["poolings"] == []


def test_html_page_shows_labels_and_stages(classify, tmp_path):
    classify("--format", "html", "--output", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "World" in page and "News:" in page and "after layer 2" in page and "This is a classifier" in page


def test_html_page_notes_words_that_are_not_read_or_listed(classify, tmp_path):
    (page,) = data_of(_page(classify, tmp_path, {"text": "alpha " * 700}))
    assert page["truncated"] + page["unlisted"] == 512 - 62
    assert page["model"]["note"].startswith("The last 188 words of the document are not listed. This is a classifier")
    pair = {"text": "alpha " * 700, "title": "beta " * 40}
    (page,) = data_of(_page(classify, tmp_path, pair, "--second-field", "title"))
    assert page["truncated"] == 10
    told = "The model did not read the last 670 words of the first text and the last 10 of the second; some"
    assert page["model"]["note"].startswith(told)
    for short in ({"text": "alpha " * 100}, {"text": "alpha", "title": "beta " * 100}):
        (page,) = data_of(_page(classify, tmp_path, short, *(["--second-field", "title"] if "title" in short else [])))
        assert page["truncated"] > 0 and page["model"]["note"].startswith("This is a classifier")


def _page(classify, folder, row, *words):
    classify("--format", "html", "--output", folder / "page.html", "--overwrite", *words, rows=[row])
    return (folder / "page.html").read_text()


def test_lone_surrogate_in_an_id_is_written_to_a_file(classify, tmp_path):
    classify("--format", "jsonl", "--output", tmp_path / "out", rows=[{"id": "\ud800", "text": "beta"}])
    assert json.loads((tmp_path / "out").read_text(encoding="utf-8"))["article_id"] == "\ud800"


def test_load_summarizer_refuses_a_classifier(saved):
    with pytest.raises(
        PyramidionError, match=r"cannot be loaded: .* is an encoder, which writes no summaries; pyramidion-classify"
    ):
        load_summarizer(str(saved[0]), device="cpu")


def test_regression_gives_a_value_without_a_label(classify, tmp_path):
    path, model = write_classifier(tmp_path, regression=True)
    lines = classify(checkpoint=path)
    with torch.no_grad():
        value = model(torch.tensor([[0, *ids(TEXTS[0]), 2]]), classification_head_name=HEAD)[0].item()
    assert float(lines[0]) == pytest.approx(value, abs=1e-4) and lines[4] == ""
    row = json.loads(classify("--format", "jsonl", checkpoint=path)[0])
    assert row["value"] == pytest.approx(value, abs=1e-4) and "label" not in row


@pytest.mark.parametrize("beside", [False, True])
def test_missing_labels_are_read_from_the_data_or_numbered(classify, tmp_path, beside, caplog):
    path, _ = write_classifier(tmp_path, carries=False)
    if beside:
        (tmp_path / "label").mkdir()
        (tmp_path / "label" / "dict.txt").write_text("x 1\ny 1\nz 1\n")
    row = json.loads(classify("--format", "jsonl", checkpoint=path)[0])
    assert set(row["probabilities"]) == ({"x", "y", "z"} if beside else {"class 0", "class 1", "class 2"})


@pytest.mark.parametrize(
    "words, message",
    [
        (["--batch-size", 0], "sizes must be at least 1, got --batch-size 0"),
        (["--head", "other"], "has no head 'other'; it has: sentence_classification_head"),
        (["--explain"], "--explain requires --format jsonl"),
        (["--field", "nothing"], "no field nothing; it has: 'id', 'text'"),
        (["--second-field", "title"], "no field title"),
        (["--device", "gpu9"], "--device gpu9: "),
        (
            ["--data", "nowhere"],
            "nowhere has no input0/dict.txt and no dict.txt: give the folder that has input0/dict.txt with --data",
        ),
        (["--output", "/nowhere/x"], "cannot write /nowhere/x: folder /nowhere does not exist"),
    ],
)
def test_invalid_arguments_are_one_line_errors(classify, words, message):
    with pytest.raises(SystemExit) as error:
        classify(*words)
    assert str(error.value).startswith("pyramidion-classify: error: ")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["missing", "no checkpoint", "other architecture", "no head", "other dictionary"])
def test_unusable_checkpoints_are_one_line_errors(classify, tmp_path, damage):
    path, _ = write_classifier(tmp_path)
    state = torch.load(path)
    messages = {
        "missing": "there is no checkpoint",
        "no checkpoint": "is damaged, or no checkpoint",
        "other architecture": "is not a classifier of this package: its architecture is roberta_base",
        "no head": "has no classification head",
        "other dictionary": "the checkpoint has 60 symbols, the data's dictionary 59",
    }
    if damage == "other architecture":
        state["cfg"]["model"]["_name"] = "roberta_base"
    if damage == "no head":
        state["model"] = {name: value for name, value in state["model"].items() if "heads" not in name}
    if damage == "other dictionary":
        record = state["extra_state"]["vocabularies"]
        record["source"] = record["target"] = "\n".join([*SYMBOLS[:-2], "<mask>"])
    torch.save(state, path)
    if damage == "no checkpoint":
        path.write_bytes(b"hello")
    if damage == "missing":
        path.unlink()
    with pytest.raises(SystemExit) as error:
        classify(checkpoint=path)
    assert messages[damage] in str(error.value) and "\n" not in str(error.value)


def test_existing_output_is_kept_if_the_command_fails(classify, tmp_path):
    """Check a line that is not a document, which ends the command after the first lines were classified."""
    (tmp_path / "out").write_text("mine")
    rows = [{"text": "alpha"}] * 300 + [{"other": "beta"}]
    with pytest.raises(SystemExit, match="line 301: no field"):
        classify("--output", tmp_path / "out", "--overwrite", rows=rows)
    assert (tmp_path / "out").read_text() == "mine" and {path.name for path in tmp_path.iterdir()} == {
        "documents.jsonl", "out"}  # fmt: skip
    with pytest.raises(SystemExit, match=r"documents\.jsonl is the input file: choose another --output"):
        classify("--output", tmp_path / "documents.jsonl", "--overwrite")
    assert len((tmp_path / "documents.jsonl").read_text().splitlines()) == 6


def test_second_field_refuses_plain_text_input(saved, tmp_path, capsys):
    """Check that text lines are refused; a line would be both texts of a pair."""
    (tmp_path / "in.txt").write_text("alpha beta\n")
    with pytest.raises(SystemExit, match="line 1 is not JSON"):
        main(["--checkpoint", str(saved[0]), "--device", "cpu", str(tmp_path / "in.txt"), "--second-field", "title"])
    assert not capsys.readouterr().out


def test_second_field_refuses_a_pipe(saved):
    """Check that a pipe is refused: it can be read only once, and the two fields are read separately."""
    reading, writing = os.pipe()
    os.write(writing, b'{"text": "alpha", "title": "beta"}\n')
    os.close(writing)
    with pytest.raises(SystemExit, match="--second-field requires a JSON lines file: use --input FILE"):
        main(["--checkpoint", str(saved[0]), "--device", "cpu", f"/dev/fd/{reading}", "--second-field", "title"])
    os.close(reading)


@pytest.mark.parametrize(
    "text, message",
    [
        ("x 1\nx 1\nz 1\n", "the label 'x' of the head sentence_classification_head is used for more than one class"),
        ("x 1\ny 1\nz 1\nw 1\n", "has 3 classes, but there are 4 labels"),
        ("x\n", "'x' is not of the form 'symbol count'"),
        ("\ud800 1\n", "dict.txt is damaged: it is no text in UTF-8"),
    ],
)
def test_invalid_label_dictionaries_are_refused(classify, tmp_path, text, message):
    path, _ = write_classifier(tmp_path, carries=False)
    (tmp_path / "label").mkdir()
    (tmp_path / "label" / "dict.txt").write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(SystemExit) as error:
        classify(checkpoint=path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_padding_symbols_of_fairseq_preprocess_are_not_labels(classify, tmp_path):
    """Check labels of fairseq-preprocess, which pads its dictionaries to a multiple of 8."""
    path, _ = write_classifier(tmp_path, carries=False)
    (tmp_path / "label").mkdir()
    labels = Dictionary()
    for label in ("x", "y", "z"):
        labels.add_symbol(label)
    labels.finalize(padding_factor=8)
    labels.save(str(tmp_path / "label" / "dict.txt"))
    assert "madeupword" in (tmp_path / "label" / "dict.txt").read_text()
    row = json.loads(classify("--format", "jsonl", checkpoint=path)[0])
    assert set(row["probabilities"]) == {"x", "y", "z"}
    task = Namespace(label_dictionary=labels, cfg=Namespace(regression_target=False))
    assert class_labels.labels_of_task(task) == ["x", "y", "z"]


@pytest.mark.parametrize("token", [60, -1, "a", 0.5])
@pytest.mark.parametrize("name", ["init_token", "separator_token"])
def test_init_and_separator_tokens_that_are_not_ids_are_refused(classify, tmp_path, name, token):
    path, _ = write_classifier(tmp_path, task={name: token})
    with pytest.raises(SystemExit, match=f"has {name}={token!r}, which is not an id of its 60 symbols"):
        classify(checkpoint=path)


def test_existing_output_is_replaced_only_with_overwrite(classify, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SystemExit, match="out exists: use --overwrite"):
        classify("--output", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
    classify("--output", tmp_path / "out", "--overwrite")
    assert len((tmp_path / "out").read_text().splitlines()) == 6
