"""Make small corpora and prepare them."""

import contextlib
import importlib
import json
import random
import sys

from tests.helpers import forked
from tests.helpers.paths import ROOT

SCRIPT = ROOT / "preprocess" / "prepare.py"
#: The first code of a new interpreter, which does not import torch, like the command.
LIGHT = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pyramidion_commands; "
NAMES = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau"
WORDS = NAMES.split()


def record(number):
    """Return the n-th record of a small corpus in the format of arXiv and PubMed."""
    words = random.Random(number).choices(WORDS, k=60)
    sentences = [" ".join(words[start : start + 10]) + " ." for start in range(0, 40, 10)]
    summary = ["<S> " + " ".join(words[40:50]) + " </S>", "<S> " + " ".join(words[50:]) + " </S>"]
    return {"article_id": f"id-{number}", "article_text": sentences, "abstract_text": summary}


def json_lines(numbers):
    """Return the JSON lines of a small corpus."""
    return "".join(json.dumps(record(number)) + "\n" for number in numbers)


def prepare(arguments, start=lambda: None):
    """Run prepare.py in a process forked from this one, and fairseq-preprocess in one forked from that.

    Forking saves the import of torch.

    Args:
        arguments: arguments of the command.
        start: function that is called first in the new process.
    """

    def run():
        from pyramidion_fairseq.cli.prepare import main
        from pyramidion_fairseq.prepare import binarise_stage

        binarise_stage.run_child = forked_child
        start()
        sys.exit(main(list(map(str, arguments))))

    with contextlib.suppress(ImportError):
        importlib.import_module("matplotlib.pyplot")  # once, as the import takes longer than most corpora
    return forked.run(run, ["prepare.py", *arguments], timeout=120)


def forked_child(command, log, folder, what):
    """Run fairseq-preprocess like ``child_process.run_child``, but forked."""
    with open(log, "wb") as stream:
        name = ["fairseq-preprocess", *command[3:]]
        child = forked.Forked(forked.fairseq_command("preprocess"), name, stream, stream, cwd=folder)
    assert command[1:3] == ["-m", "fairseq_cli.preprocess"] and child.wait() == 0
