"""The table and the figure: what was measured, the published row beside it."""

from __future__ import annotations

import statistics
from typing import Any
from urllib.parse import unquote

import matplotlib

from pyramidion_fairseq.models.architectures import PUBLISHED
from pyramidion_fairseq.schedule import PoolingSchedule
from pyramidion_fairseq.utils.files import read_json_if_there

from .corpus import fingerprint
from .scales import ROWS, scaled
from .stages import LEAD, MODEL, Run, measure, results, write_json
from .timing import FORCED

matplotlib.use("Agg")
import matplotlib.pyplot as plt

#: Lsum is what papers call ROUGE-L of summaries with several sentences.
METRICS = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeLsum": "ROUGE-Lsum"}
TIMES = {"train": "train_s", **{f"generate_{tokens}": f"infer{tokens}_s" for tokens in FORCED}}
#: Of ``pyramidion-rouge --more``, in per cent: what a summary says that its document does not have.
UNSUPPORTED = {"novel_1": "words not in document", "unsupported_numbers_share": "numbers not in document"}
#: Times are compared with this row's, ours with ours and the paper's with the paper's: machines differ, ratios less.
REFERENCE = "vanilla_8k"


def published_row(arch: str) -> dict[str, str]:
    """Return the paper's numbers of an architecture; empty where it has none.

    Table 4's come after those with times.
    """
    keys = [key for key, name in PUBLISHED.items() if name == arch]
    rows = {(row["table"], row["row"]): row for row in measure.published()}
    return rows[keys[0]] if keys else {}


def number(text: str | None) -> float | None:
    """Return a cell of the paper's tables."""
    return float(text) if text else None


def check_rows(run: Run, rows: dict[str, Any]) -> None:
    """Refuse rows of somebody else's ``results.json`` that no table can be made of, before anything is written.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: they are not what :func:`write` has written.
        PyramidionError: a row is of no architecture.
    """
    for row, about in rows.items():
        for seed, stages in about["seeds"].items():
            named = list(stages) == list(LEAD if row == "lead" else MODEL)
            named = named and "/" not in row and seed == ("" if row == "lead" else str(int(seed)))
            if not named or not all(isinstance(result, dict) for result in stages.values()):
                raise ValueError(row)
    quality_table(run, rows)


def collect(run: Run) -> dict[str, dict[str, Any]]:
    """Return row -> {"seeds", "measured", "published"} for every row of which something is there.

    ``seeds`` maps each seed with which the row is done to what its stages gave; that of "lead" is "".
    """
    path = run.output / "measure.json"
    measured = read_json_if_there(path).get("rows", {})
    folders = sorted(unquote(folder.name) for folder in (run.output / "rows").glob("*"))
    names = sorted({*folders, *measured}, key=lambda row: (["lead", *ROWS, row].index(row), row))
    out = {}
    for row in names:
        about = {"seeds": by_seed(run, row), "measured": measured.get(row), "published": published_row(row)}
        if about["seeds"] or about["measured"]:
            out[row] = about
    return out


def by_seed(run: Run, row: str) -> dict[str, dict[str, Any]]:
    """Return what the row's stages gave by seed, for the seeds with which all of them are done."""
    if row == "lead":
        found = {"": results(run, row)}
    else:
        seeds = sorted(int(path.name.partition("_")[2]) for path in run.seeds_folder(row).glob("seed_*"))
        found = {str(seed): results(run._replace(seed=seed), row) for seed in seeds}
    return {seed: stages for seed, stages in found.items() if stages}


def lengths(run: Run, row: str) -> str:
    """Return what the row's layers read, and the decoder: ``2048, 2048 -> 512``."""
    options = scaled(row, run.scale)
    read, layers = options["max_source_positions"], options["encoder_layers"]
    schedule, text = dict(PoolingSchedule.of(options["pooling_schedule"], read, layers).steps), []
    for layer in range(1, layers + 1):
        kept = schedule.get(layer)
        text.append(f"{read} -> {kept}" if kept else str(read))
        read = kept or read
    return ", ".join(text)


def lead_length(stages: dict[str, Any]) -> str:
    """Return how long the lead baseline's summaries are; runs before that was one rule took tokens."""
    words = stages["generate"].get("words")
    return f"first {words} words" if words else "first tokens, as many as a model may write"


def quality_table(run: Run, rows: dict[str, dict[str, Any]]) -> str:
    """Return bits per token with the deviation over seeds.

    ROUGE with its interval, or with the deviation over seeds.
    """
    lines = []
    for row, about in rows.items():
        if not about["seeds"]:
            continue
        runs, paper = list(about["seeds"].values()), about["published"]
        scores = [interval([stages["rouge"]["f1"][metric] for stages in runs]) for metric in METRICS]
        unsupported = [interval([more(stages, name) for stages in runs]) for name in UNSUPPORTED]
        bits = None if row == "lead" else spread([stages["validate"]["bits_per_token"] for stages in runs])
        theirs = [paper.get("R1") or None, paper.get("R2") or None]
        read = lengths(run, row) if row != "lead" else lead_length(runs[0])
        name = "lead baseline" if row == "lead" else row
        lines.append([name, read, len(runs), bits, *scores, *unsupported, *theirs])
    columns = [*METRICS.values(), *(f"{title}, %" for title in UNSUPPORTED.values())]
    titles = ["row", "lengths", "seeds", "bits/token", *columns, "paper: R-1", "paper: R-2"]
    about = "F1 x 100 with 95% intervals over documents; mean ± standard deviation where there are seeds."
    return f"## Scores\n\n{about}\n\n" + measure.table(titles, lines)


def spread(values: list[float]) -> str:
    """Return ``8.66 ± 0.02``: mean and standard deviation of the sample; the value alone where there is one."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{deviation}"


def more(stages: dict[str, Any], name: str) -> dict[str, float] | None:
    """Return a measure of ``--more``; None where no summary has any such thing, or a run was scored without it."""
    found = stages["rouge"].get("more", {}).get(name, {"mean": None})
    return None if found["mean"] is None else found


def interval(scores: list[dict[str, float] | None]) -> str | None:
    """Return ``12.3 [12.0, 12.6]`` of one run, ``12.3 ± 0.2`` of several; None where a run has no score."""
    if None in scores:
        return None
    if len(scores) > 1:
        return spread([score["mean"] for score in scores])
    return "{:.2f} [{:.2f}, {:.2f}]".format(*(scores[0][name] for name in ("mean", "low", "high")))


def bar(runs: list[dict[str, Any]], metric: str) -> tuple[float, float, float]:
    """Return mean, and what to draw below and above it: to the interval of one run, or the deviation over seeds."""
    scores = [stages["rouge"]["f1"][metric] for stages in runs]
    mean = statistics.fmean(score["mean"] for score in scores)
    if len(scores) > 1:
        deviation = statistics.stdev(score["mean"] for score in scores)
        return mean, deviation, deviation
    return mean, mean - scores[0]["low"], scores[0]["high"] - mean


def ratios(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, tuple[float | None, float | None]]]:
    """Time -> row -> (ours over our REFERENCE's, the paper's over the paper's); None where either is missing."""
    out: dict[str, dict[str, tuple[float | None, float | None]]] = {}
    theirs = published_row(REFERENCE)
    for name, column in TIMES.items():
        out[name] = {}
        for row, about in rows.items():
            if about["measured"] and rows.get(REFERENCE, {}).get("measured"):
                ours = about["measured"][name]["median"] / rows[REFERENCE]["measured"][name]["median"]
                value = number(about["published"].get(column))
                out[name][row] = (ours, value and value / float(theirs[column]))
    return out


def time_table(run: Run, rows: dict[str, dict[str, Any]]) -> str:
    """Return seconds a batch and memory, with the ratio to REFERENCE here and in the paper."""
    relative, lines = ratios(rows), []
    for row, about in rows.items():
        if not about["measured"]:
            continue
        cells: list[Any] = [row, about["measured"]["train_bytes"] / 2**20]
        for name in TIMES:
            ours, paper = relative[name].get(row, (None, None))
            cells += [about["measured"][name]["median"], ours, paper]
        lines.append(cells)
    titles = ["row", "train, peak MiB"]
    for name in TIMES:
        titles += [f"{name.replace('_', ' ')}: s", "ratio", "paper"]
    train, infer = run.scale.timed_batch
    head = f"## Time and memory\n\nSeconds a batch ({train} documents in training, {infer} in generation, beam "
    rounds = {about["measured"][name]["rounds"] for about in rows.values() if about["measured"] for name in TIMES}
    head += f"{run.scale.beam}), medians of timed runs in turns, {max(rounds, default=0)} of each; "
    head += f"ratios to {REFERENCE}, here and in the paper.\n\n"
    return head + measure.table(titles, lines)


def figure(rows: dict[str, dict[str, Any]]) -> Any:
    """Draw ROUGE bars with intervals, the lead baseline as lines; ratios of time, ours against the paper's."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(15, 6))
    scored = [row for row, about in rows.items() if about["seeds"] and row != "lead"]
    for i, metric in enumerate(METRICS):
        bars = [bar(list(rows[row]["seeds"].values()), metric) for row in scored]
        offsets = [number + 0.27 * (i - 1) for number in range(len(scored))]
        means, below, above = ([part[side] for part in bars] for side in range(3))
        errors = {"yerr": [below, above], "error_kw": {"lw": 1}}
        left.bar(offsets, means, 0.27, color=f"C{i}", label=METRICS[metric], **errors)
        if rows.get("lead", {}).get("seeds"):
            value = rows["lead"]["seeds"][""]["rouge"]["f1"][metric]["mean"]
            left.axhline(value, color=f"C{i}", ls=":", label=f"{METRICS[metric]}, lead baseline")
    left.set_xticks(range(len(scored)), scored, rotation=60, ha="right", fontsize=8)
    left.set_ylabel("F1 x 100, 95% interval or deviation over seeds")
    left.legend(fontsize=8, ncol=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    for i, (name, pairs) in enumerate(ratios(rows).items()):
        known = [(ours, paper, row) for row, (ours, paper) in pairs.items() if paper is not None]
        right.scatter([k[1] for k in known], [k[0] for k in known], color=f"C{i}", label=name.replace("_", " "))
        for ours, paper, row in known if name == "train" else []:
            right.annotate(row, (paper, ours), fontsize=7, xytext=(4, -3), textcoords="offset points")
    right.axline((1, 1), slope=1, color="grey", lw=0.8)
    right.set(xscale="log", yscale="log", xlabel=f"paper: time / {REFERENCE}", ylabel=f"here: time / {REFERENCE}")
    right.legend(fontsize=8)
    fig.tight_layout()
    return fig


def write(run: Run) -> str:
    """Write results.json, results.md and results.png into the output folder; returns the Markdown."""
    rows = collect(run)
    scale = run.scale
    about = (
        f"{scale.updates} updates of {scale.batch_size * scale.update_freq} documents; lengths and widths of the "
        f"paper over {scale.divisor}."
    )
    parts = ["# The paper's rows at a small scale", about]
    if any(row["seeds"] for row in rows.values()):
        parts.append(quality_table(run, rows))
    if any(row["measured"] for row in rows.values()):
        parts.append(time_table(run, rows))
    text = "\n\n".join(parts) + "\n"
    machine = measure.machine(run.device)
    found = {"machine": machine, "scale": scale.__dict__, "corpus": fingerprint(run.corpus), "rows": rows}
    write_json(run.output / "results.json", found)
    (run.output / "results.md").write_text(text, encoding="utf-8")
    drawing = figure(rows)
    drawing.savefig(run.output / "results.png", dpi=130)
    plt.close(drawing)
    return text
