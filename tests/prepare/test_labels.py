"""Tests of preparing labelled corpora for the task sentence_prediction."""

import csv
import json
import shlex

import pytest
from fairseq.data import Dictionary, data_utils

from pyramidion_fairseq.prepare.errors import PrepareError
from pyramidion_fairseq.prepare.labels import Labels, clean_label
from pyramidion_fairseq.prepare.python_docs import PythonDocs
from tests.helpers.architectures import NARROW_ENCODER
from tests.helpers.preprocessing import record

CLASSES = ["cs.CL", "World News", "7"]


def rows(count, label=lambda number: CLASSES[number % 3], second=None):
    """Return the records of a small corpus with labels."""
    made = []
    for number in range(count):
        row = {"id": f"id-{number}", "body": " ".join(record(number)["article_text"]), "topic": label(number)}
        made.append({**row, "title": f"title of {number} alpha"} if second else row)
    return made


def write_rows(folder, made, kind="jsonl"):
    path = folder / f"all.{kind}"
    with open(path, "w", encoding="utf-8", newline="") as file:
        if kind == "jsonl":
            file.writelines(json.dumps(row) + "\n" for row in made)
        else:
            writer = csv.DictWriter(file, list(made[0]))
            writer.writeheader()
            writer.writerows(made)
    return path


def lines(path):
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def loaded(folder, name, split):
    dictionary = Dictionary.load(str(folder / "data-bin" / name / "dict.txt"))
    return dictionary, data_utils.load_indexed_dataset(str(folder / "data-bin" / name / split), dictionary)


SIZES = ["--vocab-size", 45, "--workers", 1]
FIELDS = ["--document-field", "body", "--labels", "topic"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, prepare_command):
    """Prepare a corpus of pairs; return its folder and the finished process."""
    folder = tmp_path_factory.mktemp("pairs")
    path = write_rows(folder, rows(40, second=True))
    arguments = [folder / "dest", "--input", path, *FIELDS, "--second-field", "title", *SIZES]
    process = prepare_command(*arguments)
    assert process.returncode == 0, process.stderr
    return folder / "dest", process


def test_binarised_inputs_and_labels_match_the_text(pairs):
    dest, process = pairs
    for split in ("train", "valid", "test"):
        sizes = set()
        for side, name in (("source", "input0"), ("second", "input1")):
            dictionary, dataset = loaded(dest, name, split)
            assert len(dictionary) == 45
            encoded = lines(dest / "encoded" / f"{split}.{side}")
            assert [dictionary.string(ids) for ids in dataset] == encoded
            assert all(ids[-1] == dictionary.eos() for ids in dataset)
            sizes.add(len(dataset))
        dictionary, labels = loaded(dest, "label", split)
        written = lines(dest / "text" / f"{split}.target")
        assert [dictionary.string(ids) for ids in labels] == written
        assert sizes == {len(labels)} and all(len(ids) == 2 for ids in labels)
        assert dictionary.symbols[dictionary.nspecial :] == ["7", "World\u2581News", "cs.CL"]
        for text, title, label in zip(
            *(lines(dest / "text" / f"{split}.{s}") for s in ("source", "second", "target"))
        ):
            number = int(title.split()[2])
            assert label == CLASSES[number % 3].replace(" ", "\u2581")
            assert text == " ".join(record(number)["article_text"])
    assert "3 classes: " in process.stdout and "World News 1" in process.stdout


def test_labels_do_not_enter_the_vocabulary(pairs):
    """Check letters that only labels have; digits are in the titles of the documents, too."""
    pieces = {line.split("\t")[0] for line in lines(pairs[0] / "sentencepiece.vocab")}
    assert not any(letter in piece for piece in pieces for letter in "CLWN")


def test_last_line_is_a_fairseq_train_command_that_runs(pairs, command, tmp_path):
    _, process = pairs
    name, *words = shlex.split(process.stderr.splitlines()[-1])
    assert name == "fairseq-train" and words[words.index("--num-classes") + 1] == "3"
    small = [*NARROW_ENCODER, "--encoder-layers", 1, "--max-update", 1, "--update-freq", 1]
    command("train", *words, *small, "--cpu", "--num-workers", 0, "--save-dir", tmp_path)
    assert (tmp_path / "checkpoint_last.pt").exists()


def test_regression_labels_are_read_from_csv(tmp_path, prepare_command):
    made = rows(12, label=lambda number: f"{number / 4}")
    dest = tmp_path / "dest"
    process = prepare_command(dest, "--input", write_rows(tmp_path, made, "csv"), *FIELDS, "--regression", *SIZES)
    assert process.returncode == 0, process.stderr
    train = dest / "data-bin" / "label" / "train.label"
    assert lines(train) == lines(dest / "text" / "train.target")
    assert not (dest / "data-bin" / "label" / "dict.txt").exists()
    assert "--regression-target --num-classes 1" in process.stderr.splitlines()[-1]


def test_labels_and_regression_are_off_by_default(options):
    assert (options("--input", "x").labels, options("--input", "x").regression) == (None, False)


@pytest.mark.parametrize(
    "text, kind, expected",
    [(" a  b ", Labels.CLASSES, "a\u2581b"), ("1e-1", Labels.NUMBERS, "0.1"), ("", Labels.CLASSES, "")],
)
def test_clean_label_normalises_classes_and_numbers(text, kind, expected):
    assert clean_label(text, kind) == expected


def test_numbers_and_booleans_are_accepted_as_labels(read, tmp_path):
    path = write_rows(tmp_path, rows(9, label=lambda number: [3, True, "x"][number % 3]))
    _, files = read("--input", path, *FIELDS, "--valid-fraction", 0, "--test-fraction", 0)
    assert files["train.target"] == ["3", "True", "x"] * 3


@pytest.mark.parametrize(
    "text, reason",
    [
        ("<unk>", "special symbol"),
        ("<mask>", "special symbol"),
        ("", "empty label"),
        (float("nan"), "field topic is NaN"),
        (["cs.CL", "7"], "field topic has several labels"),
    ],
)
def test_bad_class_labels_are_listed_with_a_reason(read, tmp_path, text, reason):
    path = write_rows(tmp_path, rows(20, label=lambda number: text if number == 7 else CLASSES[number % 2]))
    result, files = read("--input", path, *FIELDS)
    assert reason in json.loads(files["skipped.jsonl"][0])["reason"]
    assert result["bad"] == 1


@pytest.mark.parametrize("text, reason", [("nan", "not finite"), ("high", "not a number"), ("inf", "not finite")])
def test_bad_regression_labels_are_listed_with_a_reason(read, tmp_path, text, reason):
    path = write_rows(tmp_path, rows(20, label=lambda number: text if number == 7 else str(number)))
    result, files = read("--input", path, *FIELDS, "--regression")
    assert reason in json.loads(files["skipped.jsonl"][0])["reason"] and result["bad"] == 1


def test_label_may_be_a_list_of_one(read, tmp_path):
    path = write_rows(tmp_path, rows(9, label=lambda number: [CLASSES[number % 2]]))
    _, files = read("--input", path, *FIELDS, "--valid-fraction", 0, "--test-fraction", 0)
    assert files["train.target"][:2] == ["cs.CL", "World\u2581News"]


def test_duplicate_second_field_column_is_refused(read, tmp_path):
    path = tmp_path / "all.csv"
    path.write_text("body,topic,title,title\na,b,c,d\n")
    with pytest.raises(PrepareError, match=r"all\.csv: 2 columns are called 'title'"):
        read("--input", path, *FIELDS, "--second-field", "title")


def test_validation_label_absent_from_training_is_refused(tmp_path, prepare_command):
    for name, count, label in (("train", 12, lambda n: CLASSES[n % 2]), ("valid", 3, lambda n: CLASSES[n])):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name, rows(count, label=label))
    files = ["--train", tmp_path / "train" / "all.jsonl", "--valid", tmp_path / "valid" / "all.jsonl"]
    process = prepare_command(tmp_path / "dest", *files, *FIELDS, *SIZES)
    message = (
        "error: 1 documents of valid have labels that no training document has (7): remove these documents, or split"
    )
    assert process.returncode == 1 and process.stderr.splitlines()[-1].startswith(message)
    assert not (tmp_path / "dest" / "data-bin").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--second-field", "x"], "--second-field and --regression require --labels"),
        (["--regression"], "--second-field and --regression require --labels"),
        (["--labels", "a", "--summary-field", "b"], "--labels and --summary-field cannot be used together"),
    ],
)
def test_contradictory_label_options_are_refused(options, capsys, arguments, message):
    with pytest.raises(SystemExit):
        options("--input", "x", *arguments)
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_python_modules_are_labelled_by_their_package(tmp_path):
    text = '"""A module that says in a few words what it is for, eight or more."""\n'
    text += "".join(f'def f{n}(x):\n    """{"Does this and that with the argument. " * 3}"""\n' for n in range(5))
    (tmp_path / "pkg" / "inner").mkdir(parents=True)
    (tmp_path / "pkg" / "inner" / "mod.py").write_text(text)
    reader = PythonDocs([str(tmp_path)], by_package=True)
    (raw,) = reader.records()
    parsed = reader.parse(raw)
    assert (parsed.summary, parsed.key) == ("pkg", "pkg.inner.mod")
    assert PythonDocs([str(tmp_path)]).parse(raw).summary.startswith("A module that says")
