"""Compare DeepPyramidion and deep_blockwise with transformers' LED, LongT5 and PEGASUS-X at equal sizes.

    python benchmarks/peers.py --output benchmarks/results/peers_cpu

All have 6 + 6 layers of width 768, 8 heads, feed-forward layers of 3072 and 32,000 symbols, random weights, and read
documents of 8192 tokens; the first table lists further differences. Encoding runs without gradients. A training step
is forward, cross-entropy of 256 tokens and backward, without the optimizer. Generation includes encoding and a fixed
number of tokens. Each model is timed in turns with DeepPyramidion, so that at most two models are in memory. Peak
memory is measured in a separate process for each model: the bytes of live tensors above the weights and, in training,
above the gradients.

The reduced size (the default on a CPU) keeps widths and lengths, but has one document for encoding and training, two
with 16 tokens each for generation, and one round. It takes about half an hour on one core, and 18 GB for LongT5. Each
measured model is written at once, and kept when the same command is run again.
"""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable

import measure
import peer_models
import torch
from cells import Cells
from out_of_memory import attempt
from peer_models import PEERS, Sizes

#: The kinds of work that are measured, in the order of the tables.
WORK = ["training", "encoding", "generation"]
OURS = "deeppyramidion"


def calls(name: str, model: Any, args) -> dict[str, Callable[[], Any]]:
    """Return the work of a model: training has to come first, the others after ``for_generation``."""
    sizes, device = sizes_of(args), args.device
    few = peer_models.documents(args.documents, sizes, device)
    many = peer_models.documents(args.batch, sizes, device)
    return {
        "training": peer_models.training(name, model, few, args.target, args.precision),
        "encoding": peer_models.encoding(name, model, few),
        "generation": peer_models.generating(name, model, many, args.tokens, args.beam),
    }


def sizes_of(args) -> Sizes:
    """Return the sizes that all models share."""
    return Sizes(args.width, args.length, args.vocabulary, target=max(512, args.target, args.tokens))


def chosen(args) -> str:
    """Return everything that a model's numbers depend on; the model is measured again if it changes."""
    options = ("device", "size", "precision", "rounds", *NUMBERS)
    return ", ".join(f"{option} {getattr(args, option)}" for option in options)


def memory(name: str, args) -> dict[str, Any]:
    """Return the peaks of one model in bytes, or why there are none, by kind of work."""
    model = peer_models.build(name, sizes_of(args), args.device).model
    found: dict[str, Any] = {}
    for work, call in calls(name, model, args).items():
        if work == "training":
            for parameter in model.parameters():  # gradients are part of the model, not of the peak
                parameter.grad = torch.zeros_like(parameter)
        elif work == "encoding":
            model.zero_grad(set_to_none=True)
            peer_models.for_generation(model, args.precision)
        found[work] = memory_text(call, args.device)
    return found


def memory_text(call: Callable[[], Any], device: str) -> Any:
    """Return the peak memory of a call in bytes, or why there is none."""
    peak, failure = attempt(functools.partial(measure.peak_memory_of, call, device))
    return failure or peak


def memory_apart(name: str, args) -> dict[str, Any]:
    """Run :func:`memory` in a separate process; if it fails, its message is the result of every row."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "memory.json"
        words = [sys.executable, __file__, "--memory-of", name, str(path)]
        for option in ("device", "size", "precision", *NUMBERS):
            words += [f"--{option}", str(getattr(args, option))]
        # An allocator that keeps memory would take it from other models, and peaks do not depend on time.
        environment = {name: value for name, value in os.environ.items() if name not in measure.ALLOCATOR}
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
        if done.returncode == -signal.SIGKILL:
            return dict.fromkeys(WORK, "not enough memory: the system ended the process")
        if done.returncode:
            last = (done.stderr.strip() or f"ended with status {done.returncode}").splitlines()[-1]
            return dict.fromkeys(WORK, f"failed: {last[:200]}")
        return json.loads(path.read_text(encoding="utf-8"))


def measured(name: str, args) -> dict[str, Any]:
    """Measure one model: return its description, its peaks, and its times in turns with DeepPyramidion's."""
    peaks = memory_apart(name, args)  # before models of this process take memory
    built = {each: peer_models.build(each, sizes_of(args), args.device) for each in dict.fromkeys((OURS, name))}
    peer = built[name]
    words = {"parameters": peer.parameters, "vectors": peer.vectors, "window": peer.window, "rest": peer.rest}
    return {**words, "memory": peaks, "times": times({each: peer.model for each, peer in built.items()}, args)}


def times(models: dict[str, Any], args) -> dict[str, dict[str, measure.Times]]:
    """Return the times of models in turns, by kind of work."""
    found = {}
    made = {name: calls(name, model, args) for name, model in models.items()}
    for work in WORK:
        if work == "encoding":
            for model in models.values():
                model.zero_grad(set_to_none=True)
                peer_models.for_generation(model, args.precision)
        # Warming up and repeating calls of a minute would take an hour on a CPU.
        once = args.size == "reduced" and work != "encoding"
        rounds = 1 if once else args.rounds
        found[work] = measure.alternate({name: of[work] for name, of in made.items()}, rounds, args.device, not once)
    return found


def alike(found: dict[str, Any], sizes: Sizes) -> str:
    """Return the table of similarities and differences of the models."""
    rows = [[name, p["parameters"] / 1e6, f"{p['vectors']:,}", p["window"], p["rest"]] for name, p in found.items()]
    headers = ["model", "parameters, millions", "vectors that the decoder reads", "a token sees", "else"]
    same = (
        f"Alike: {sizes.layers} + {sizes.layers} layers, width {sizes.width}, {sizes.heads} heads, feed-forward "
        f"{4 * sizes.width}, {sizes.vocabulary:,} symbols, shared embeddings, documents of {sizes.length:,} tokens, "
        "random weights, dropout 0.1 in training, on attention weights where a model has it there. Generation is "
        "fairseq's SequenceGenerator for ours and transformers' generate for the others, keys and values kept."
    )
    return f"## What is and is not alike\n\n{same}\n\n{measure.table(headers, rows)}"


def tables(found: dict[str, Any], args) -> list[str]:
    """Return a table for each kind of work: times compared with DeepPyramidion's, and peak memory."""
    one = {
        "training": f"{args.documents} x {args.length:,} tokens, {args.target} target tokens",
        "encoding": f"{args.documents} x {args.length:,} tokens",
        "generation": f"{args.batch} documents, {args.tokens} tokens, beam {args.beam}, encoding included",
    }
    out = []
    for work in WORK:
        rows = []
        for name, model in found.items():
            taken, ours = (measure.Times.of(model["times"][work][each]) for each in (name, OURS))
            peak = model["memory"][work]
            gibibytes = peak / 2**30 if isinstance(peak, (int, float)) else peak or math.nan
            ratio = taken.median / ours.median
            rows.append([name, taken.median, taken.about(), taken.rounds, ours.median, ratio, gibibytes])
        beside = [f"{OURS} beside it: s", "times that"]
        headers = ["model", "median s", "mean ± deviation", "rounds", *beside, "peak GiB above the model"]
        out.append(f"## {work.capitalize()}: {one[work]}\n\n{measure.table(headers, rows)}")
    return out


def figure(found: dict[str, Any]) -> Any:
    """Plot bars of times relative to DeepPyramidion's and of memory, one panel per kind of work."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawing, grid = pyplot.subplots(2, len(WORK), figsize=(4 * len(WORK), 5), sharey=True, layout="constrained")
    names = list(found)[::-1]
    colours = ["tab:green" if name == OURS else "tab:gray" for name in names]
    for work, upper, lower in zip(WORK, *grid):
        peaks = [found[name]["memory"][work] for name in names]
        ratios = []
        for name in names:
            taken, ours = (measure.Times.of(found[name]["times"][work][each]) for each in (name, OURS))
            ratios.append(taken.median / ours.median)
        values = {
            f"times {OURS}'s": (upper, ratios),
            "peak GiB": (lower, [p / 2**30 if isinstance(p, (int, float)) else math.nan for p in peaks]),
        }
        for unit, (axes, lengths) in values.items():
            bars = axes.barh(names, lengths, color=colours)
            axes.bar_label(bars, ["–" if math.isnan(x) else f"{x:.3g}" for x in lengths], padding=2, fontsize=8)
            axes.set_xlabel(unit)
            axes.margins(x=0.2)
        upper.set_title(work)
    return drawing


#: Numeric options: default at the reduced size, default at the paper's size, help.
NUMBERS = {
    "documents": (1, 8, "to encode, and of a training step"),
    "batch": (2, 8, "documents to summarise at once (the paper: 8)"),
    "tokens": (16, 256, "of each summary that is written"),
    "target": (256, 256, "of each summary in training"),
    "beam": (2, 2, "hypotheses of each document"),
    "width": (768, 768, "of all models"),
    "length": (8192, 8192, "of a document, a multiple of 64"),
    "vocabulary": (32000, 32000, "symbols"),
}


def main() -> None:
    """Run the command line; see the file's docstring."""
    arguments = measure.parser(__doc__, rounds=3)
    for option, (reduced, paper, text) in NUMBERS.items():
        both = str(paper) if reduced == paper else f"{reduced} reduced, {paper}"
        arguments.add_argument(f"--{option}", type=int, help=f"{text} (default: {both})")
    arguments.add_argument(
        "--models", nargs="+", choices=PEERS, default=list(PEERS), help="models to compare with deeppyramidion"
    )
    arguments.add_argument(
        "--memory-of", nargs=2, metavar=("MODEL", "FILE"), help="write only this model's peaks, as JSON"
    )
    args = measure.parse(arguments)
    for option, defaults in NUMBERS.items():
        if getattr(args, option) is None:
            setattr(args, option, defaults[args.size == "paper"])
        if getattr(args, option) < 1:
            arguments.error(f"--{option} must be at least 1")
    if args.length % 64 or args.width % 8 or args.tokens < 2 or args.vocabulary < 8:
        arguments.error("--length must be a multiple of 64, --width of 8; --tokens at least 2, --vocabulary 8")
    if args.memory_of:
        name, path = args.memory_of
        Path(path).write_text(json.dumps(memory(name, args)), encoding="utf-8")
        return
    names = [name for name in PEERS if name in (OURS, *args.models)]
    cells = Cells(args.output, "peers")
    found = {name: cells.get(f"{name}, {chosen(args)}", functools.partial(measured, name, args)) for name in names}
    drawing = measure.draw(lambda: figure(found), args.output)
    texts = [alike(found, sizes_of(args)), *tables(found, args)]
    measure.report("peers", args.device, found, texts, args.output, drawing, args.precision)


if __name__ == "__main__":
    main()
