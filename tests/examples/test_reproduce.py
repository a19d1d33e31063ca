"""Tests of reproduce.py, from JSON lines to the table and the figure, with a budget of two updates."""

import fcntl
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from dataclasses import replace

import pytest
from fairseq.utils import split_paths

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.models.architectures import ARCHITECTURES, PUBLISHED
from pyramidion_fairseq.schedule import PoolingSchedule
from tests.helpers import forked
from tests.helpers.models import make_dictionary
from tests.helpers.paths import ROOT

from small_scale import differences, process, report, scales  # isort: skip
from small_scale.stages import MODEL, Run, do_row, training, write_json  # isort: skip

TWO = ["transpooler_2k_512", "4:Max Pooling"]


@pytest.fixture(scope="module")
def reproduced(program, prepared, tmp_path_factory):
    """Train, generate and score two rows; return the output folder, the command and the finished process."""
    output = tmp_path_factory.mktemp("reproduce") / "out"
    words = [sys.executable, "examples/reproduce.py", "--scale", "cpu", "--data", prepared, "--output", output]
    words += ["--updates", 2, "--rows", *TWO]
    return output, words, program(*words)


@pytest.mark.paper("a1-order")
def test_reproduce_trains_generates_and_scores_rows(reproduced):
    output, _, done = reproduced
    assert done.returncode == 0, done.stderr[-3000:]
    assert "[1/3] transpooler_2k_512: train" in done.stderr and "[3/3] lead: rouge" in done.stderr
    rows = json.loads((output / "results.json").read_text("utf-8"))["rows"]
    assert list(rows) == ["lead", "transpooler_2k_512", "transpooler_2k_512_max_window"]
    for row, about in rows.items():
        ((seed, stages),) = about["seeds"].items()
        f1, folder = stages["rouge"]["f1"], output / "rows" / row / ("" if row == "lead" else f"seed_{seed}")
        assert seed == ("" if row == "lead" else "1")
        assert all(0 <= f1[m]["low"] <= f1[m]["mean"] <= f1[m]["high"] <= 100 for m in report.METRICS)
        assert len((folder / "summaries.txt").read_text("utf-8").splitlines()) == 6
        assert stages["rouge"]["more"]["novel_1"]["documents"] == 6
        assert stages["rouge"]["more"]["unsupported_numbers_share"]["mean"] is None  # the corpus has no digits
        assert stages["rouge"]["more_signature"].startswith("more|tok:rouge-score|")
    # The references of this corpus are the first words of its documents.
    assert rows["lead"]["seeds"][""]["rouge"]["f1"]["rouge1"]["mean"] > 30
    lead = rows["lead"]["seeds"][""]["rouge"]["more"]
    assert lead["coverage"]["mean"] > 95 and lead["novel_1"]["mean"] == pytest.approx(100 - lead["coverage"]["mean"])
    assert rows["transpooler_2k_512"]["published"]["R1"] == "39.1"
    assert rows["transpooler_2k_512_max_window"]["published"]["R2"] == "14.2"
    table = (output / "results.md").read_text("utf-8")
    assert re.search(r"\| lead baseline +\| first 8 words ", table)
    assert re.search(r"\| transpooler_2k_512 +\| 512, 512 -> 128 +\|.*\| 39.1 +\| 14.6 +\|", table)
    assert re.search(r"\| ROUGE-Lsum +\| words not in document, % +\| numbers not in document, % +\| paper", table)
    novel = rows["transpooler_2k_512"]["seeds"]["1"]["rouge"]["more"]["novel_1"]
    cell = "{mean:.2f} [{low:.2f}, {high:.2f}]".format(**novel)
    assert re.search(rf"\| transpooler_2k_512 +\|.*\| {re.escape(cell)} +\| +\| 39.1 +\|", table)
    assert (output / "results.png").stat().st_size > 10_000


def test_report_cells_of_several_seeds_and_of_missing_measures():
    new, old = ({"rouge": {"more": {"novel_1": {"mean": mean, "low": 0, "high": 9}}}} for mean in (2.0, None))
    assert report.more(new, "novel_1")["mean"] == 2
    assert report.more(old, "novel_1") is None and report.more({"rouge": {"f1": {}}}, "novel_1") is None
    assert report.interval([report.more(new, "novel_1")]) == "2.00 [0.00, 9.00]"
    assert report.interval([{"mean": 2}, {"mean": 4}]) == "3.00 ± 1.41"
    assert report.interval([report.more(new, "novel_1"), None]) is None


def test_finished_stages_are_not_run_again(reproduced, program):
    output, words, _ = reproduced
    folder = output / "rows" / "transpooler_2k_512" / "seed_1"
    marker = folder / "generate.done.json"
    marker.unlink()
    before = (folder / "checkpoints" / "checkpoint_last.pt").stat().st_mtime
    done = program(*words, "--rows", "transpooler_2k_512")
    assert done.returncode == 0, done.stderr[-3000:]
    shown = re.findall(r"transpooler_2k_512: (.*)", done.stderr)
    assert shown == ["train is done", "validate is done", "generate", "rouge is done"] and marker.exists()
    assert (folder / "checkpoints" / "checkpoint_last.pt").stat().st_mtime == before


def test_several_seeds_are_trained_separately_and_averaged(reproduced, program):
    output, words, _ = reproduced
    done = program(*words, "--rows", "transpooler_2k_512", "--seeds", 1, 2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "[2/3] transpooler_2k_512: train" in done.stderr
    seeds = json.loads((output / "results.json").read_text("utf-8"))["rows"]["transpooler_2k_512"]["seeds"]
    first, second = (seeds[seed]["validate"]["bits_per_token"] for seed in ("1", "2"))
    assert first != second
    mean, deviation = (first + second) / 2, abs(first - second) / 2**0.5
    assert f"{mean:.2f} ± {deviation:.2f}" in (output / "results.md").read_text("utf-8")


@pytest.fixture
def three_rows(tmp_path):
    """Write two documents' summaries of a row with two seeds and of one with one; a third row has none here."""
    references = ["a b c d", "e f g h"]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "test.target").write_text("\n".join(references) + "\n", "utf-8")
    done = {
        ("blockwise_2k", 1): (6.0, 4, ["a b c d", "e f g h"]),
        ("blockwise_2k", 2): (6.5, 3, ["a b c d", "e f x y"]),
        ("lsg_2k", 1): (7.0, 2, ["a b x y", "e f x y"]),
        ("transpooler_2k_512", 1): (7.0, 2, None),
    }
    run = Run(tmp_path, tmp_path / "out", scales.SCALES["cpu_long"], 1, "cpu")
    for (row, seed), (bits, words, summaries) in done.items():
        folder = run._replace(seed=seed).folder(row)
        folder.mkdir(parents=True)
        stages = {"train": {}, "validate": {"bits_per_token": bits}, "generate": {}}
        stages["rouge"] = {"more": {"words": {"mean": words}}}
        for name, result in stages.items():
            (folder / f"{name}.done.json").write_text(json.dumps(result), "utf-8")
        if summaries:
            (folder / "summaries.txt").write_text("\n".join(summaries) + "\n", "utf-8")
    return run


def test_differences_of_all_pairs_of_seeds_match_hand_computed_values(three_rows, caplog):
    (row,) = [line for line in differences.write(three_rows).splitlines() if line.startswith("| blockwise_2k")]
    first, second, seeds, bits, one, two, _, words = (cell.strip() for cell in row.split("|")[1:-1])
    assert (first, second, seeds, bits) == ("blockwise_2k", "lsg_2k", "2 x 1", "-1.000 to -0.500")
    # ROUGE-1 100 and 50 in each document less 50; ROUGE-2 100 and 33.3 less 33.3.
    assert one == "+25.00 to +50.00 [+0.00, +50.00]" and two == "+33.33 to +66.67 [+0.00, +66.67]"
    assert words == "+1.0 to +2.0"
    assert caplog.messages == ["transpooler_2k_512, seed 1: left out, as its summaries are on another machine"]


def test_differences_need_no_summaries_once_the_scores_of_documents_are_written(three_rows):
    text = differences.write(three_rows)
    lines = (three_rows.output / "document_scores.jsonl").read_text("utf-8").splitlines()
    scores = {(found["row"], found["seed"]): found["f1"]["rouge2"] for found in map(json.loads, lines)}
    assert scores == {("blockwise_2k", 1): [100, 100], ("blockwise_2k", 2): [100, 33.333], ("lsg_2k", 1): [33.333] * 2}
    for path in three_rows.output.glob("rows/*/*/summaries.txt"):
        path.unlink()
    assert differences.write(three_rows) == text
    # Without its scores, a pair keeps the line that it has, also where one of its two pairs of seeds is compared anew.
    for kept in (lines[1:], []):
        (three_rows.output / "document_scores.jsonl").write_text("".join(line + "\n" for line in kept), "utf-8")
        assert differences.write(three_rows) == text


@pytest.mark.parametrize(
    "line, reason",
    [
        ("{", "not the F1 of documents"),
        ('{"row": "lsg_2k", "seed": 1, "f1": {}}', "not the F1 of documents"),
        (lambda found: found["f1"]["rouge1"].pop(), "not the F1 of documents"),
        (lambda found: [values.pop() for values in found["f1"].values()], "scored as rouge"),
        (lambda found: found.update(signature="rouge|stem:no"), r"scored as rouge\|stem:no, this program as rouge"),
    ],
)
def test_differences_refuse_damaged_scores_of_documents_and_leave_the_file_as_it_was(three_rows, line, reason):
    differences.write(three_rows)
    path = three_rows.output / "document_scores.jsonl"
    lines = path.read_text("utf-8").splitlines()
    if callable(line):
        found = json.loads(lines[1])
        line(found)
        line = json.dumps(found)
    path.write_text(f"{lines[0]}\n{line}\n", "utf-8")
    before = path.read_text("utf-8")
    with pytest.raises(PyramidionError, match=f"document_scores.jsonl, line 2: {reason}"):
        differences.write(three_rows)
    assert path.read_text("utf-8") == before


def test_results_of_another_machine_are_accepted_for_the_same_budget(reproduced, program, tmp_path):
    """Check that results.json is enough, and that one of another budget or corpus is refused."""
    output, words, _ = reproduced
    other = [tmp_path / "out" if word == output else word for word in words]
    (tmp_path / "out").mkdir()
    shutil.copy(output / "results.json", tmp_path / "out")
    before = json.loads((output / "results.json").read_text("utf-8"))["rows"]
    done = program(*other)
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(re.findall(r"transpooler_2k_512\w*: (.*)", done.stderr)) == {
        f"{stage} is done" for stage in ("train", "validate", "generate", "rouge")
    }
    assert json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))["rows"] == before
    stages = before["transpooler_2k_512"]["seeds"]["1"]
    assert stages["train"]["precision"] == "float32"
    assert all(set(stage["machine"]) == {"device", "torch", "date"} for stage in stages.values())
    (tmp_path / "out" / "settings.json").unlink()
    other[other.index("--updates") + 1] = 3
    refused = program(*other)
    assert refused.returncode == 1 and "was made with updates 2: use another --output" in refused.stderr
    other[other.index("--updates") + 1] = 2
    found = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))
    for wrong, said in (({**found, "corpus": "0"}, "was made with another corpus"), ({"rows": [1]}, "remove it")):
        (tmp_path / "out" / "results.json").write_text(json.dumps(wrong), "utf-8")
        refused = program(*other)
        assert refused.returncode == 1 and said in refused.stderr and not (tmp_path / "out" / "settings.json").exists()


WRONG_ROWS = {
    "a name that leads out": lambda rows, _: rows.update({"blockwise_8k+scorer=/../../x": rows["transpooler_2k_512"]}),
    "a stage that leads out": lambda rows, stages: stages.update({"../../../x": {}}),
    "no stage": lambda rows, stages: stages.pop("rouge"),
    "no result": lambda rows, stages: stages.update(train=3),
    "no scores": lambda rows, stages: stages["rouge"].update(f1={}),
    "no number": lambda rows, stages: stages["validate"].update({"bits_per_token": "many"}),
    "no seed": lambda rows, stages: rows["transpooler_2k_512"]["seeds"].update(x=stages),
}


@pytest.mark.parametrize("name", [*WRONG_ROWS, None])
def test_malformed_results_of_another_machine_are_refused_as_a_whole(reproduced, tmp_path, caplog, name):
    import reproduce

    output, words, _ = reproduced
    run = Run(words[words.index("--data") + 1], tmp_path, replace(scales.SCALES["cpu"], updates=2), 1, "cpu")
    found = json.loads((output / "results.json").read_text("utf-8"))
    row = found["rows"]["transpooler_2k_512"]
    row["measured"] = {"train": {"median": 1.0}}
    if name is None:
        (tmp_path / "results.json").write_text(json.dumps(found), "utf-8")
        reproduce.settle(run)
        assert caplog.messages == [f"times in {tmp_path}/results.json are of another machine and left out: --measure"]
        assert report.by_seed(run, "transpooler_2k_512") == row["seeds"]
        return
    WRONG_ROWS[name](found["rows"], row["seeds"]["1"])
    (tmp_path / "results.json").write_text(json.dumps(found), "utf-8")
    with pytest.raises(PyramidionError, match=r"results\.json is not what this program writes: remove it"):
        reproduce.settle(run)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.paper("time-protocol", "table-10")
def test_measure_rows_writes_times_of_training_and_generation(reproduced, program, monkeypatch):
    """Check the form of the report with summaries of two and three tokens, but not the times themselves."""
    from small_scale import timing

    output, words, _ = reproduced
    corpus = words[words.index("--data") + 1]
    run = Run(corpus, output, scales.SCALES["cpu"], 1, "cpu")
    monkeypatch.setattr(timing, "FORCED", (2, 3))
    rows = ["vanilla_2k", "transpooler_2k_512"]
    timing.measure_rows(run, rows, rounds=1)
    measured = json.loads((output / "measure.json").read_text("utf-8"))
    assert list(measured["rows"]) == rows and measured["machine"]["threads"] >= 1
    for row in rows:
        assert measured["rows"][row]["train_bytes"] > 1e6
        assert all(measured["rows"][row][name]["median"] > 0 for name in ("train", "generate_2", "generate_3"))


@pytest.mark.parametrize("row", ["vanilla_2k", "transpooler_2k_512"])
def test_timed_generator_returns_no_attention(reproduced, row):
    """Check it because fairseq's commands return none, and attention to an unpooled document takes much time."""
    from small_scale import timing

    run = Run(None, reproduced[0], scales.SCALES["cpu"], 1, "cpu")
    documents = timing.Row(run, row, make_dictionary(50)).generator(2)()
    assert all(not hypothesis["attention"].numel() for hypotheses in documents for hypothesis in hypotheses)


def test_committed_time_table_agrees_with_the_committed_results():
    """Check also that the table says how many runs each median has."""
    folder = ROOT / "benchmarks" / "results" / "reproduce_cpu"
    found = json.loads((folder / "results.json").read_text("utf-8"))
    table = report.time_table(Namespace(scale=Namespace(**found["scale"])), found["rows"])
    assert "medians of timed runs in turns, 5 of each" in table
    assert table.strip() in (folder / "results.md").read_text("utf-8")


def test_terminated_run_ends_its_child_and_says_how_to_continue(reproduced, tmp_path):
    _, words, _ = reproduced
    words = [str(tmp_path / "out") if word == words[words.index("--output") + 1] else str(word) for word in words]
    words[words.index("--updates") + 1] = "100000"
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    child = forked.Popen(words, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "out" / "rows" / "transpooler_2k_512" / "seed_1" / "train.log"
    until = time.monotonic() + 120
    while not (log.exists() and "train_inner" in log.read_text("utf-8")) and time.monotonic() < until:
        time.sleep(0.2)
    child.send_signal(signal.SIGTERM)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGTERM
    assert stderr.splitlines()[-1] == "interrupted: run the same command again to continue"
    size = log.stat().st_size
    time.sleep(1)
    assert log.stat().st_size == size  # no process still trains
    assert (log.parent / "checkpoints" / "checkpoint_last.pt").exists() and not (
        log.parent / "train.done.json"
    ).exists()


def test_row_that_another_run_has_locked_is_left_out(tmp_path, caplog):
    """Check it because two runs in one folder would continue from each other's checkpoints."""
    run = Run(tmp_path / "corpus", tmp_path / "out", scales.SCALES["cpu"], 1, "cpu")
    folder = run.folder("transpooler_2k_512")
    folder.mkdir(parents=True)
    with open(folder / "lock", "w") as lock, caplog.at_level(logging.WARNING, logger="reproduce"):
        fcntl.flock(lock, fcntl.LOCK_EX)
        do_row(run, "transpooler_2k_512", "[1/2]")
        assert caplog.messages == ["[1/2] transpooler_2k_512: left out, as another run is at it"]
    assert os.listdir(folder) == ["lock"]
    with pytest.raises(PyramidionError, match="failed, see"):  # there is no corpus
        do_row(run, "transpooler_2k_512", "[1/2]")


def test_failed_command_is_reported_with_its_last_line(tmp_path):
    with pytest.raises(PyramidionError, match=r"failed, see .*log: the reason$"):
        process.run([sys.executable, "-c", "import sys; sys.exit('the reason')"], tmp_path / "log")


def test_interrupted_command_is_ended_with_its_children(tmp_path):
    """Check that the child of a launcher does not go on training."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores SIGINT
    inner = f"import time; open(r'{tmp_path}/started', 'w'); time.sleep(5); open(r'{tmp_path}/late', 'w')"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"

    def interrupt():
        while not (tmp_path / "started").exists():
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        process.run([sys.executable, "-c", outer], tmp_path / "log")
    time.sleep(5)
    assert not (tmp_path / "late").exists()


def test_launcher_variable_is_put_before_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("LAUNCHER", "env MARK=here")
    process.run(["printenv", "MARK"], tmp_path / "log")
    assert (tmp_path / "log").read_text("utf-8") == "here\n"


@pytest.mark.parametrize("scale", sorted(scales.SCALES))
@pytest.mark.parametrize("arch", [*dict.fromkeys(PUBLISHED.values()), "lsg_2k", "lsg_8k_512"])
def test_scaled_rows_keep_the_ratios_of_lengths_and_widths(scale, arch):
    divisor = scales.SCALES[scale].divisor
    full, small = scales.scaled(arch, scales.Scale(1, 8, *[1] * 10, (1, 1))), scales.scaled(arch, scales.SCALES[scale])
    for name in (*scales.LENGTHS, *scales.WIDTHS):
        assert small[name] * divisor == full[name]
    assert full["max_source_positions"] in (512, 2048, 8192)
    steps = [PoolingSchedule.parse(options["pooling_schedule"]).steps for options in (full, small)]
    assert [(layer, kept * divisor) for layer, kept in steps[1]] == list(steps[0])


def test_every_row_trains_with_the_same_budget(tmp_path):
    run = Run(tmp_path, tmp_path, scales.SCALES["cpu"], 3, "cpu")
    budget = ("--max-update", "--batch-size", "--update-freq", "--lr", "--seed", "--warmup-updates", "--dropout")
    rows = {row: training(run, row) for row in scales.ROWS}
    assert len({tuple(words[words.index(name) + 1] for name in budget) for words in rows.values()}) == 1
    assert {PUBLISHED[key] for key in PUBLISHED if key[0] == "4"} <= set(rows)
    assert all("--cpu" in words and words[words.index("--arch") + 1] == row for row, words in rows.items())


def test_row_name_with_options_passes_them_to_training(tmp_path):
    run = Run(tmp_path, tmp_path, scales.SCALES["cpu"], 1, "cpu")
    row = scales.row_name("blockwise_8k+block_size=32+decoder_positions")
    words = training(run, row)
    assert words[words.index("--arch") + 1] == "blockwise_8k" and words[words.index("--block-size") + 1] == "32"
    assert "--decoder-positions" in words and run.folder(row).parent.name == row
    assert "--decoder-positions" not in training(run, "blockwise_8k")


def test_folder_of_a_row_with_a_schedule_is_not_split_by_fairseq(tmp_path):
    run = Run(tmp_path, tmp_path, scales.SCALES["cpu"], 1, "cpu")
    row = scales.row_name("transpooler_2k_512+pooling_schedule=2:32")
    assert split_paths(str(run.folder(row))) == [str(run.folder(row))]
    run.folder(row).mkdir(parents=True)
    for name in MODEL:
        write_json(run.folder(row) / f"{name}.done.json", {"of": name})
    assert list(report.collect(run)) == [row] and list(report.by_seed(run, row)) == ["1"]


def test_power_row_requires_the_checkpoint_of_its_blockwise_row(tmp_path):
    run = Run(tmp_path, tmp_path, scales.SCALES["cpu"], 1, "cpu")
    with pytest.raises(PyramidionError, match="power_8k_4k_2k goes on from blockwise_8k: train that row first"):
        do_row(run, "power_8k_4k_2k", "[1/1]")
    folder = tmp_path / "rows" / "blockwise_8k" / "seed_1" / "checkpoints"
    folder.mkdir(parents=True)
    (folder.parent / "train.done.json").touch()
    with pytest.raises(PyramidionError, match=f"blockwise_8k: remove {folder.parent}, done elsewhere, and train that"):
        training(run, "power_8k_4k_2k")
    (folder / "checkpoint_last.pt").touch()
    words = training(run, "power_8k_4k_2k")
    assert words[words.index("--finetune-from-model") + 1] == str(folder / "checkpoint_last.pt")


@pytest.mark.parametrize(
    "words, message",
    [
        (["--data", "/nowhere"], "--data /nowhere: no such folder"),
        (["--data", "tests"], "neither a folder that preprocess/prepare.py wrote (with data-bin/) nor one with files"),
        (["--data", "tests", "--rows", "bert"], "--rows bert: neither an architecture"),
        (["--data", "tests", "--rows", "2:99"], "--rows 2:99: neither an architecture"),
        (["--data", "tests", "--rows", "blockwise_8k+bloc=1"], "there is no option 'bloc' (see docs/options.md)"),
        (["--data", "tests", "--rows", "blockwise_8k+block_size=x"], "block_size takes int, not 'x'"),
        (["--data", "tests", "--updates", "0"], "--rounds and --updates must be at least 1"),
        (["--data", "tests", "--seeds", "1", "-2"], "--seeds must lie between 0 and 4,294,967,295"),
        (["--data", "tests", "--output", "README.md"], "README.md: File exists"),
    ],
)
def test_invalid_arguments_of_reproduce_end_in_one_line(monkeypatch, tmp_path, capsys, words, message):
    import reproduce

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--scale", "cpu", "--output", str(tmp_path), *words])
    handled = []
    monkeypatch.setattr(reproduce.signal, "signal", lambda number, _: handled.append(number))  # keep pytest's own
    root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
    assert reproduce.main() == 1
    root.handlers[:] = handlers
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: ") and message in stderr and stderr.count("\n") == 1
    # Closing the terminal must end the children as well, unless nohup is to keep them.
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert handled == [signal.SIGTERM] + [signal.SIGHUP] * (not nohup)


def test_corpus_of_json_lines_is_prepared_once(raw, tmp_path, monkeypatch):
    from small_scale.corpus import corpus

    monkeypatch.setattr(subprocess, "Popen", forked.Popen)
    folder = corpus(raw, tmp_path, 80)
    assert folder == tmp_path / "data" and (folder / "data-bin" / "dict.source.txt").exists()
    assert corpus(folder, tmp_path, 80) == corpus(folder / "data-bin", tmp_path, 80) == folder
    (folder / "text" / "test.target").unlink()
    with pytest.raises(PyramidionError, match=r"has no text/test\.target: prepare it with"):
        corpus(folder, tmp_path, 80)


def test_another_budget_in_the_same_folder_is_refused(reproduced, program):
    _, words, _ = reproduced
    done = program(*words, "--updates", 3)
    assert done.returncode == 1
    assert re.search(r"error: .* was made with updates 2: use another --output$", done.stderr.strip())


def test_rows_of_a_scale_are_known_architectures():
    assert set(scales.ROWS) <= set(ARCHITECTURES)
    with pytest.raises(PyramidionError, match="no architecture 'bert'"):
        scales.scaled("bert", scales.SCALES["cpu"])
