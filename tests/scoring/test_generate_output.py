"""Tests of reading summaries from the output of fairseq-generate: order, gaps, shards, n-best, other lines."""

import logging

import pytest

from pyramidion_fairseq.cli.summaries import main
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.scoring.generate_output import find_outputs, in_order, read_summaries

LOG = "2026-11-24 01:02:03 | INFO | fairseq_cli.generate | loading\n"
END = LOG + "Generate test with beam=2: ROUGE-1 1.00\n"


def record(number, text, pieces=None, hypotheses=1, others=("the document", "the reference")):
    best = "".join(
        f"H-{number}\t-0.5\t{pieces or text}{rank or ''}\n"
        f"D-{number}\t-0.5\t{text}{rank or ''}\nP-{number}\t-0.1 -0.2\n"
        for rank in range(hypotheses)
    )
    return f"S-{number}\t{others[0]}\nT-{number}\t{others[1]}\n{best}"


@pytest.fixture
def log(tmp_path):
    """Return a function that writes a log and returns its path."""

    def write(content, name="generate.log"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def test_summaries_are_put_in_the_order_of_the_corpus(log):
    path = log(LOG + record(2, "two") + LOG + record(0, "zero") + record(1, "one") + END)
    assert in_order(read_summaries([path]), 3) == ["zero", "one", "two"]


def test_document_without_summary_gives_an_empty_line_and_a_warning(log, caplog):
    path = log(record(0, "zero") + record(3, "three") + "S-1\tno hypothesis\nT-1\tx\n" + END)
    assert in_order(read_summaries([path]), 5) == ["zero", "", "", "three", ""]
    assert "3 of 5 documents have no summary; their lines are empty: 1, 2, 4" in caplog.text


def test_empty_summary_gives_no_warning(log, caplog):
    path = log(record(0, "") + record(1, "one"))
    assert in_order(read_summaries([path]), 2) == ["", "one"] and not caplog.text


def test_summary_beyond_the_last_document_is_refused(log):
    with pytest.raises(PyramidionError, match="a summary of document 3, but the corpus has only 2 documents"):
        in_order(read_summaries([log(record(3, "three"))]), 2)


def test_first_of_several_hypotheses_is_taken(log):
    assert read_summaries([log(record(0, "best", hypotheses=3) + record(1, "one", hypotheses=3))]) == {
        0: "best",
        1: "one",
    }


def test_shards_are_read_from_folders_and_files(log, tmp_path):
    first = log(record(0, "zero") + record(2, "two") + END, "shard0/generate-test.txt")
    second = log(record(1, "one") + END, "shard1/generate-test.txt")
    expected = {0: "zero", 1: "one", 2: "two"}
    assert read_summaries([first, second]) == read_summaries(find_outputs([tmp_path])) == expected
    assert read_summaries(find_outputs([first.parent, second.parent])) == expected
    log(record(1, "another"), "shard1/generate-test.txt")
    with pytest.raises(PyramidionError, match="document 1 has different summaries"):
        read_summaries([log(record(1, "one"), "other.log"), second])


def test_folder_with_several_splits_is_refused(log, tmp_path):
    for split in ("valid", "test"):
        log(record(0, split), f"generate-{split}.txt")
    with pytest.raises(PyramidionError, match="several splits"):
        find_outputs([tmp_path])


def test_file_with_two_runs_is_refused(log):
    with pytest.raises(PyramidionError, match=r"more than one run \(document 0"):
        read_summaries([log(record(0, "a") + END + record(0, "b"))])


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\r", "\x0b", "\x1e", "\t", "\n", "\n\n", "\r\n"])
def test_line_separators_within_a_summary_become_spaces(log, mark, tmp_path):
    path = log(record(0, f"left{mark}right") + record(1, "one") + END)
    out = tmp_path / "out.txt"
    main([str(path), "--output", str(out), "--expected", "2"])
    assert out.read_bytes() == b"left right\none\n"
    assert out.read_text(encoding="utf-8").splitlines() == ["left right", "one"]


def test_summary_that_looks_like_a_record_is_read_as_text(log):
    assert read_summaries([log(record(0, "D-1\t-0.5\tmade up") + record(1, "one"))]) == {
        0: "D-1 -0.5 made up",
        1: "one",
    }


def test_progress_bars_in_the_output_are_ignored(log):
    """Check it with bars of tqdm mixed into the output, also within a character."""
    bar = "\r 33%|███▎      | 1/3 [00:01<00:02,  1.03s/it, wps=52]".encode()
    whole = (record(0, "zéro") + record(1, "one two")).encode()
    cut = whole.index(b"\xa9", whole.index(b"D-0"))  # within a character
    mixed = b"\r  0%|          | 0/3 [00:00<?, ?it/s]" + whole[:cut] + bar + whole[cut:] + b"\r      \r" + END.encode()
    assert read_summaries([log(mixed)]) == {0: "zéro", 1: "one two"}


def test_summary_cut_off_within_its_line_is_left_out(log):
    path = log((record(0, "zero") + record(1, "a long summary")).rpartition("\nP-")[0][:-5])
    assert read_summaries([path]) == {0: "zero"}


def test_truncated_log_gives_no_partial_summaries(log):
    texts = {0: "the cat sat", 3: "caf\u00e9 \u05e9\u05dc\u05d5\u05dd", 1: "dog"}
    content = "".join(record(number, text, "\u2581" + text.replace(" ", " \u2581")) for number, text in texts.items())
    counts = set()
    for end in range(len(content.encode()) + 1):
        try:
            found = read_summaries([log(content.encode()[:end])])
        except PyramidionError:
            found = {}
        assert found.items() <= texts.items(), end
        counts.add(len(found))
    assert counts == {0, 1, 2, 3}


def test_pieces_are_joined_if_bpe_was_not_given(log, caplog):
    pieces = "\u2581the \u2581ca t \u2581sat"
    assert read_summaries([log(record(0, pieces))]) == {0: "the cat sat"}
    assert "sentencepiece pieces" in caplog.text
    only_h = f"H-0\t-0.5\t{pieces}\nH-1\t-0.5\t\u2581dog\n"
    assert read_summaries([log(only_h)]) == {0: "the cat sat", 1: "dog"}
    assert "no D- lines" in caplog.text


def test_spaces_lost_by_giving_bpe_twice_are_restored(log, caplog):
    lost = ("thedocument", "thereference")  # the document and the reference have lost theirs, too
    path = log(record(0, "thecatsat", "the cat sat", others=lost) + record(1, "dog", others=lost))
    assert read_summaries([path]) == {0: "the cat sat", 1: "dog"}
    assert "lost their spaces" in caplog.text
    path = log(record(0, "the cat", "\u2581the \u2581cat") + record(1, "cat", "\u2581c at"))
    assert read_summaries([path]) == {0: "the cat", 1: "cat"}


COLLAPSED = "s s s s", "ssss"  # the output of a model that repeats one piece without a word-start mark


def test_repeated_piece_without_spaces_is_kept_if_bpe_was_given(log, caplog):
    """Check that the D- lines are taken, because documents and references have spaces."""
    pieces, text = COLLAPSED
    path = log("".join(record(number, text, pieces) for number in range(3)))
    assert read_summaries([path]) == dict.fromkeys(range(3), "ssss")
    assert not caplog.text


def test_repeated_piece_is_joined_if_bpe_was_not_given(log, caplog):
    """Check that summaries count as pieces where documents and references are pieces."""
    marked = ("\u2581the \u2581docu ment", "\u2581the \u2581re ference")
    path = log("".join(record(number, COLLAPSED[0], others=marked) for number in range(3)))
    assert read_summaries([path]) == dict.fromkeys(range(3), "ssss")
    assert "sentencepiece pieces (--bpe was not given)" in caplog.text


def test_repeated_piece_is_kept_if_bpe_was_given_twice(log, caplog):
    pieces = record(0, "ssss", "ssss", others=("thedocument", "thereference"))
    assert read_summaries([log(pieces)]) == {0: "ssss"} and not caplog.text


def test_one_summary_with_a_piece_mark_in_its_text_is_not_joined(log, caplog):
    path = log(
        record(0, "a sparkline \u2581\u2582\u2583 here") + record(1, "two words") + record(2, "three more words")
    )
    assert read_summaries([path])[1] == "two words" and not caplog.text


def test_chinese_text_without_spaces_gives_no_warning(log, caplog):
    chinese = record(0, "我们研究", "\u2581 我们 研究", others=("细胞生长", "细胞"))
    assert read_summaries([log(chinese)]) == {0: "我们研究"} and not caplog.text


def test_last_row_without_a_line_break_is_read_if_it_is_complete(log, caplog):
    rows = '{"index": 0, "summary": "a"}\n{"index": 1, "summary": "b"}'
    assert read_summaries([log(rows)]) == {0: "a", 1: "b"} and not caplog.text
    assert read_summaries([log(rows[:-1])]) == {0: "a"}
    assert "line 2: ignored an incomplete last line" in caplog.text


def test_half_of_a_surrogate_pair_in_a_row_is_written_as_an_escape(log, tmp_path, capsys):
    path, out = log('{"index": 0, "summary": "a \\ud800 b"}\n', "rows.jsonl"), tmp_path / "out.txt"
    main([str(path), "--output", str(out), "--expected", "1"])
    assert out.read_text(encoding="utf-8") == "a \\ud800 b\n"
    main([str(path), "--output", "-", "--expected", "1"])
    assert capsys.readouterr().out.startswith("a ")


def test_command_writes_summaries_to_a_file_or_standard_output(log, tmp_path, caplog, capsys):
    path, references = log(record(1, "one") + END), log("a\nb\n", "refs.txt")
    out = tmp_path / "out.txt"
    with caplog.at_level(logging.INFO):
        main([str(path), "--output", str(out), "--references", str(references)])
    assert out.read_text(encoding="utf-8") == "\none\n"
    main([str(path), "--output", "-", "--expected", "3"])
    assert capsys.readouterr().out == "\none\n\n"


@pytest.mark.parametrize("name", ["folder/generate-test.txt", "refs.txt"])
def test_output_that_is_an_input_file_is_refused(log, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    log(record(0, "zero"), "folder/generate-test.txt")
    log("a\n", "refs.txt")
    before = (tmp_path / name).read_bytes()
    with pytest.raises(SystemExit, match=f"{name} is the input file .*{name}: choose another --output"):
        main(["folder", "--references", "refs.txt", "--output", f"./{name}"])
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing.log"], "no such file"),
        (["empty.log"], "no summaries"),
        (["good.log", "--expected", "0"], "at least 1"),
        (["good.log", "--expected", "2", "--strict"], "1 documents have no summary"),
        (["bad.log"], "document 0 is not UTF-8"),
        (["folder"], "no generate-"),
    ],
)
def test_errors_are_one_line_and_keep_the_existing_output(log, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    log(record(0, "zero"), "good.log")
    log(b"D-0\t-0.5\t\xff\n", "bad.log")
    log(LOG, "empty.log")
    (tmp_path / "folder").mkdir()
    log("old\n", "out.txt")
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--output", "out.txt"])
    assert message in stop.value.code and "\n" not in stop.value.code
    assert (tmp_path / "out.txt").read_text() == "old\n"
    assert len(list(tmp_path.iterdir())) == 5
