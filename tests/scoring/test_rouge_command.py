"""Tests of pyramidion-rouge: what it prints and writes, and the mistakes that it reports."""

import gzip
import json
import os
import re

import pytest

from pyramidion_fairseq.cli.rouge import main
from pyramidion_fairseq.errors import PyramidionError
from tests.helpers.texts import SENTENCES

REFERENCES = ["the cat sat on the mat.", "a dog barked. it rained."]
HYPOTHESES = ["the cat sat.", "a dog barked."]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = {
        "test.target": REFERENCES,
        "summaries.txt": HYPOTHESES,
        "other.txt": ["a cat", "it rained."],
        "test.source": ["the cat sat on the mat and more words", "a dog barked and more"],
        "longer.txt": [*HYPOTHESES, "one more"],
        "gaps.txt": ["", "a dog"],
        "generate.log": ["S-0\ta", "T-0\tb", "H-0\t-1\tc", "D-0\t-1\tc", "P-0\t-1"],
        "test.jsonl": ['{"summary": "the cat sat"}', '{"summary": "a dog barked"}'],
    }
    for name, lines in contents.items():
        (tmp_path / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin1.txt").write_bytes("a long line\ncaf\xe9\n".encode("latin-1"))
    (tmp_path / "cp1251.txt").write_bytes("Длинный\nтекст\n".encode("cp1251"))
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbf" + "".join(t + "\r\n" for t in HYPOTHESES).encode())
    (tmp_path / "array.json").write_text(json.dumps(HYPOTHESES))
    (tmp_path / "lines.json").write_text("\ufeff" + json.dumps([{"summary": text} for text in HYPOTHESES], indent=1))
    (tmp_path / "table.csv").write_text("summary\nthe cat sat.\n")
    (tmp_path / "wide.txt").write_bytes("".join(f"{text}\n" for text in HYPOTHESES).encode("utf-16-le"))
    (tmp_path / "summaries.txt.gz").write_bytes(gzip.compress(b"the cat sat.\na dog barked.\n"))
    return tmp_path


def test_table_has_every_system_baseline_difference_and_the_signature(files, capsys):
    main(["test.target", "summaries.txt", "--lead", "test.source", "--lead-words", "3", "--against", "other.txt"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["2", "documents", "ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum"]
    # 3 of 6 words and 3 of 3; 3 of 5 and 3 of 3: recall 50 and 60, F1 200/3 and 75
    assert lines[1].startswith("summaries.txt ") and "F1" in lines[1] and "70.83 [66.67, 75.00]" in lines[1]
    assert lines[2].split()[:2] == ["P", "100.00"] and lines[3].split()[:4] == ["R", "55.00", "[50.00,", "60.00]"]
    assert lines[4].startswith("other.txt ") and lines[7].startswith("lead baseline (first 3 words)  F1 ")
    assert lines[10].startswith("ROUGE-1 F1: difference +") and "p = " in lines[10]
    assert lines[14].startswith("rouge|stem:yes|tok:rouge-score|sent:auto.1|n:2|")


@pytest.mark.parametrize("name", ["test.target", "summaries.txt", "test.source"])
def test_json_output_that_is_an_input_file_is_refused(files, name):
    before = (files / name).read_bytes()
    with pytest.raises(SystemExit, match=f"--json .* is the input file .*{name}: choose another name"):
        main(["test.target", "summaries.txt", "--lead", "test.source", "--json", f"./{name}"])
    assert (files / name).read_bytes() == before


def test_summaries_that_begin_like_a_json_array_are_scored(files, capsys):
    (files / "summaries.txt").write_text('["cat"] sat.\n["dog"] barked.\n')
    main(["test.target", "summaries.txt"])
    assert capsys.readouterr().out.startswith("2 documents")


def test_json_report_has_scores_and_settings(files, capsys):
    arguments = [
        "test.target",
        "summaries.txt",
        "--no-stemming",
        "--samples",
        "50",
        "--seed",
        "3",
        "--separator",
        ". ",
    ]
    main([*arguments, "--json", "scores.json"])
    assert "n:2|samples:50|seed:3" in capsys.readouterr().out
    report = json.loads((files / "scores.json").read_text(encoding="utf-8"))
    main([*arguments, "--json", "-"])
    assert json.loads(capsys.readouterr().out) == report
    scores = report["systems"]["summaries.txt"]["scores"]
    assert scores["rouge1"]["recall"]["mean"] == pytest.approx(55)
    assert set(scores) == {"rouge1", "rouge2", "rougeL", "rougeLsum"}
    settings = report["systems"]["summaries.txt"]["settings"]
    assert settings == {
        "backend": "rouge-score",
        "stemming": False,
        "separator": ". ",
        "samples": 50,
        "seed": 3,
        "tokenizer": "rouge-score",
    }


@pytest.mark.parametrize("language", SENTENCES)
def test_unicode_tokenizer_scores_any_script_and_the_default_warns(files, capsys, caplog, language):
    """Check that identical texts score 100 with the unicode tokenizer, and that the default gives a warning."""
    same, other = SENTENCES[language]
    (files / "test.target").write_text(f"{same}\n{same}\n", encoding="utf-8")
    (files / "summaries.txt").write_text(f"{same}\n{other}\n", encoding="utf-8")
    main(["test.target", "summaries.txt", "--tokenizer", "unicode"])
    lines = capsys.readouterr().out.splitlines()
    recall = [float(cell) for cell in lines[3].split()[1::3]]
    assert min(recall) > 50 and max(recall) < 100  # the first text has 100, the second between 0 and 100
    assert "|tok:unicode.1|sent:auto.1|n:2|" in lines[-1] and "letters" not in caplog.text
    main(["test.target", "summaries.txt", "--json", "-"])
    report = json.loads(capsys.readouterr().out)
    assert "|tok:rouge-score|" in report["signature"]
    if language in ("French", "Vietnamese"):
        assert "of the letters are not a-z, so spaces for the tokenizer rouge-score" in caplog.text
    else:
        assert report["systems"]["summaries.txt"]["scores"]["rouge1"]["recall"]["mean"] == 0
        assert "4 of 4 texts score 0, as they have letters but no words for the tokenizer rouge-score" in caplog.text


def test_lead_baseline_counts_characters_in_text_without_spaces(files, capsys):
    (files / "test.target").write_text("我们 研究\n细胞生长\n", encoding="utf-8")
    (files / "test.source").write_text("我们研究细胞的生长。\n细胞 生长很快。\n", encoding="utf-8")
    arguments = ["--tokenizer", "unicode", "--lead", "test.source", "--json", "-"]
    main(["test.target", "summaries.txt", *arguments])
    scores = json.loads(capsys.readouterr().out)["systems"]["lead baseline (first 4 words)"]["scores"]
    assert scores["rouge2"]["fmeasure"]["mean"] == pytest.approx(100)


def cells(lines):
    """Return the rows of the table of --more by name, with one cell for each system."""
    rows = [re.split(" {2,}", line) for line in lines[lines.index("") + 1 :] if "  " in line]
    return {row[0]: row[1:] for row in rows}


def test_more_adds_measures_of_every_system_and_their_comparison(files, capsys):
    """Compare with hand-computed values: the documents have 9 and 5 words, and each summary copies 3.

    The other summaries have 2 words each, of which one in all is in its document.
    """
    main(["test.target", "summaries.txt", "--more", "test.source", "--against", "other.txt", "--json", "more.json"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[lines.index("") - 1].startswith("rouge|stem:yes|")
    assert lines[-1].startswith("more|tok:rouge-score|case:lower|stem:no|sent:auto.1|facts:2|n:2|samples:1000|seed:1|")
    table = cells(lines)
    assert table["2 documents"] == ["test.target", "summaries.txt", "other.txt"]
    assert table["density, words"] == ["3.90 [1.80, 6.00]", "3.00 [3.00, 3.00]", "0.25 [0.00, 0.50]"]
    assert table["compression, times"][1] == "2.33 [1.67, 3.00]"  # 9 / 3 and 5 / 3
    assert table["coverage, %"][1:] == ["100.00 [100.00, 100.00]", "25.00 [0.00, 50.00]"]
    assert table["novel 3-grams, %"] == ["33.33 [0.00, 66.67]", "0.00 [0.00, 0.00]", "-"]
    assert table["unsupported words"] == ["1.00 [0.00, 2.00]", "0.00 [0.00, 0.00]", "1.50 [1.00, 2.00]"]
    assert "coverage, %: difference +75.00 [+50.00, +100.00], p = 0.001" in lines
    assert not any(line.startswith("novel 3-grams, %: difference") for line in lines)
    report = json.loads((files / "more.json").read_text(encoding="utf-8"))["more"]
    assert report["documents"] == "test.source" and report["signature"] == lines[-1]
    assert list(report["systems"]) == ["test.target", "summaries.txt", "other.txt"]
    assert report["systems"]["summaries.txt"]["words"] == {"mean": 3, "low": 3, "high": 3, "documents": 2}
    assert report["systems"]["other.txt"]["novel_3"]["mean"] is None
    assert report["comparison"]["coverage"]["difference"] == 75


def test_more_prints_the_number_of_documents_with_a_value(files, capsys):
    (files / "test.source").write_text("the cat sat in 2018 on the mat\na dog barked\n", encoding="utf-8")
    (files / "summaries.txt").write_text("the cat sat in 2019\na dog barked\n", encoding="utf-8")
    main(["test.target", "summaries.txt", "--more", "test.source", "--lead", "test.source", "--tokenizer", "unicode"])
    lines = capsys.readouterr().out.splitlines()
    table = cells(lines)
    assert table["2 documents"] == ["test.target", "summaries.txt", "lead baseline (first 6 words)"]
    assert table["unsupported numbers, %"] == ["-", "100.00 [100.00, 100.00] n=1", "0.00 [0.00, 0.00] n=1"]
    assert "|tok:unicode.1|" in lines[-1]


def test_files_with_windows_line_ends_score_the_same(files, capsys):
    main(["test.target", "windows.txt", "--json", "-"])
    windows = json.loads(capsys.readouterr().out)["systems"]["windows.txt"]
    main(["test.target", "summaries.txt", "--json", "-"])
    assert json.loads(capsys.readouterr().out)["systems"]["summaries.txt"] == windows


def test_empty_summaries_score_0_with_a_warning(files, capsys, caplog):
    (files / "nothing.txt").write_text("\n \n")
    main(["test.target", "nothing.txt", "--against", "summaries.txt", "--json", "-"])
    report = json.loads(capsys.readouterr().out)
    f1 = {name: system["scores"]["rouge1"]["fmeasure"]["mean"] for name, system in report["systems"].items()}
    assert f1["nothing.txt"] == 0 and f1["summaries.txt"] > 70
    assert "nothing.txt: 2 of 2 lines are empty and score 0 (line 1, 2)" in caplog.text


def test_empty_lines_of_either_file_are_counted_in_a_warning(files, caplog):
    main(["test.target", "gaps.txt"])
    assert "gaps.txt: 1 of 2 lines are empty and score 0 (line 1)" in caplog.text
    main(["gaps.txt", "other.txt"])
    assert caplog.text.count("gaps.txt: 1 of 2 lines are empty") == 2


def test_summaries_equal_to_the_references_give_a_warning(files, caplog):
    (files / "copy.txt").write_text("".join(text + "\n" for text in REFERENCES))
    main(["test.target", "copy.txt"])
    assert "contain the same texts" in caplog.text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["test.target", "longer.txt"], "test.target has 2 lines and longer.txt has 3"),
        (["longer.txt", "test.target"], "longer.txt has 3 lines and test.target has 2"),
        (
            ["summaries.txt", "test.target"],
            "seem to be swapped (references come first): summaries.txt looks like hypotheses",
        ),
        (["test.target", "test.target"], "are the same file"),
        (["test.target", "missing.txt"], "cannot read missing.txt: No such file"),
        (["test.target", "empty.txt"], "empty.txt is empty"),
        (["test.target", "latin1.txt"], "latin1.txt, line 2: not UTF-8"),
        (["test.target", "cp1251.txt"], "cp1251.txt is not UTF-8 text: convert it first"),
        (["test.target", "generate.log"], "extract the summaries with pyramidion-summaries"),
        (["test.jsonl", "summaries.txt"], "test.jsonl is JSON lines: write one text per line instead"),
        (["test.target", "summaries.txt", "--more", "test.jsonl"], "test.jsonl is JSON lines"),
        (["test.target", "array.json"], "array.json is one JSON array: write one text per line instead"),
        (["test.target", "lines.json"], "lines.json is one JSON array"),
        (
            ["test.target", "table.csv"],
            "table.csv is a table (CSV or TSV), judging by its name: write one text per line",
        ),
        (["test.target", "wide.txt"], "wide.txt is not a text file"),
        (["test.target", "summaries.txt.gz"], "summaries.txt.gz is compressed: unpack it first"),
        (["test.target", "summaries.txt", "--against", "summaries.txt"], "--against summaries.txt is the same file"),
        (
            ["test.target", "summaries.txt", "--against", "./summaries.txt"],
            "/summaries.txt is the same file as the",
        ),
        (["test.target", "summaries.txt", "--lead-words", "3"], "requires --lead"),
        (["test.target", "summaries.txt", "--lead", "longer.txt"], "longer.txt has 3"),
        (["test.target", "summaries.txt", "--lead", "test.target"], "--lead must be the documents"),
        (["test.target", "summaries.txt", "--lead", "./summaries.txt"], "--lead must be the documents"),
        (["test.target", "summaries.txt", "--more", "longer.txt"], "longer.txt has 3"),
        (["test.target", "summaries.txt", "--more", "missing.txt"], "cannot read missing.txt: No such file"),
        (["test.target", "summaries.txt", "--more", "summaries.txt"], "--more must be the documents"),
        (["test.target", "summaries.txt", "--more", "test.target"], "--more must be the documents"),
        (
            ["test.target", "summaries.txt", "--tokenizer", "unicode", "--backend", "files2rouge"],
            "the tokenizer unicode requires the backend rouge-score",
        ),
        (["test.target", "summaries.txt", "--samples", "0"], "at least one sample"),
        (
            ["test.target", "summaries.txt", "--json", "no/folder.json"],
            "no/folder.json: folder ",
        ),
        (["test.target", "summaries.txt", "--json", "."], "cannot write .: it is a folder"),
    ],
)
def test_invalid_arguments_end_in_one_line_before_scoring(files, monkeypatch, arguments, message):
    monkeypatch.setattr("pyramidion_fairseq.cli.rouge.rouge_scores", lambda *_, **__: pytest.fail("it has begun"))
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert message in stop.value.code and "\n" not in stop.value.code


def test_traceback_variable_keeps_the_traceback(files, monkeypatch):
    monkeypatch.setenv("PYRAMIDION_TRACEBACK", "1")
    with pytest.raises(PyramidionError, match="requires --lead"):
        main(["test.target", "summaries.txt", "--lead-words", "3"])


def test_file_names_that_are_not_utf8_are_printed_and_written(files, capsys):
    name = os.fsdecode(b"caf\xe9.txt")
    (files / "other.txt").rename(files / name)
    main(["test.target", name, "--json", "out.json"])
    assert r"caf\udce9.txt" in capsys.readouterr().out
    assert name in json.loads((files / "out.json").read_text())["systems"]


@pytest.mark.parametrize("end", ["", "\n"])
def test_files_with_cr_line_ends_are_refused(tmp_path, capsys, end):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(f"one\rtwo {name}\rthree{end}".encode())
    with pytest.raises(SystemExit, match=r"a: its lines end in CR alone: convert the line ends to LF first"):
        main([str(tmp_path / "a"), str(tmp_path / "b"), "--samples", "10", "--workers", "1"])
