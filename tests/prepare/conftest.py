"""Small corpora, and preparing them."""

import json
import random
import subprocess
import sys

import pytest

from tests import forked
from tests.conftest import ROOT

SCRIPT = ROOT / "preprocess" / "prepare.py"
#: What a new interpreter starts with, as the command does: no torch.
LIGHT = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pyramidion_commands; "
NAMES = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau"
WORDS = NAMES.split()


@pytest.fixture
def write(tmp_path):
    """Write bytes or text to a file below tmp_path and return its path as str."""

    def _write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return str(path)

    return _write


def record(number):
    """The n-th record of a small corpus in the format of arXiv and PubMed."""
    words = random.Random(number).choices(WORDS, k=60)
    sentences = [" ".join(words[start : start + 10]) + " ." for start in range(0, 40, 10)]
    summary = ["<S> " + " ".join(words[40:50]) + " </S>", "<S> " + " ".join(words[50:]) + " </S>"]
    return {"article_id": f"id-{number}", "article_text": sentences, "abstract_text": summary}


def json_lines(numbers):
    """The text of a small corpus."""
    return "".join(json.dumps(record(number)) + "\n" for number in numbers)


@pytest.fixture(scope="session")
def jsonl():
    """:func:`json_lines`."""
    return json_lines


def prepare(arguments, start=lambda: None):
    """prepare.py in a process forked from this one, with fairseq-preprocess forked from that: no torch is imported.

    Args:
        arguments: of the command.
        start: called in the new process first.
    """

    def run():
        from pyramidion_fairseq.cli.prepare import main
        from pyramidion_fairseq.prepare import binarise_stage

        binarise_stage.run_child = forked_child
        start()
        sys.exit(main(list(map(str, arguments))))

    return forked.run(run, ["prepare.py", *arguments], timeout=120)


def forked_child(command, log, folder, what):
    """As ``child_process.run_child``, for fairseq-preprocess."""
    with open(log, "wb") as stream:
        name = ["fairseq-preprocess", *command[3:]]
        child = forked.Forked(forked.fairseq_command("preprocess"), name, stream, stream, cwd=folder)
    assert command[1:3] == ["-m", "fairseq_cli.preprocess"] and child.wait() == 0


@pytest.fixture(scope="session")
def prepare_command():
    """Run prepare.py; returns the finished process. ``fresh=True``: as its users do, with new interpreters."""

    def _run(*arguments, fresh=False):
        if not fresh:
            return prepare(arguments)
        command = [sys.executable, str(SCRIPT), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return _run


@pytest.fixture
def options(tmp_path):
    """Parse options for a DEST below tmp_path, one worker unless told otherwise."""
    from pyramidion_fairseq.prepare.options import parse_options

    return lambda *arguments: parse_options([str(tmp_path / "dest"), "--workers", "1", *map(str, arguments)])


@pytest.fixture
def read(tmp_path, options):
    """Run the reading stage alone; returns its result and the lines of each file it wrote."""
    from pyramidion_fairseq.prepare.corpus import sources
    from pyramidion_fairseq.prepare.read_stage import read_stage

    def _read(*arguments):
        folder = tmp_path / "read"
        args = options(*arguments)
        result = read_stage(args, sources(args), str(folder))
        files = {path.name: path.read_text(encoding="utf-8").split("\n")[:-1] for path in folder.rglob("*.*")}
        return result, files

    return _read
