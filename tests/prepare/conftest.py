"""Fixtures that write small corpora and prepare them."""

import subprocess
import sys

import pytest

from tests.helpers.preprocessing import SCRIPT, json_lines, prepare


@pytest.fixture
def write(tmp_path):
    """Return a function that writes bytes or text to a file below tmp_path and returns its path as str."""

    def _write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return str(path)

    return _write


@pytest.fixture(scope="session")
def jsonl():
    """Return :func:`json_lines`."""
    return json_lines


@pytest.fixture(scope="session")
def prepare_command():
    """Return a function that runs prepare.py and returns the finished process.

    With ``fresh=True`` it runs in a new interpreter, as it does for users.
    """

    def _run(*arguments, fresh=False):
        if not fresh:
            return prepare(arguments)
        command = [sys.executable, str(SCRIPT), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return _run


@pytest.fixture
def options(tmp_path):
    """Return a function that parses options for a DEST below tmp_path, with one worker by default."""
    from pyramidion_fairseq.prepare.options import parse_options

    return lambda *arguments: parse_options([str(tmp_path / "dest"), "--workers", "1", *map(str, arguments)])


@pytest.fixture
def read(tmp_path, options):
    """Return a function that runs the reading stage alone and returns its result and the lines of each file."""
    from pyramidion_fairseq.prepare.corpus import sources
    from pyramidion_fairseq.prepare.read_stage import read_stage

    def _read(*arguments):
        folder = tmp_path / "read"
        args = options(*arguments)
        result = read_stage(args, sources(args), str(folder))
        files = {path.name: path.read_text(encoding="utf-8").split("\n")[:-1] for path in folder.rglob("*.*")}
        return result, files

    return _read
