"""Tests that scorers and tasks of a user's package, given as --user-dir, work in every command."""

import re
from argparse import Namespace

import pytest

from pyramidion_fairseq.compat.mistakes import check_task_name
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.interop.huggingface.bundle import bundle
from pyramidion_fairseq.scorers import SCORERS, TokenScorer
from tests.helpers import forked
from tests.helpers.paths import ROOT
from tests.helpers.training import TASK, TRAIN, write_corpus

PLUGIN = """
from pyramidion_fairseq.scorers import SCORERS, TokenScorer


@SCORERS.register("first_coordinate")
class FirstCoordinateScorer(TokenScorer):
    @classmethod
    def from_config(cls, cfg):
        return cls(cfg.scorer_activation)

    def rate(self, x, padding_mask, attention=None):
        return x[..., 0]
"""
UNKNOWN = (
    "checkpoint_last.pt cannot be loaded: there is no scorer 'first_coordinate': --user-dir imports the package that "
    "has it (from Python: import it first)"
)


@pytest.fixture(scope="module")
def trained(command, tmp_path_factory):
    """Write a package with a scorer and data, train a model with the scorer, and return the folder."""
    folder = tmp_path_factory.mktemp("user_dir")
    (folder / "own_scorers").mkdir()
    (folder / "own_scorers" / "__init__.py").write_text(PLUGIN, "utf-8")
    (folder / "data").mkdir()
    write_corpus(folder / "data", words=40)
    words = [*TASK, *TRAIN, "--user-dir", folder / "own_scorers", "--scorer", "first_coordinate", "--max-update", 2]
    command("train", folder / "data", *words, "--save-dir", folder)
    return folder


def summarize(*words):
    def command():
        from pyramidion_fairseq.cli.summarize import main

        main()

    return forked.run(command, ["pyramidion-summarize", *words])


def test_scorer_of_a_user_dir_trains_generates_and_summarises(command, trained):
    own, model = ["--user-dir", trained / "own_scorers"], trained / "checkpoint_last.pt"
    done = command("generate", trained / "data", *TASK, *own, "--path", model, "--cpu")
    assert done.stdout.count("\nH-") == 5
    (trained / "document.txt").write_text("w1 w2 w3", "utf-8")
    words = [trained / "document.txt", "--checkpoint", model, "--data", trained / "data"]
    assert summarize(*words, *own).returncode == 0
    assert UNKNOWN in summarize(*words).stderr
    done = summarize(*words, "--user-dir", trained / "nowhere")
    assert f"error: --user-dir: there is no folder {trained / 'nowhere'}" in done.stderr


def test_unknown_task_is_refused_with_advice_to_use_user_dir():
    with pytest.raises(
        PyramidionError, match=r"^task: there is no 'xyz': use --user-dir to import the package that defines it"
    ):
        check_task_name(Namespace(_name="xyz"))


def test_documented_task_of_a_user_dir_trains_and_summarises(command, trained):
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"### A task\n.*?```python\n(.*?)```", page, re.S)
    (trained / "own_task").mkdir()
    (trained / "own_task" / "__init__.py").write_text(source, "utf-8")
    words = [*TRAIN, "--user-dir", trained / "own_task", "--task", "document_titles", "--title-tokens", 3]
    done = command("train", trained / "data", *words, "--max-update", 1, "--save-dir", trained / "titles")
    assert "train: 40 of 40 summaries cut to 3 tokens" in done.stdout
    (trained / "title.txt").write_text("w1 w2 w3", "utf-8")
    model = ["--checkpoint", trained / "titles" / "checkpoint_last.pt", "--data", trained / "data"]
    assert summarize(trained / "title.txt", *model, "--user-dir", trained / "own_task").returncode == 0
    assert (
        "task: there is no 'document_titles': use --user-dir to import"
        in summarize(trained / "title.txt", *model).stderr
    )


def test_misspelt_scorer_is_refused_with_a_suggestion(command, trained):
    own = [*TASK, *TRAIN, "--user-dir", trained / "own_scorers", "--scorer", "first_cordinate", "--save-dir", trained]
    done = command("train", trained / "data", *own, check=False)
    assert "--scorer: there is no 'first_cordinate': did you mean first_coordinate?" in done.stderr


def test_bundle_refuses_variants_of_other_packages(monkeypatch):
    monkeypatch.setitem(SCORERS._classes, "own", type("Own", (TokenScorer,), {"__module__": "own_scorers"}))
    with pytest.raises(PyramidionError, match="'own' is of own_scorers: only files of pyramidion_fairseq"):
        bundle("blockwise", "own", "successive_halving")
