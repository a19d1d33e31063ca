"""What is done for a row: train, validate, generate, score; a stage that is done is not done again."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple
from urllib.parse import quote

from recipes.command import flags
from recipes.paper import FINE_TUNED, PAPER_GENERATION, TRAINING

import pyramidion_fairseq
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.utils.files import lock, read_json, write_text

from . import process
from .corpus import lead
from .scales import Scale, scaled, split_row

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import measure

#: What a stage's result says of the machine that it was done on.
MACHINE = ("device", "torch", "date")
PACKAGE = Path(pyramidion_fairseq.__file__).resolve().parent


class Run(NamedTuple):
    """What is common to all rows."""

    corpus: Path
    output: Path
    scale: Scale
    seed: int
    device: str
    """"cpu" or "cuda"."""

    def seeds_folder(self, row: str) -> Path:
        """Return where the folders of a row's seeds lie: fairseq takes a colon in a path for the end of one."""
        return self.output / "rows" / quote(row, safe="+=,")

    def folder(self, row: str) -> Path:
        """Return where everything of a row lies; the lead baseline has no seed."""
        folder = self.seeds_folder(row)
        return folder if row == "lead" else folder / f"seed_{self.seed}"


def write_json(path: Path, value: Any) -> None:
    """Write a whole file or none."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def stock(command: str, run: Run) -> list[str]:
    """Return the start of a stock command's line."""
    task = ["--user-dir", str(PACKAGE), "--task", "long_document_summarization", "--num-workers", "0"]
    device = ["--cpu"] if run.device == "cpu" else []
    return [sys.executable, "-m", f"fairseq_cli.{command}", str(run.corpus / "data-bin"), *task, *device]


def training(run: Run, row: str) -> list[str]:
    """Return the command that trains a row."""
    scale = run.scale
    options = {
        "arch": split_row(row)[0],
        **{name: value for name, value in scaled(row, scale).items() if value != "" and value is not False},
        # As in Tables 5 and 6, except for the rate, its decay, and the norm that gradients are cut to: at a few
        # hundred updates, 5e-4 after 5,000 updates of warm-up would not leave the start.
        **{"criterion": "chunked_cross_entropy", "autocast": scale.autocast},
        **{name: TRAINING[name] for name in ("optimizer", "adam_betas", "weight_decay")},
        **{"lr": scale.lr, "lr_scheduler": "inverse_sqrt", "warmup_updates": scale.warmup, "clip_norm": 1.0},
        **{"batch_size": scale.batch_size, "update_freq": scale.update_freq, "max_update": scale.updates},
        **{"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0},  # less than one pass over the corpus
        **{"save_dir": run.folder(row) / "checkpoints", "no_epoch_checkpoints": True, "seed": run.seed},
        **{"save_interval_updates": scale.save_every, "keep_interval_updates": 1, "disable_validation": True},
        **{"log_format": "simple", "log_interval": scale.save_every},
    }
    if row in FINE_TUNED:
        base = checkpoint(run, FINE_TUNED[row])
        if not base.with_suffix(".pt").exists():
            folder = run.folder(FINE_TUNED[row])
            first = f"remove {folder}, done elsewhere, and " if (folder / "train.done.json").exists() else ""
            raise PyramidionError(f"{row} goes on from {FINE_TUNED[row]}: {first}train that row first (--rows)")
        options["finetune_from_model"] = base
    return [*stock("train", run), *flags(options)]


def checkpoint(run: Run, row: str) -> Path:
    """Return the last checkpoint of a row."""
    return run.folder(row) / "checkpoints" / "checkpoint_last.pt"


def train(run: Run, row: str) -> dict[str, Any]:
    """Train a row, from where it was stopped."""
    text = process.run(training(run, row), run.folder(row) / "train.log")
    found = process.PROGRESS.findall(text)
    precision = re.findall(r"device: .*; precision: (.*)", text)
    return {
        "updates": run.scale.updates,
        "loss": float(found[-1][0]) if found else None,
        "precision": precision[-1] if precision else None,
    }


def validate(run: Run, row: str) -> dict[str, Any]:
    """Return loss on the validation split."""
    using = flags({"path": checkpoint(run, row), "valid_subset": "valid", "batch_size": run.scale.generate_batch})
    text = process.run([*stock("validate", run), *using], run.folder(row) / "validate.log")
    return {"bits_per_token": float(re.findall(r"valid on 'valid' subset \|.*?loss ([\d.]+)", text)[-1])}


def generate(run: Run, row: str) -> dict[str, Any]:
    """Summarise the test split: beam search, the longest summary as in Appendix D.1, over the scale's divisor."""
    scale = run.scale
    lengths = {
        **PAPER_GENERATION,
        "min_len": scale.min_len,
        "max_len_b": PAPER_GENERATION["max_len_b"] // scale.divisor,
    }
    using = {"path": checkpoint(run, row), **lengths, "beam": scale.beam, "batch_size": scale.generate_batch}
    # A model that has learnt this little repeats itself without end unless it is told not to.
    using.update(gen_subset="test", no_repeat_ngram_size=3)
    pieces = flags({"bpe": "sentencepiece", "sentencepiece_model": run.corpus / "sentencepiece.model"})
    folder = run.folder(row)
    process.run([*stock("generate", run), *flags(using), *pieces], folder / "generate.err", folder / "generate.log")
    return {}


def score(run: Run, row: str) -> dict[str, Any]:
    """Return the summaries in corpus order, their ROUGE, and what they copy of the documents and say beside them."""
    folder, text = run.folder(row), run.corpus / "text"
    references, documents = str(text / "test.target"), str(text / "test.source")
    summaries, cli = str(folder / "summaries.txt"), [sys.executable, "-m"]
    if row != "lead":
        collect = ["pyramidion_fairseq.cli.summaries", str(folder / "generate.log"), "--output", summaries]
        process.run([*cli, *collect, "--references", references], folder / "score.log")
    rouge = ["pyramidion_fairseq.cli.rouge", references, summaries, "--more", documents]
    process.run([*cli, *rouge, "--json", str(folder / "rouge.json")], folder / "score.log")
    report = json.loads((folder / "rouge.json").read_text(encoding="utf-8"))
    (scores,), more = report["systems"].values(), report["more"]
    f1 = {metric: statistics["fmeasure"] for metric, statistics in scores["scores"].items()}
    signatures = {"signature": scores["signature"], "more_signature": more["signature"]}
    return {"f1": f1, "more": more["systems"][summaries], "documents": scores["documents"], **signatures}


def take_lead(run: Run, row: str) -> dict[str, Any]:
    """Return the lead baseline's summaries: as many words as a reference has on average."""
    summaries, words = lead(run.corpus)
    (run.folder(row) / "summaries.txt").write_text("".join(text + "\n" for text in summaries), encoding="utf-8")
    return {"words": words}


Action = Callable[[Run, str], "dict[str, Any]"]
MODEL: dict[str, Action] = {"train": train, "validate": validate, "generate": generate, "rouge": score}
LEAD: dict[str, Action] = {"generate": take_lead, "rouge": score}


def results(run: Run, row: str) -> dict[str, Any] | None:
    """Return what a row's stages gave, by stage; None where one is not done yet."""
    out = {}
    for name in LEAD if row == "lead" else MODEL:
        marker = run.folder(row) / f"{name}.done.json"
        if not marker.exists():
            return None
        out[name] = read_json(marker)
    return out


def restore(run: Run, rows: dict[str, Any]) -> None:
    """Count as done what the rows of a ``results.json`` say, so that they are not trained again."""
    for row, about in rows.items():
        for seed, stages in about["seeds"].items():
            folder = run.folder(row) if row == "lead" else run._replace(seed=int(seed)).folder(row)
            folder.mkdir(parents=True, exist_ok=True)
            for name, result in stages.items():
                marker = folder / f"{name}.done.json"
                if not marker.exists():
                    write_json(marker, result)


def do_row(run: Run, row: str, progress: str) -> None:
    """Do the stages of a row that are not done, with ``progress`` ("3/15") before every line.

    A row that another run is at is left out: two that train into one folder would mix their checkpoints.
    """
    run.folder(row).mkdir(parents=True, exist_ok=True)
    (run.folder(row) / "lock").touch()
    file = lock(run.folder(row) / "lock")
    if file is None:
        process.logger.warning("%s %s: left out, as another run is at it", progress, row)
        return
    try:
        _do_stages(run, row, progress)
    finally:
        os.close(file)


def _do_stages(run: Run, row: str, progress: str) -> None:
    for name, action in (LEAD if row == "lead" else MODEL).items():
        marker = run.folder(row) / f"{name}.done.json"
        if marker.exists():
            process.logger.info("%s %s: %s is done", progress, row, name)
            continue
        process.logger.info("%s %s: %s", progress, row, name)
        start = time.monotonic()
        result = action(run, row)
        seconds = round(time.monotonic() - start, 1)
        # Rows may be done over days, on several machines.
        where = {name: value for name, value in measure.machine(run.device).items() if name in MACHINE}
        write_json(marker, {**result, "seconds": seconds, "machine": where})
