"""Tests that generation killed at random moments loses, cuts and misplaces no summary."""

import random
import re

import pytest

from pyramidion_fairseq.cli import summaries, summarize
from pyramidion_fairseq.inference import summarizer as hub_interface
from tests.helpers.forked import Forked, fairseq_command
from tests.helpers.summaries import article, write_checkpoint, write_model
from tests.helpers.training import TASK, USER_DIR, write_corpus

KILLS = 8
DOCUMENTS = [article(1 + n % 9, seed=n) if n % 7 else "" for n in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a checkpoint with its dictionaries, and documents."""
    folder = write_model(tmp_path_factory.mktemp("folder"))
    (folder / "in.txt").write_text("".join(document + "\n" for document in DOCUMENTS))
    return folder


def summarise(folder, output, *options):
    """Start pyramidion-summarize in a process of its own, three documents at a time."""
    arguments = ["--checkpoint", folder, "--device", "cpu", "--min-len", 3, "--max-len-b", 12, "--batch-size", 2]
    arguments += ["--input", folder / "in.txt", "--output", output, *options]

    def main():
        hub_interface.BUFFER = 3
        summarize.main(list(map(str, arguments)))

    with open(f"{output}.log", "ab") as log:
        return Forked(main, ["pyramidion-summarize"], log, log)


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert summarise(folder, output).wait(120) == 0
    assert len(output.read_text().split("\n")) == len(DOCUMENTS) + 1
    return output.read_text()


def disturb(seed, folder, tmp_path, undisturbed):
    draw, output = random.Random(seed), tmp_path / "out"
    for _ in range(draw.choice([1, 2, 3])):
        lines = draw.randint(0, len(DOCUMENTS) - 15)
        process = summarise(folder, output, "--resume")
        process.kill_after(output, rb"\n", lines, draw.uniform(0, 0.02 if lines else 0.3))
        text = output.read_text() if output.exists() else ""
        print(f"seed {seed}: killed with {text.count(chr(10))} summaries of {len(DOCUMENTS)}")
        assert undisturbed.startswith(text)
    assert summarise(folder, output, "--resume").wait(120) == 0
    assert output.read_text() == undisturbed


def test_killed_summarize_resumes_to_the_same_output(folder, tmp_path, undisturbed):
    disturb(0, folder, tmp_path, undisturbed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, KILLS + 1))
def test_killed_summarize_resumes_to_the_same_output_for_many_seeds(seed, folder, tmp_path, undisturbed):
    disturb(seed, folder, tmp_path, undisturbed)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Write binarised documents and a checkpoint for fairseq-generate."""
    folder = tmp_path_factory.mktemp("words")
    write_corpus(folder, words=40, test=[1 + 7 * n % 60 for n in range(40)])
    write_checkpoint(folder)
    return folder


def generate(folder, log):
    using = [*USER_DIR, *TASK, "--path", folder / "checkpoint_best.pt", "--cpu", "--beam", 2, "--max-len-b", 12]
    with open(log, "wb") as file:
        arguments = ["fairseq-generate", folder, *using, "--batch-size", 2, "--num-workers", 0]
        return Forked(fairseq_command("generate"), arguments, file, file)


@pytest.mark.soak
def test_summaries_of_a_killed_fairseq_generate_are_complete_or_missing(words, tmp_path):
    """Compare each summary that was written with that of an uninterrupted run."""
    whole = tmp_path / "whole.log"
    assert generate(words, whole).wait(120) == 0

    def lines(log):
        parsed = summaries.build_parser().parse_args([str(log), "--expected", "40", "--output", f"{log}.txt"])
        return summaries.run(parsed)

    expected, draw = lines(whole), random.Random(0)
    assert len(expected) == 40 and sum(map(bool, expected)) > 30
    for number in range(KILLS):
        log, wanted = tmp_path / f"{number}.log", draw.randint(1, 30)
        generate(words, log).kill_after(log, rb"\nD-\d+\t.*\n", wanted, draw.uniform(0, 0.01))
        found = lines(log)
        print(f"killed with {sum(map(bool, found))} of 40 summaries")
        assert len(found) == 40 and all(text in ("", other) for text, other in zip(found, expected))
        written = {int(i) for i in re.findall(rb"\nD-(\d+)\t.*\n", log.read_bytes())}
        assert len(written) >= wanted and all(found[i] == expected[i] for i in written)
