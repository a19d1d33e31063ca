"""Tests of pyramidion-summarize and pyramidion-explain, run in this process: summaries, pages, and errors."""

import argparse
import csv
import gzip
import io
import json
import os
import re
import threading

import pytest

from pyramidion_fairseq import errors
from pyramidion_fairseq.apps.explain import Explanation
from pyramidion_fairseq.cli import common, explain, summarize
from tests.helpers.pages import data_of
from tests.helpers.summaries import SENTENCES, article, write_checkpoint, write_sentencepiece

QUICK = ["--device", "cpu", "--min-len", "3", "--max-len-b", "8"]
DOCUMENTS = [article(3), "", article(40), "word", article(9, seed=1)]


@pytest.fixture
def summarised(trained_folder, tmp_path):
    """Return a function that runs the command on a content and returns the path of its output."""

    def run(content, *options, checkpoint="checkpoint_best.pt", command=summarize, output="out"):
        if content is not None:
            (tmp_path / "in").write_bytes(content.encode() if isinstance(content, str) else content)
        paths = ":".join(str(trained_folder / name) for name in checkpoint.split(":"))
        chosen = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / output)]
        command.main(["--checkpoint", paths, *QUICK, *chosen, *options])
        return tmp_path / output

    return run


@pytest.fixture
def expected(summarizers, trained_folder):
    from pyramidion_fairseq.inference.loading import load_summarizer

    hub = load_summarizer(str(trained_folder), device="cpu")
    return [summary.text for summary in hub.summarize(DOCUMENTS, min_len=3, max_len_b=8)]


def test_summarize_writes_one_line_per_document_in_order(summarised, expected):
    out = summarised("\n".join(DOCUMENTS) + "\n")
    assert out.read_text(encoding="utf-8").split("\n") == [*expected, ""]
    assert expected[1] == "" and len({*expected}) > 2


@pytest.mark.parametrize("format", ["text", "html"])
def test_output_to_a_named_pipe_needs_no_overwrite(summarised, tmp_path, format):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    summarised(article(3), "--format", format, output="pipe")
    reader.join(10)
    assert len(found) == 1 and found[0].strip() and pipe.is_fifo()
    with pytest.raises(SystemExit, match="not a pipe or device"):
        summarised(article(3), "--resume", output="pipe")


@pytest.mark.parametrize("command", [summarize, explain])
def test_min_len_above_the_longest_summary_is_refused(summarised, command):
    with pytest.raises(
        SystemExit, match=r": error: min_len 9 is above the longest summary, 8 tokens \(max_len_b is 8\)"
    ):
        summarised(article(3), "--min-len", "9", command=command)


def test_default_min_len_is_lowered_for_a_small_max_len_b(trained_folder, tmp_path):
    (tmp_path / "in").write_text(article(3))
    chosen = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--max-len-b", "4"]
    summarize.main(["--checkpoint", str(trained_folder), "--device", "cpu", *chosen])
    assert (tmp_path / "out").read_text().count("\n") == 1


@pytest.mark.parametrize("options", [["--batch-size", "2"], ["--max-tokens", "70"], ["--beam", "2", "--lenpen", "1"]])
def test_batch_size_and_max_tokens_do_not_change_summaries(summarised, expected, options):
    assert summarised("\n".join(DOCUMENTS), *options).read_text().split("\n")[:-1] == expected


def test_progress_shows_the_total_and_the_remaining_time(summarised, capsys, monkeypatch):
    monkeypatch.setattr("pyramidion_fairseq.cli.common.PROGRESS_SECONDS", 0)
    summarised("\n".join(DOCUMENTS), "--batch-size", "1")
    lines = [line for line in capsys.readouterr().err.splitlines() if " documents in " in line]
    told = re.compile(r"\d of 5 documents? in \d+ s \([\d.]+ per second, \d+ s left\)")
    assert len(lines) > 1 and told.search(lines[0])
    assert re.search(r" 5 documents in \d+ s \([\d.]+ per second\)$", lines[-1])


def test_count_documents_returns_none_for_pipes_and_large_files(tmp_path, monkeypatch, caplog):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n{"text": "b \xff"}\n')
    args = argparse.Namespace(input=str(path), input_format="auto", field=None)
    assert (common.count_documents(args), common.count_documents(args, done=1)) == (2, 1)
    assert common.count_documents(args, limit=1) == 1 and not caplog.records
    args.input = "-"
    assert common.count_documents(args) is None
    args.input = str(tmp_path / "nowhere")
    assert common.count_documents(args) is None
    monkeypatch.setattr(common, "MOST_COUNTED", 3)
    assert common.count_documents(argparse.Namespace(input=str(path), input_format="auto", field=None)) is None


def test_explain_prints_the_files_that_it_wrote(summarised, tmp_path, capsys):
    summarised("\n".join(DOCUMENTS), "--json", str(tmp_path / "n.json"), "--input-format", "text", command=explain)
    said = capsys.readouterr().err
    assert (
        f"wrote {tmp_path}/out: summary and sources of document 0 of {tmp_path}/in" in said
        and f"wrote {tmp_path}/n.json" in said
    )


def test_explain_writes_to_standard_output(summarised, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    summarised(article(3), "--json", "-", command=explain, output="page.html")
    assert json.loads(capsys.readouterr().out)["summary"] and (tmp_path / "page.html").exists()
    options = ["--input", "in", *QUICK, "--output", "-"]
    for more in (["--json", "-"], ["--aggregate"]):
        with pytest.raises(SystemExit):
            explain.main([*options, *more])
    assert sorted(os.listdir()) == ["in", "page.html"]


def test_summarize_with_standard_streams_and_an_ensemble(summarised, trained_folder, monkeypatch, capsys):
    text = "\n".join(DOCUMENTS).encode()
    monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": io.BufferedReader(io.BytesIO(text))}))
    paths = f"{trained_folder}/checkpoint_best.pt:{trained_folder}/other.pt"
    summarize.main(["--checkpoint", paths, *QUICK])
    captured = capsys.readouterr()
    assert len(captured.out.split("\n")) == len(DOCUMENTS) + 1
    assert "5 documents in" in captured.err


def test_summarize_reads_and_writes_json_lines_with_sources(summarised, expected):
    rows = [{"article_text": [text], "article_id": f"a{n}"} for n, text in enumerate(DOCUMENTS)]
    content = gzip.compress("\n".join(map(json.dumps, rows)).encode())
    out = summarised(content, "--format", "jsonl", "--sources")
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["summary"] for row in found] == expected and [row["index"] for row in found] == list(range(5))
    assert found[1]["explanation"] is None and found[1]["score"] is None and found[1]["tokens"] == 0
    explanation = Explanation.from_dict(found[0]["explanation"])
    assert explanation.title == "a0" and " ".join(explanation.document.words) == DOCUMENTS[0]


def test_lone_surrogate_in_an_id_is_written_and_resumed_from(summarised):
    def ids():
        return [json.loads(line)["article_id"] for line in out.read_text(encoding="utf-8").splitlines()]

    content = "".join(json.dumps({"id": f"\ud800{n}", "text": article(3)}) + "\n" for n in range(2))
    out = summarised(content, "--format", "jsonl")
    assert ids() == ["\ud8000", "\ud8001"]
    out.write_text(out.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    summarised(content, "--format", "jsonl", "--resume")
    assert ids() == ["\ud8000", "\ud8001"]


@pytest.mark.parametrize("resumed", [0, 2])
def test_ids_and_references_of_the_input_are_in_the_output(summarised, tmp_path, resumed):
    rows = [
        {"article_text": [article(3)], "article_id": "a", "abstract_text": ["<S> one . </S>", "<S> two . </S>"]},
        {"text": "", "id": 7},
        {"text": article(40)},
        {"text": "word", "article_id": "d", "summary": "ref"},
    ]
    begun = [f'{{"index": {n}, "article_id": {i}, "explanation": null}}\n' for n, i in enumerate(('"a"', "7"))]
    (tmp_path / "out").write_text("".join(begun[:resumed]), encoding="utf-8")
    options = ["--format", "jsonl", "--sources", "--batch-size", "2", "--resume"]
    out = summarised("\n".join(map(json.dumps, rows)), *options)
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()][resumed:]
    named = [["a"], [7], [], ["d"]][resumed:]
    assert [[row["article_id"]] if "article_id" in row else [] for row in found] == named
    references = [row["explanation"] and row["explanation"]["reference"] for row in found]
    assert references == ["one . two .", None, None, "ref"][resumed:]


def test_copied_words_have_their_places_in_json_lines(tmp_path):
    """Check a model that only copies: every word was copied, and its places are in the document."""
    write_sentencepiece(tmp_path)
    path = write_checkpoint(tmp_path, pointer=True, pointer_bias=40.0)
    (tmp_path / "in").write_text("\n".join([article(3), article(5, seed=1)]))
    files = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--format", "jsonl", "--sources"]
    summarize.main(["--checkpoint", path, *QUICK, *files])
    rows = [json.loads(line) for line in (tmp_path / "out").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 2
    for row in rows:
        summary, words = row["explanation"]["summary"], row["explanation"]["document"]["words"]
        assert " ".join(summary["words"]) == row["summary"] and row["explanation"]["model"]["points"]
        assert summary["copied"] == pytest.approx([1.0] * len(summary["words"]), abs=1e-5)
        for word, places in zip(summary["words"], summary["places"]):
            assert places and 0 < sum(weight for _, weight in places) <= 1 + 1e-5
            if word in words:
                assert words[places[0][0]] == word


def test_resume_continues_an_interrupted_output(summarised, expected, tmp_path):
    whole = summarised("\n".join(DOCUMENTS)).read_text()
    lines = whole.splitlines(keepends=True)
    for kept in (0, 2, 4, 5):
        for half in ("", lines[kept][:9], lines[kept][:-1]) if kept < 5 else ("",):
            (tmp_path / "out").write_text("".join(lines[:kept]) + half)
            assert summarised(None, "--resume").read_text() == whole
    (tmp_path / "out").write_text("".join(lines[:2]) + "half a li")
    assert summarised(None, "--resume").read_text() == whole
    (tmp_path / "out").unlink()
    assert summarised(None, "--resume").read_text() == whole
    (tmp_path / "out").write_text("x\n" * 9)
    with pytest.raises(SystemExit, match=r"9 summaries, but .* has fewer documents: give the same --input"):
        summarised(None, "--resume")


def test_resume_refuses_a_single_line_that_is_no_summary_of_the_first_document(summarised, tmp_path):
    for content, written in ((article(3), "precious"), ("", "precious"), (article(3), "x" * 9999)):
        (tmp_path / "out").write_text(written)
        with pytest.raises(
            SystemExit, match=r"out does not begin with the summary of the first document: .*overwrite"
        ):
            summarised(content, "--resume")
        assert (tmp_path / "out").read_text() == written


@pytest.mark.parametrize(
    "written, options",
    [
        ("a summary\nhalf a li", ["--format", "jsonl"]),
        ('{"index": 0, "summary": "a"}\n{"in', []),
        ('{"index": 0, "shard": "1/2"}\n', ["--format", "jsonl", "--shard", "2/2"]),
    ],
)
def test_resume_refuses_an_output_of_another_format_or_shard(summarised, tmp_path, written, options):
    (tmp_path / "out").write_text(written)
    with pytest.raises(SystemExit, match="was written with another --format or --shard"):
        summarised("\n".join(DOCUMENTS), "--resume", *options)
    assert (tmp_path / "out").read_text() == written


@pytest.mark.parametrize("first, then", [([], ["--sources"]), (["--sources"], [])])
def test_resume_refuses_to_mix_lines_with_and_without_sources(summarised, first, then):
    out = summarised(f"{article(3)}\n{article(4)}", "--format", "jsonl", *first)
    line = out.read_text().splitlines(keepends=True)[0]
    out.write_text(line)
    with pytest.raises(SystemExit, match=f"was written {'with' if first else 'without'} --sources: continue it with"):
        summarised(None, "--format", "jsonl", "--resume", *then)
    assert out.read_text() == line
    resumed = summarised(None, "--format", "jsonl", "--resume", *first).read_text()
    assert resumed.startswith(line) and resumed.count("explanation") == 2 * len(first)


def test_summaries_before_an_invalid_line_are_kept(summarised, tmp_path, monkeypatch):
    monkeypatch.setattr("pyramidion_fairseq.inference.summarizer.BUFFER", 2)
    content = "\n".join(json.dumps({"text": article(2)}) for _ in range(4)) + "\nnonsense\n"
    with pytest.raises(SystemExit, match=r"pyramidion-summarize: error: .*in, line 5 is not JSON"):
        summarised(content)
    assert len((tmp_path / "out").read_text().splitlines()) == 4


def test_explain_json_has_sections_and_lengths(summarised, tmp_path):
    record = {"article_text": SENTENCES, "section_names": ["A", "B"], "sections": [SENTENCES[:2], SENTENCES[2:]]}
    content = json.dumps({"text": "first"}) + "\n" + json.dumps(record)
    paths = ["--json", str(tmp_path / "numbers.json"), "--index", "1"]
    (tmp_path / "in").write_text(content)
    explain_main(summarised, tmp_path, paths)
    explanation = Explanation.from_dict(json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8")))
    assert [section.name for section in explanation.document.sections] == ["A", "B"]
    assert len(explanation.document.sentences) == 5 and explanation.model.exact
    assert explanation.model.name == "deeppyramidion" and explanation.lengths[-1].tokens == 5


def test_explain_against_writes_both_models_to_page_and_json(summarised, tmp_path, trained_folder):
    """Check that a second model, given by its path or by another schedule, is in the page and in the JSON."""
    paths = ["--json", str(tmp_path / "numbers.json"), "--overwrite"]
    for options in (["--against", str(trained_folder / "other.pt")], ["--against-schedule", "1:10,2:3"]):
        page = summarised(article(40), *paths, *options, command=explain, output="report.html").read_text("utf-8")
        first, second = map(Explanation.from_dict, json.loads((tmp_path / "numbers.json").read_text("utf-8")))
        assert first.document == second.document and [data["title"] for data in data_of(page)] == [None, None]
        assert first.lengths[-1].tokens == 5
        assert 'data-models="true"' in page
        assert second.lengths[-1].tokens == (3 if "--against-schedule" in options else 9)
        assert [stage.weights for stage in first.stages] != [stage.weights for stage in second.stages]


def explain_main(summarised, tmp_path, options):
    """Run the command without --output."""

    class WithoutOutput:
        @staticmethod
        def main(argv):
            place = argv.index("--output")
            explain.main(argv[:place] + argv[place + 2 :])

    summarised(None, *options, command=WithoutOutput)


def test_explain_and_summarize_write_html_pages_with_escaped_text(summarised, tmp_path):
    pytest.importorskip("pyramidion_fairseq.apps.explain.page")
    hostile = "<script>alert(1)</script> " + article(9)
    page = summarised(hostile, command=explain, output="report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html") and "<script>alert(1)" not in page
    many = summarised("\n".join(DOCUMENTS), "--format", "html", output="many.html").read_text(encoding="utf-8")
    assert many.lstrip().lower().startswith("<!doctype html")


def test_explain_aggregate_writes_plots_and_tables(summarised, tmp_path):
    folder = summarised("\n".join(DOCUMENTS), "--aggregate", "--limit", "4", command=explain, output="plots")
    names = {"positions.csv", "positions.png", "weights.csv", "weights.png", "sections.csv", "sentences.csv"}
    assert {path.name for path in folder.iterdir()} == names
    rows = list(csv.DictReader(io.StringIO((folder / "sentences.csv").read_text(encoding="utf-8"))))
    assert {row["document"] for row in rows} == {"0", "2", "3"}  # document 1 is blank


def test_explain_aggregate_removes_the_plot_of_an_earlier_run_and_lists_only_its_own_files(
    summarised, tmp_path, capsys
):
    record = {"article_text": SENTENCES, "section_names": ["A", "B"], "sections": [SENTENCES[:2], SENTENCES[2:]]}
    summarised(json.dumps(record), "--aggregate", command=explain, output="plots")
    files = ["positions.csv", "positions.png", "sections.csv", "sections.png", "sentences.csv"]
    files += ["weights.csv", "weights.png"]
    assert f"wrote {', '.join(files)} to" in capsys.readouterr().err
    (tmp_path / "plots" / "mine.txt").write_text("precious")
    folder = summarised(article(3), "--aggregate", "--overwrite", command=explain, output="plots")
    files.remove("sections.png")
    assert f"wrote {', '.join(files)} to" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {*files, "mine.txt"}


@pytest.mark.parametrize(
    "content, options, message",
    [
        (b"\x89PNG" + bytes(1000), [], "is not a text file"),
        ("x\n", ["--sources"], "--sources requires --format jsonl"),
        ("x\n", ["--resume", "--format", "html"], "--resume requires"),
        ("x\n", ["--resume", "--overwrite"], "--resume continues the output and --overwrite replaces it: give one"),
        ("x\n", ["--device", "nonsense"], "--device nonsense"),
        ("x\n", ["--dtype", "float16"], "dtype float16 is for GPUs"),
        ("x\n", ["--beam", "0"], "beam and max_len_b must be at least 1"),
        ("x\n", ["--batch-size", "0"], "sizes must be at least 1"),
        ("x\n", ["--data", "/nonexistent"], "no dict.source.txt and dict.target.txt in /nonexistent"),
        ("x\n", ["--sentencepiece-model", "/nonexistent"], "/nonexistent is not a sentencepiece model"),
        ("x\n", ["--checkpoint", "/nonexistent.pt"], "there is no checkpoint /nonexistent.pt"),
    ],
)
def test_invalid_arguments_of_summarize_are_one_line_errors(summarised, content, options, message):
    with pytest.raises(SystemExit) as stopped:
        summarised(content, *options)
    assert stopped.value.code.startswith("pyramidion-summarize: error: ") and message in stopped.value.code
    assert "\n" not in stopped.value.code


@pytest.mark.parametrize(
    "content, options, message",
    [
        ("", [], "document 0 of .* is empty"),
        ("\u200b \u00ad", [], "document 0 of .* is empty"),
        ("x", ["--index", "1"], r"has no document 1 \(--index counts from 0\)"),
        ("x", ["--index", "-1"], "--index counts from 0, got -1"),
        ("", ["--aggregate"], "no document contains any text"),
        ("x", ["--aggregate", "--limit", "0"], "--limit must be at least 1"),
        ("x", ["--aggregate", "--index", "0"], "--index cannot be used with --aggregate"),
        ("x", ["--limit", "2"], "--limit requires --aggregate"),
        ("x", ["--aggregate", "--json", "y"], "--aggregate requires --output DIR"),
        ("x", ["--aggregate", "--against-schedule", "1:2"], "cannot be used with --aggregate"),
        ("x", ["--against", "/nonexistent.pt"], "there is no checkpoint /nonexistent.pt"),
        ("x", ["--against-schedule", "1:nonsense"], "nonsense"),
    ],
)
def test_invalid_arguments_of_explain_are_one_line_errors(summarised, content, options, message):
    with pytest.raises(SystemExit, match=f"pyramidion-explain: error: .*{message}"):
        summarised(content, *options, command=explain)


def test_summarize_replaces_output_only_with_overwrite_and_valid_input(summarised, tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(SystemExit, match="out exists: use --overwrite"):
        summarised("x\n")
    assert (tmp_path / "out").read_text() == "precious"
    for options in (["--beam", "0"], ["--batch-size", "0"], ["--min-len", "9"]):
        with pytest.raises(SystemExit, match=r"must be at least 1|above the longest"):
            summarised("x\n", "--overwrite", *options)
        assert (tmp_path / "out").read_text() == "precious"
    with pytest.raises(SystemExit, match="line 2 is not JSON"):
        summarised('{"text": "x"}\nnonsense\n', "--overwrite")
    assert (tmp_path / "out").read_text() == "precious"
    assert summarised("x\n", "--overwrite").read_text() != "precious"


@pytest.mark.parametrize("command", [summarize, explain])
def test_output_that_is_the_input_file_is_refused(summarised, tmp_path, command):
    """Check that the input file is not emptied before its documents are read."""
    (tmp_path / "mine").write_text("precious\n")
    words = ["--checkpoint", "pubmed-small", str(tmp_path / "mine"), "--output", str(tmp_path / "mine"), "--overwrite"]
    with pytest.raises(SystemExit, match="mine is the input file: choose another --output"):
        command.main(words)
    assert (tmp_path / "mine").read_text() == "precious\n"


@pytest.mark.parametrize("words", [["mine"], []])
def test_input_file_redirected_to_standard_streams_is_refused_as_output(tmp_path, monkeypatch, words):
    """Check that output is not read again as input, and that a file is not emptied while it is read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("precious\n")
    saved = os.dup(0), os.dup(1)
    with open("mine", "rb") as read, open("mine", "ab") as appended:
        try:
            os.dup2(read.fileno(), 0)
            with pytest.raises(SystemExit, match="mine is the input file: choose another --output"):
                summarize.main([*words, "--output", "mine", "--overwrite"])
            os.dup2(appended.fileno(), 1)
            refused = "standard output is the input file: redirect it to another file"
            for command, given in ((summarize, words), (explain, ["mine", "--output", "-"])):
                with pytest.raises(SystemExit, match=refused):
                    command.main(given)
        finally:
            os.dup2(saved[0], 0)
            os.dup2(saved[1], 1)
    for number in saved:
        os.close(number)
    assert (tmp_path / "mine").read_text() == "precious\n"


def test_check_output_allows_a_device_as_standard_input_and_output(monkeypatch):
    """Check that a device may be both, like a terminal, which is standard input and output at once."""
    saved = os.dup(0)
    with open(os.devnull, "rb") as read:
        try:
            os.dup2(read.fileno(), 0)
            common.check_output(os.devnull, overwrite=False, source="-")
        finally:
            os.dup2(saved, 0)
    os.close(saved)
    with pytest.raises(errors.PyramidionError, match=f"{os.devnull} is the input file"):
        common.check_output(os.devnull, overwrite=False, source=os.devnull)


def test_explain_refuses_the_same_file_for_output_and_json(summarised, tmp_path):
    with pytest.raises(SystemExit, match=r"--output and --json are the same file, .*out: choose another name"):
        summarised("a word", "--json", f"{tmp_path}/./out", command=explain)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--output", "--json"])
def test_explain_replaces_output_and_json_only_with_overwrite(summarised, tmp_path, option):
    kept = tmp_path / ("out" if option == "--output" else "numbers.json")
    kept.write_text("precious")
    options = ["--json", str(tmp_path / "numbers.json")] if option == "--json" else []
    with pytest.raises(SystemExit, match=f"{kept.name} exists: use --overwrite"):
        summarised("a word", *options, command=explain)
    assert kept.read_text() == "precious"
    summarised("a word", *options, "--overwrite", command=explain)
    assert kept.read_text() != "precious"


@pytest.mark.parametrize("there", [False, True])
def test_aggregate_without_text_removes_only_the_folder_it_made(summarised, tmp_path, there):
    if there:
        (tmp_path / "plots").mkdir()
    with pytest.raises(SystemExit, match="no document contains any text"):
        summarised("", "--aggregate", command=explain, output="plots")
    assert (tmp_path / "plots").is_dir() == there


def test_aggregate_refuses_a_folder_that_is_not_empty(summarised, tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "sentences.csv").write_text("precious")
    with pytest.raises(SystemExit, match="plots is not empty: use --overwrite"):
        summarised("a word", "--aggregate", command=explain, output="plots")
    assert (tmp_path / "plots" / "sentences.csv").read_text() == "precious"


def test_aggregate_refuses_a_folder_without_write_permission(summarised, tmp_path, monkeypatch):
    (tmp_path / "plots").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(SystemExit, match=r"cannot write to .*plots: permission denied"):
        summarised("", "--aggregate", command=explain, output="plots")


@pytest.mark.parametrize("command", [summarize, explain])
def test_unwritable_output_is_refused_before_the_model_is_loaded(summarised, monkeypatch, command):
    monkeypatch.setattr(f"{command.__name__}.load", lambda args: pytest.fail("it has begun"))
    with pytest.raises(SystemExit, match=r"cannot write .*out: folder .* does not exist"):
        summarised("a word", command=command, output="missing/out")


def test_interruption_and_out_of_memory_are_one_line_errors(summarised, monkeypatch, capsys):
    def fail(error):
        def stream(*_, **__):
            raise error

        monkeypatch.setattr("pyramidion_fairseq.inference.summarizer.PyramidionHubInterface.summarize_stream", stream)

    fail(KeyboardInterrupt())
    with pytest.raises(SystemExit) as stopped:
        summarised("x\n", "--overwrite")
    assert stopped.value.code == 130 and "pyramidion-summarize: interrupted" in capsys.readouterr().err
    fail(MemoryError())
    with pytest.raises(SystemExit, match="out of memory: use a smaller --batch-size"):
        summarised("x\n", "--overwrite")


@pytest.mark.parametrize("command", [summarize, explain])
def test_help_describes_checkpoint_and_pointer(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--checkpoint CKPT[:CKPT2...]" in shown and "with --pointer" in shown
