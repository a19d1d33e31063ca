"""Measure how much a summary depends on the sentences that its explanation ranks highest, by deleting them.

    python benchmarks/attribution.py --checkpoint CKPT --data DATA-BIN --input test.jsonl --documents 100 \
        --output results/attribution

Each document is summarised, its sentences are ranked by several methods, and the 1, 3 and 5 highest are deleted. The
drop of the log-probability of the same summary (teacher-forced) measures their importance; it is the "top-k
log-probability drop" of context-cite (Cohen-Wang et al. 2024, arXiv 2409.00729). Methods:

explanation         the explanation's ranking: copied tokens by their positions, the others by weighted attention
copied              tokens of the summary that a pointer is expected to have copied from a sentence
weighted-attention  cross-attention times the poolings' weights; the explanation's ranking without a pointer
attention           cross-attention without the poolings' weights: all tokens of a vector count equally
random              random orders, mean over --draws
lead                the first sentences
leave-one-out       by the drop when each sentence alone is deleted, which is an upper bound for k = 1
context-cite        a sparse linear fit (lasso) to --ablations random ablations; needs scikit-learn, as does fairseq

Documents are first cut to the model's maximum length, so that no later text takes the place of what is deleted. Those
with at most 5 sentences are omitted. The row of each document is appended to attribution.jsonl in --output, and the
same command continues after an interruption. At the end, attribution.json, .md and .png are written there.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import logging
from itertools import islice
from pathlib import Path
from typing import Any, Iterable

import measure
import numpy as np
from deletion import METHODS, Deletion, Settings
from outputs import cut_unfinished, whole_lines

from pyramidion_fairseq.cli.common import (
    Parser,
    Progress,
    add_generation_options,
    add_input_options,
    add_model_options,
    documents_of,
    generation_of,
    load,
    one_line_exit_and_log,
)
from pyramidion_fairseq.errors import PyramidionError
from pyramidion_fairseq.scoring.bootstrap import bootstrap_means, interval

logger = logging.getLogger("pyramidion_fairseq.attribution")

#: Sentences that are deleted.
COUNTS = (1, 3, 5)
#: Methods of models with a pointer: of others, weighted attention is the explanation's ranking.
OF_POINTERS = ("copied", "weighted-attention")
#: Resamples of the bootstrap over documents.
SAMPLES = 2000


def build_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    add_input_options(parser, "text: one a line; document: the whole file; jsonl; auto: by its start", required=True)
    group = parser.add_argument_group("measurement")
    group.add_argument("--output", type=Path, required=True, help="folder for rows, JSON, table and figure")
    group.add_argument(
        "--documents", type=int, default=100, help="number of documents, from the start of the input (%(default)s)"
    )
    group.add_argument("--methods", nargs="+", choices=METHODS, help="default: all that the model supports")
    group.add_argument("--seed", type=int, default=1, help="seed of orders, ablations and bootstrap (%(default)s)")
    group.add_argument("--draws", type=int, default=10, help="random orders (%(default)s)")
    group.add_argument("--most-sentences", type=int, default=128, help="for leave-one-out (%(default)s)")
    group.add_argument("--ablations", type=int, default=64, help="for context-cite (%(default)s)")
    group.add_argument("--alpha", type=float, default=0.01, help="l1 penalty of context-cite's fit (%(default)s)")
    add_generation_options(parser)
    return parser


def check_options(args: argparse.Namespace) -> None:
    """Check the options and the installed packages before the work begins."""
    for name in ("documents", "draws", "most_sentences", "ablations"):
        if getattr(args, name) < 1:
            raise PyramidionError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(args, name)}")
    if args.seed < 0 or not args.alpha >= 0:
        raise PyramidionError(f"--seed and --alpha must be at least 0, got {args.seed} and {args.alpha}")
    for module, package in (("matplotlib", "matplotlib"), ("sklearn", "scikit-learn")):
        needed = module == "matplotlib" or "context-cite" in (args.methods or METHODS)
        if needed and importlib.util.find_spec(module) is None:
            raise PyramidionError(f"{package} is not installed: pip install {package}")


def methods_of(hub: Any, chosen: list[str] | None) -> list[str]:
    """Return the methods that are asked for, random among them, in the order of METHODS.

    Raises:
        PyramidionError: there are several models, or a method needs what the model does not have.
    """
    if len(hub.models) > 1:
        raise PyramidionError(f"--checkpoint names {len(hub.models)} models: name one at a time")
    if not hasattr(hub.models[0].encoder, "poolings"):
        raise PyramidionError(f"{type(hub.models[0]).__name__} is no PyramidionModel and explains nothing")
    points = getattr(hub.models[0].decoder, "pointer", None) is not None
    for method in OF_POINTERS:
        if chosen and method in chosen and not points:
            raise PyramidionError(f"--methods {method}: this model has no pointer")
    chosen = [*(chosen or METHODS), "random"]
    return [method for method in METHODS if method in chosen and (points or method not in OF_POINTERS)]


def fingerprint(model: Any) -> str:
    """Return a fingerprint of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().double().numpy().tobytes())
    return digest.hexdigest()[:16]


def text_of(document: Any) -> str:
    """Return a fingerprint of a document."""
    return hashlib.sha256("\n".join(document.sentences).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def settings_of(args: argparse.Namespace, hub: Any, methods: list[str]) -> dict[str, Any]:
    """Return everything that rows depend on; rows are comparable if it is equal."""
    batches = ("batch_size", "max_tokens")  # which change nothing beyond rounding
    generation = {name: value for name, value in generation_of(args).items() if name not in batches}
    options = {name: getattr(args, name) for name in (*Settings.__dataclass_fields__, "fp16")}
    return {"model": fingerprint(hub.models[0]), "methods": methods, **options, "generation": generation}


def finished_rows(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of an earlier run; begin the file where there is none. An unfinished line is cut off.

    Raises:
        PyramidionError: the rows are of another model, or of other options.
    """
    whole = whole_lines(path)
    if not whole:
        path.write_text(json.dumps(settings) + "\n", encoding="utf-8", newline="\n")
        return []
    try:
        before, *rows = map(json.loads, whole.splitlines())
    except ValueError as error:
        raise PyramidionError(f"{path} is damaged: {error}") from None
    if before != settings:
        other = [name for name in settings if not isinstance(before, dict) or before.get(name) != settings[name]]
        raise PyramidionError(f"{path} was begun with other {', '.join(other)}: use another --output")
    cut_unfinished(path, whole)
    return rows


def measure_document(hub: Any, document: Any, number: int, args: Any, methods: list[str]) -> dict[str, Any]:
    """Return a document's row: the drop for each method and k, and the passes and seconds of each method."""
    row: dict[str, Any] = {"document": number, "text": text_of(document)}
    (summary,) = hub.summarize(document, with_provenance=True, **generation_of(args))
    if summary.provenance is None:
        return {**row, "left_out": "it is empty"}
    deletion = Deletion(hub, summary, number, args.batch_size, args.max_tokens)
    sentences = len(deletion.sentences)
    if sentences <= max(COUNTS):
        return {**row, "left_out": f"sentences that the model reads: {sentences}"}
    settings = Settings(**{name: getattr(args, name) for name in Settings.__dataclass_fields__})
    rankings = {method: deletion.rank(method, settings) for method in methods}
    drops = {
        method: [float(np.mean(deletion.drops([order[:count] for order in ranking.orders]))) for count in COUNTS]
        for method, ranking in rankings.items()
    }
    return {
        **row,
        "sentences": sentences,
        "source_tokens": len(deletion.tokens),
        "summary_tokens": len(deletion.target),
        "log_probability": deletion.log_probability,
        "drops": drops,
        "highest": {method: ranking.orders[0][: max(COUNTS)] for method, ranking in rankings.items()},
        "passes": {method: ranking.passes for method, ranking in rankings.items()},
        "seconds": {method: ranking.seconds for method, ranking in rankings.items()},
    }


def measure_documents(hub: Any, documents: Iterable[Any], args: Any, methods: list[str]) -> list[dict[str, Any]]:
    """Measure the documents that have no row yet, and append their rows as they are done; return all rows.

    Raises:
        PyramidionError: a row that is there is of another document.
    """
    path = args.output / "attribution.jsonl"
    rows, progress = finished_rows(path, settings_of(args, hub, methods)), Progress()
    if rows:
        logger.info(f"{len(rows)} documents are in {path}: going on behind them")
    documents = iter(documents)
    for number, row in enumerate(rows[: args.documents]):
        document = next(documents, None)
        if document is None or row["text"] != text_of(document):
            raise PyramidionError(f"document {number} of {args.input} is not that of {path}: use another --output")
    with open(path, "a", encoding="utf-8", newline="\n") as file:
        for number, document in enumerate(documents, start=len(rows)):
            rows.append(measure_document(hub, document, number, args, methods))
            file.write(json.dumps(rows[-1]) + "\n")
            file.flush()
            progress(1)
    progress.tell()
    return rows[: args.documents]


def with_intervals(values: np.ndarray, seed: int) -> list[dict[str, float]]:
    """Return mean and 95% interval over documents of each column of (n, c) values."""
    low, high = interval(bootstrap_means(values, SAMPLES, seed))
    return [dict(zip(("mean", "low", "high"), map(float, column))) for column in zip(values.mean(axis=0), low, high)]


def summarize(rows: list[dict[str, Any]], methods: list[str], seed: int) -> dict[str, Any]:
    """Return the statistics of all methods; lists have one entry for each of COUNTS."""
    drops = {method: np.array([row["drops"][method] for row in rows]) for method in methods}
    tokens = np.array([[row["summary_tokens"]] for row in rows])
    ours = drops.get("explanation")
    return {
        method: {
            "drop": with_intervals(drops[method], seed),
            "drop_per_token": with_intervals(drops[method] / tokens, seed),
            "above_random": with_intervals(drops[method] - drops["random"], seed),
            "below_explanation": None if ours is None else with_intervals(ours - drops[method], seed),
            "passes": float(np.mean([row["passes"][method] for row in rows])),
            "seconds": float(np.mean([row["seconds"][method] for row in rows])),
        }
        for method in methods
    }


def tables(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return the drops, those of a token, and both paired differences, as Markdown."""

    def cells(entry: dict[str, Any], name: str, digits: int) -> list[str]:
        return ["{mean:.{d}f} [{low:.{d}f}, {high:.{d}f}]".format(**value, d=digits) for value in entry[name]]

    headers = [f"{count} deleted" for count in COUNTS]
    lines = [[name, entry["passes"], entry["seconds"], *cells(entry, "drop", 2)] for name, entry in results.items()]
    first = measure.table(["method", "passes", "s", *headers], lines)
    out = [f"## Drop of a summary's log-probability, nats\n\n{first}"]
    for name, title, digits, without in (
        ("drop_per_token", "Drop for each token of the summary, nats", 4, None),
        ("above_random", "Drop above that of random sentences, paired, nats", 2, "random"),
        ("below_explanation", "Drop of the explanation above that of other methods, paired, nats", 2, "explanation"),
    ):
        if without is None or without in results:
            lines = [[method, *cells(entry, name, digits)] for method, entry in results.items() if method != without]
            out.append(f"## {title}\n\n{measure.table(['method', *headers], lines)}")
    return out


def about(rows: list[dict[str, Any]], measured: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """Return the description above the tables."""
    names = ("sentences", "source_tokens", "summary_tokens")
    sentences, source, summary = (f"{np.mean([row[name] for row in measured]):.0f}" for name in names)
    longer = sum(row["sentences"] > args.most_sentences for row in measured)
    text = (
        f"Documents: {len(measured)}, on average {sentences} sentences and {source} tokens that the model reads and "
        f"{summary} tokens of a summary; means with 95% intervals over documents. Passes are of encoder and decoder, "
        "for each document, beside those of writing the summary; seconds are those of ranking. Explanation, copied "
        "and both kinds of attention take one pass of the decoder alone."
    )
    if len(measured) < len(rows):
        text += f" Left out: {len(rows) - len(measured)} of which the model reads at most {max(COUNTS)} sentences."
    if longer:
        text += f" Leave-one-out tried the first {args.most_sentences} sentences of {longer} longer documents."
    return text


def draw(results: dict[str, dict[str, Any]]) -> Any:
    """Plot the drop over k with intervals, one line per method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    styles = {"explanation": ("#D55E00", "o-"), "copied": ("#CC79A7", "s-"), "attention": ("#E69F00", "^-")}
    styles.update({"weighted-attention": ("#F0E442", "h-"), "random": ("#999999", "x--"), "lead": ("#000000", "v--")})
    styles.update({"leave-one-out": ("#009E73", "D:"), "context-cite": ("#0072B2", "P:")})
    for number, (method, entry) in enumerate(results.items()):
        means, lows, highs = (np.array([value[name] for value in entry["drop"]]) for name in ("mean", "low", "high"))
        positions = np.arange(len(COUNTS)) + 0.06 * (number - len(results) / 2)
        label = f"{method} ({entry['passes']:.0f} passes)"
        colour, style = styles[method]
        axes.errorbar(positions, means, [means - lows, highs - means], fmt=style, color=colour, capsize=2, label=label)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set_xticks(range(len(COUNTS)), [str(count) for count in COUNTS])
    axes.set(xlabel="sentences deleted", ylabel="drop of log-probability, nats")
    axes.legend(frameon=False)
    return figure


def main(argv: list[str] | None = None) -> None:
    """Run the command line; see the file's docstring."""
    with one_line_exit_and_log("attribution.py"):
        args = build_parser().parse_args(argv)
        check_options(args)
        documents = islice(documents_of(args), args.documents)
        hub = load(args)
        methods = methods_of(hub, args.methods)
        args.output.mkdir(parents=True, exist_ok=True)
        rows = measure_documents(hub, documents, args, methods)
        measured = [row for row in rows if "left_out" not in row]
        if not measured:
            raise PyramidionError(
                f"{args.input} has no document of which the model reads more than {max(COUNTS)} sentences"
            )
        results = summarize(measured, methods, args.seed)
        found = {"documents": len(measured), "left_out": len(rows) - len(measured), "counts": COUNTS}
        found = {**found, "settings": settings_of(args, hub, methods), "methods": results}
        text = [about(rows, measured, args), *tables(results)]
        measure.report("attribution", str(hub.device), found, text, args.output, draw(results))


if __name__ == "__main__":
    main()
