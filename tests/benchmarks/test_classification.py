"""Tests of the classification benchmark at a tiny scale: rows, continuation after an interruption, and the table."""

import json
import sys
from argparse import Namespace

import pytest

SENTENCES = {
    "apples": "Pick a ripe apple from the old tree now.",
    "boats": "Sail the small boat over a calm sea today.",
}


@pytest.fixture(scope="module")
def benchmark():
    import classification

    return classification


@pytest.fixture(scope="module")
def texts(benchmark, tmp_path_factory):
    root = tmp_path_factory.mktemp("packages")
    for package, sentence in SENTENCES.items():
        (root / package).mkdir()
        for number in range(14):
            source = '"""A module of this package that says in eight words or more what it is."""\n'
            source += "".join(f'def f{i}(x):\n    """{sentence} {number} {i}"""\n' for i in range(20))
            (root / package / f"mod{number}.py").write_text(source)
    return benchmark.read_texts(100, [str(root)])


def settings(benchmark, folder, *more):
    small = [
        "--shortest",
        50,
        "--least",
        5,
        "--vocabulary",
        60,
        "--width",
        8,
        "--updates",
        2,
        "--batch",
        2,
        "--rounds",
        1,
    ]
    args = [*small, "--seeds", 1, "--scratch", folder / "scratch", *more]
    args = benchmark.options().parse_args(list(map(str, args)))
    args.output = folder
    return args


def test_documents_are_labelled_with_their_packages(benchmark, texts, tmp_path):
    assert {package for _, package in texts} == set(SENTENCES) and len(texts) == 28
    assert all(SENTENCES[package].split()[0] in text for text, package in texts)
    corpus = benchmark.make_corpus(texts, settings(benchmark, tmp_path))
    assert corpus.classes == ["apples", "boats"] and len(corpus.train) + len(corpus.test) == 28
    assert corpus.test and all(tokens[0] == 0 and tokens[-1] == 2 for tokens, _ in corpus.train)
    assert max(max(tokens) for tokens, _ in corpus.train) < len(corpus.symbols) - 1


def test_finished_rows_are_not_measured_again(benchmark, texts, tmp_path, monkeypatch):
    args = settings(benchmark, tmp_path)
    corpus = benchmark.make_corpus(texts, args)
    built = []
    monkeypatch.setattr(benchmark, "build", lambda *a, stock=benchmark.build: built.append(a[0]) or stock(*a))
    rows = {name: {**row, "lsg_block_size": 8, "lsg_sparse_block_size": 8} for name, row in benchmark.ROWS.items()}
    rows = {name: {**row, **({"pooling_schedule": "1:32,2:8"} if "pooling_schedule" in row else {})}
            for name, row in rows.items()}  # fmt: skip
    monkeypatch.setattr(benchmark, "ROWS", rows)
    done = benchmark.run_rows(corpus, args)
    assert len(built) == len(done) == 5 and {row["row"] for row in done} == set(rows)
    lines = (tmp_path / "classification.jsonl").read_text().splitlines()
    (tmp_path / "classification.jsonl").write_text("\n".join(lines[:3]) + "\n")
    again = benchmark.run_rows(corpus, args)
    assert len(built) == 7 and [row["accuracy"] for row in again] == [json.loads(line)["accuracy"] for line in lines]
    text = benchmark.table(benchmark.summarise(again, benchmark.seconds_of(corpus, args)), corpus)
    assert all(name in text for name in rows) and "of 2 packages" in text


def test_small_model_learns_an_easy_corpus(benchmark, texts, tmp_path):
    args = settings(benchmark, tmp_path, "--updates", 40, "--width", 16, "--lr", 0.005)
    corpus = benchmark.make_corpus(texts, args)
    model = benchmark.build({"attention": "full", "max_positions": 512}, corpus, 1, args)
    training = benchmark.Training(model, corpus, 1, args)
    for _ in range(args.updates):
        training.update()
    assert benchmark.evaluate(model, corpus.test) > 0.9


def test_rows_of_other_seeds_or_corpora_are_ignored(benchmark, texts, tmp_path, monkeypatch):
    args = settings(benchmark, tmp_path)
    corpus = benchmark.make_corpus(texts, args)
    trained = []
    monkeypatch.setattr(benchmark, "build", lambda *given: trained.append(given[2]))
    monkeypatch.setattr(benchmark, "Training", lambda *given: Namespace(update=lambda: None))
    monkeypatch.setattr(benchmark, "evaluate", lambda *given: 0.5)
    args.seeds = 2
    assert len(benchmark.run_rows(corpus, args)) == len(trained) == 10
    with open(tmp_path / "classification.jsonl", "a", encoding="utf-8") as file:
        file.write('{"row": "LS')  # an unfinished line, as of a killed run
    args.seeds = 1
    assert {row["seed"] for row in benchmark.run_rows(corpus, args)} == {1} and len(trained) == 10
    other = corpus._replace(test=corpus.test[:1])
    assert len(benchmark.run_rows(other, args)) == 5 and len(trained) == 15
    assert len((tmp_path / "classification.jsonl").read_text().splitlines()) == 15


@pytest.mark.parametrize("option", ["--seeds=0", "--updates=-1", "--batch=0", "--lr=0", "--lr=nan"])
def test_invalid_numbers_are_refused(benchmark, monkeypatch, capsys, option):
    monkeypatch.setattr(sys, "argv", ["classification.py", option])
    monkeypatch.setattr(benchmark.measure, "restart_with_allocator", lambda: None)
    monkeypatch.setattr(benchmark, "read_texts", None)
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "must be more than 0, all other numbers at least 1" in capsys.readouterr().err
