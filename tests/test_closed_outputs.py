"""Tests that commands with a closed pipe, a full device or closed streams end with one line or none, no traceback."""

import importlib
import os
import subprocess
import sys
import tempfile

import pytest

from tests.helpers.forked import ROOT, Forked
from tests.helpers.summaries import article, write_model

COMMANDS = ("classify", "convert", "explain", "rouge", "serve", "summaries", "summarize")
#: Whether an error must be printed; it must not if the reader closed the pipe.
WAYS = {"closed pipe": False, "full device": True, "closed": True}
pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


def broken(way):
    """Open a file that accepts no output."""
    if way != "closed pipe":
        return open("/dev/full", "wb")
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "wb")


def run(name, arguments, way, stdin=None):
    """Run a console command; return its exit status and standard error."""
    main = importlib.import_module(f"pyramidion_fairseq.cli.{name}").main

    def start():
        if way == "closed":
            os.close(1)
            sys.stdout = None
        main(list(map(str, arguments)))

    with broken(way) as out, tempfile.TemporaryFile() as err:
        code = Forked(start, [f"pyramidion-{name}", *arguments], out, err, stdin).wait(120)
        err.seek(0)
        return code, err.read().decode()


def check(name, way, code, error):
    """Check that the exit status is 1 and that one line is printed if there must be one."""
    lines = [line for line in error.splitlines() if not line.startswith(("INFO", "WARNING"))]
    assert code == 1, error
    assert [line[: len(name) + 9] for line in lines] == [f"{name}: error: "] * WAYS[way], error
    assert not lines or "output" in lines[0]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", COMMANDS)
def test_help_to_a_broken_output_ends_without_a_traceback(name, way):
    code, error = run(name, ["--help"], way)
    check(f"pyramidion-{name}", way, code, error)


@pytest.mark.parametrize("way", WAYS)
def test_rouge_and_summaries_to_a_broken_output_end_without_a_traceback(tmp_path, way):
    (tmp_path / "a").write_text("the decoder reads\n" * 3)
    (tmp_path / "b").write_text("the decoder writes\n" * 3)
    (tmp_path / "log").write_text("".join(f"S-{n}\ta\nH-{n}\t-1\tb\nD-{n}\t-1\tb\n" for n in range(3)))
    options = ["--samples", "10", "--workers", "1"]
    check("pyramidion-rouge", way, *run("rouge", [tmp_path / "a", tmp_path / "b", *options], way))
    check("pyramidion-summaries", way, *run("summaries", [tmp_path / "log", "--output", "-"], way))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("way", WAYS)
def test_summarize_to_a_broken_output_ends_without_a_traceback(model, tmp_path, way):
    (tmp_path / "in").write_text(article(3) + "\n")
    chosen = ["--checkpoint", model, "--device", "cpu", "--min-len", 3, "--max-len-b", 6, "--input", tmp_path / "in"]
    check("pyramidion-summarize", way, *run("summarize", chosen, way))
    chosen += ["--output", tmp_path / "out"]
    code, error = run("summarize", chosen, way)  # with --output it needs no standard output
    assert code == 0 and (tmp_path / "out").read_text().count("\n") == 1, error


def test_summarize_to_a_file_on_a_full_device_ends_with_one_line(model, tmp_path):
    (tmp_path / "in").write_text(article(3) + "\n")
    chosen = ["--checkpoint", model, "--device", "cpu", "--min-len", 3, "--max-len-b", 6, "--input", tmp_path / "in"]
    code, error = run("summarize", [*chosen, "--output", "/dev/full", "--overwrite"], "full device")
    check("pyramidion-summarize", "full device", code, error)


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-", ">&- 2>&-", "| true", "2>&- <&-"])
@pytest.mark.parametrize("command", ["preprocess/prepare.py --help", "preprocess/prepare.py x y"])
def test_prepare_in_a_shell_with_broken_streams_prints_no_traceback(command, redirect):
    """Check the command as users type it, including what Python prints at its exit."""
    words = f'set -o pipefail; "$0" {command} {redirect}'
    done = subprocess.run(["bash", "-c", words, sys.executable], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    if "full" in redirect and "help" in command:
        assert done.returncode == 1
        assert done.stderr == "error: cannot write to standard output: No space left on device\n"
    if command.endswith("x y"):
        assert done.returncode == 2


def test_closed_standard_input_is_reported_in_one_line(model):
    def start():
        os.close(0)
        sys.stdin = None
        importlib.import_module("pyramidion_fairseq.cli.summarize").main(["--checkpoint", str(model)])

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        assert Forked(start, ["pyramidion-summarize"], out, err).wait(120) == 1
        err.seek(0)
        expected = "pyramidion-summarize: error: standard input is closed: give a file with --input\n"
        assert err.read().decode() == expected
