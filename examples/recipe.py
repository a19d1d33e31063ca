"""Train, generate and evaluate rows of the paper; called by examples/*/train.sh, generate.sh and evaluate.sh.

usage: recipe.py {train,generate,evaluate} {table2,table3,table4,table7,table8,arxiv,pubmed} ROW [DATA]
                 [KEY=VALUE ...] [options of the stock command ...]

ROW is a row of the table (8, deeppyramidion, index-based) or, for arxiv and pubmed, an architecture. Settings are
KEY=VALUE, here or in the environment: DATA, SAVE, INIT, GPUS, NODES, LAUNCH, PRECISION, MEMORY, BATCH, SUBSET,
METRIC, SAMPLES, CORPUS (examples/README.md). DRY_RUN=1 shows the commands and runs nothing. Other options go to the
stock command and win.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from recipes import command, paper

from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.models.architectures import PUBLISHED

STAGES = {"train": command.train, "generate": command.generate, "evaluate": command.evaluate}
WHERE = (*(f"table{number}" for number in (2, 3, 4, 7, 8)), *paper.CORPORA)


def split(words: list[str]) -> tuple[str, dict[str, str], list[str]]:
    """Parse the words after ROW: return (data, settings, options of the stock command)."""
    given, data = {}, ""
    if words and not words[0].startswith("-") and "=" not in words[0]:
        data, words = words[0], words[1:]
    while words and re.match(r"[A-Z_]+=", words[0]):
        key, value = words[0].split("=", 1)
        if key not in KEYS:
            raise PyramidionError(f"{key}= is no setting; there are: {', '.join(KEYS)}")
        given[key], words = value, words[1:]
    if words and words[0] == "--":
        words = words[1:]
    return data, given, words


KEYS = [*(name.upper() for name in command.Settings.__dataclass_fields__), "CORPUS", "DRY_RUN"]


def main(arguments: list[str]) -> None:
    """Show or run the commands of a stage; raise PyramidionError for invalid arguments."""
    if len(arguments) < 3 or arguments[0] not in STAGES or arguments[1] not in WHERE:
        raise PyramidionError(__doc__.split("\n\n")[1].replace("usage: ", "this is how: "))
    stage, where, row = arguments[:3]
    data, given, extra = split(arguments[3:])
    given = {
        **{key: os.environ[key] for key in KEYS if key in os.environ},
        **({"DATA": data} if data else {}),
        **given,
    }
    settings = command.Settings.read(given)
    if settings.gpus < 0:
        settings.gpus = torch.cuda.device_count()
    if not settings.memory and torch.cuda.is_available():
        settings.memory = torch.cuda.get_device_properties(0).total_memory // 2**30
    recipe = paper.find(where, row, given.get("CORPUS"))
    commands = STAGES[stage](recipe, settings, extra)
    for line in commands:
        print(shlex.join(line), flush=True)
    if given.get("DRY_RUN", "0") in ("", "0"):
        run(stage, recipe, settings, commands)


def run(stage: str, recipe: paper.Recipe, settings: command.Settings, commands: list[list[str]]) -> None:
    """Run a stage's commands.

    Raises:
        PyramidionError: a file is missing, or a command fails.
    """
    data, save = command.folders(recipe, settings)
    if not (data / "data-bin").is_dir():
        raise PyramidionError(f"{data} has no data-bin/: preprocess/prepare.py makes it; DATA=folder says where it is")
    if stage == "train":
        check_base(recipe, settings)
    try:
        save.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PyramidionError(f"SAVE={save} cannot be a folder: {error.strerror}") from None
    for line in commands:
        program = line[len(command.TF32)] if line[: len(command.TF32)] == command.TF32 else line[0]
        if shutil.which(program) is None:
            raise PyramidionError(f"{program} is not installed: activate the environment (source .venv/bin/activate)")
        if stage == "generate":
            status = generate(line, command.log(recipe, settings))
        else:
            status = subprocess.run(line).returncode
        if status:
            raise PyramidionError(f"{program} ended with status {status}")
    if stage == "evaluate":
        print(beside(recipe))


def generate(line: list[str], log: Path) -> int:
    """Run a command with its output in a log and return its status; an older log is replaced at the end."""
    begun = log.with_name(f"{log.name}.part")
    with open(begun, "w", encoding="utf-8") as out:
        status = subprocess.run(line, stdout=out).returncode
    if status == 0:
        begun.replace(log)
    return status


def check_base(recipe: paper.Recipe, settings: command.Settings) -> None:
    """Check that the model of the row from which this row continues exists.

    Raises:
        PyramidionError: it does not exist; the message names the row to train first.
    """
    base = command.base(recipe, settings)
    last = command.folders(recipe, settings)[1] / "checkpoint_last.pt"
    if base is None or base.exists() or last.exists():
        return
    table, row = next(key for key, arch in PUBLISHED.items() if arch == recipe.initial)
    first = f"bash examples/table{table}/train.sh {row} {settings.data}".rstrip()
    raise PyramidionError(
        f"{recipe.arch} goes on from the model of Table {table}, row {row}, and {base} is not there: train that row "
        f"first ({first}), or say INIT=its checkpoint"
    )


def beside(recipe: paper.Recipe) -> str:
    """Return the paper's scores of this row, as text."""
    row = recipe.published
    if row is None:
        return f"The paper has no row of {recipe.arch} on {recipe.corpus}."
    low, high = row["R1_lo"], row["R1_hi"]
    intervals = [f" [{low}, {high}]", " [{R2_lo}, {R2_hi}]".format(**row)] if low else ["", ""]
    split = "test" if recipe.deep else "validation"
    name = "Table {table}, row {row}".format(**row)
    return f"The paper, {name}, {split} split: ROUGE-1 {row['R1']}{intervals[0]}, ROUGE-2 {row['R2']}{intervals[1]}"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PyramidionError as error:
        sys.exit(f"error: {error}")
