"""Fixtures of the examples. Their modules are imported as the scripts of examples/ import each other."""

import json
import os
import random
import subprocess
import sys

import pytest

from tests.helpers import forked
from tests.helpers.paths import EXAMPLES, ROOT

sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "pubmed_small")]


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """Return a function that runs a program of this repository: program("bash", "examples/pubmed/train.sh", ...).

    A Python script is forked from this process, and so are the commands that it starts.
    """

    commands = tmp_path_factory.mktemp("commands")
    for name in ("convert", "rouge", "summaries"):  # run from this repository, whatever is installed
        path = commands / f"pyramidion-{name}"
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pyramidion_fairseq.cli.{name} "$@"\n', "utf-8")
        path.chmod(0o755)

    def run(*words, **settings):
        paths = os.pathsep.join([str(commands), os.path.dirname(sys.executable), os.environ["PATH"]])
        env = dict(os.environ, PYTHONPATH=str(ROOT), PATH=paths, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
        env.update(PYTHONWARNINGS="ignore", **settings)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        return forked.run_command([*map(str, words)], cwd=ROOT, env=env, **streams)

    return run


@pytest.fixture(scope="session")
def raw(tmp_path_factory):
    """Write a corpus as JSON lines: documents of random words, and summaries that are their first words.

    Some documents have fewer tokens than any pooling keeps; some training documents and one test document have
    more than the poolings to 512.
    """
    folder = tmp_path_factory.mktemp("raw")
    words, draw = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "io", "u")], random.Random(0)
    for split, count in (("train", 24), ("val", 6), ("test", 6)):
        with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as file:
            for number in range(count):
                long = split == "train" or (split == "test" and number == 0)
                text = draw.choices(words, k=draw.randrange(*((20, 800) if long else (20, 60))))
                file.write(json.dumps({"document": " ".join(text), "summary": " ".join(text[:8])}) + "\n")
    return folder


@pytest.fixture(scope="session")
def prepared(raw, program, tmp_path_factory):
    """Prepare the corpus of ``raw`` and return its folder."""
    folder = tmp_path_factory.mktemp("prepared") / "data"
    splits = [
        f"--{split}={raw / name}.jsonl" for split, name in (("train", "train"), ("valid", "val"), ("test", "test"))
    ]
    done = program(sys.executable, "preprocess/prepare.py", folder, *splits, "--vocab-size", 80, "--workers", 1)
    assert done.returncode == 0, done.stderr
    return folder
