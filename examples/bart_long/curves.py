"""What compare.py writes: the losses that fairseq-train logged, as JSON, a figure and a table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
from small_scale import process
from small_scale.stages import write_json
from small_scale.timing import measure

from pyramidion_fairseq.errors import PyramidionError

from .steps import STARTS, Run

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_VALID = re.compile(r"valid on 'valid' subset \| loss ([\d.]+) .*?num_updates (\d+)")


def read(path: Path) -> Any:
    """Return a JSON file's content."""
    return json.loads(path.read_text(encoding="utf-8"))


def settle(path: Path, settings: dict[str, Any]) -> None:
    """Keep one experiment to an output folder.

    Raises:
        PyramidionError: it was made with other settings.
    """
    settings = json.loads(json.dumps(settings))
    if path.exists() and read(path) != settings:
        raise PyramidionError(f"{path.parent} was made with other settings: use another --output")
    write_json(path, settings)


def losses(log: Path) -> dict[str, list[list[float]]]:
    """Return [update, bits a token] of a log: "train" (means since the line before) and "valid".

    A rerun's lines count.
    """
    text = log.read_text(encoding="utf-8")
    train = {int(update): float(loss) for loss, _, update in process.PROGRESS.findall(text)}
    valid = {int(update): float(loss) for loss, update in _VALID.findall(text)}
    return {"train": [list(pair) for pair in sorted(train.items())], "valid": [list(p) for p in sorted(valid.items())]}


def write(run: Run, settings: dict[str, Any]) -> dict[str, Any]:
    """Write results.json and results.png into the output folder; returns the former's content."""
    runs = {start: losses(run.output / f"{start}.log") for start in STARTS}
    pretraining = losses(run.output / "pretrain.log")["train"]
    machine = measure.machine("cpu")
    results = {"machine": machine, "settings": settings, "pretraining": pretraining, **runs}
    write_json(run.output / "results.json", results)
    drawing = figure(results)
    drawing.savefig(run.output / "results.png", dpi=130)
    plt.close(drawing)
    return results


def figure(results: dict[str, Any]) -> Any:
    """Draw losses against updates: pretraining on the left, both fine-tunings on the right."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[1, 2])
    left.plot(*zip(*results["pretraining"]), color="grey")
    left.set(title="denoising, pieces of articles", xlabel="update", ylabel="bits a token")
    for color, start in zip(("C0", "C1"), STARTS):
        right.plot(*zip(*results[start]["train"]), color=color, label=f"{start}, training")
        right.plot(*zip(*results[start]["valid"]), "o--", color=color, label=f"{start}, validation")
    right.set(title="fine-tuning on summaries", xlabel="update", ylabel="bits a token")
    right.legend()
    fig.tight_layout()
    return fig


def table(results: dict[str, Any]) -> str:
    """Return the losses side by side, in Markdown."""
    lines = []
    for split in ("train", "valid"):
        pairs = [dict(map(tuple, results[start][split])) for start in STARTS]
        updates = sorted(set(pairs[0]) & set(pairs[1]))
        if split == "train":
            updates = sorted({updates[i * (len(updates) - 1) // 4] for i in range(5)})
        lines += [[split, update, *(f"{pair[update]:.2f}" for pair in pairs)] for update in updates]
    return measure.table(["split", "update", *(f"{start}: bits a token" for start in STARTS)], lines)
