"""Compare all poolers by their cost, the quality of their selection, and whether their scorers learn.

    python benchmarks/operators.py --output benchmarks/results/operators_cpu
    python benchmarks/operators.py --output benchmarks/results/operators_cpu --parts text --data data/pubmed

Parts:
* "cost": time, peak memory above the inputs and dispatched operations of a pass over n representations of 64
  coordinates, forward and with backward. Poolers that compute k x n shares are omitted if these are more than 2^22.
* "nccs": the measure of Figure 6 on its grid, with scores in random order, as those of a network: the mean over the k
  best vectors of the largest cosine with a selected vector.
* "recall": benchmarks/selection.py with several lengths, noise and seeds: the recall of relevant tokens.
* "text": loss on the validation split of a corpus (--data: what preprocess/prepare.py wrote) after a fixed number of
updates, by the rows of examples/reproduce.py. After so few updates, a model without a pointer hardly uses the
  document; a pointer copies from the kept tokens, so that the selection matters from the start. It needs a pooler with
  an exact record of its tokens. This part takes minutes per pooler, and is not run by default.

Poolers have their default options. Those that differ in evaluation are in training mode for "cost" and in evaluation
mode for "nccs". Each measured cell is written at once, and kept when the same command is run again.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any, Callable

import measure
import selection
import topk
import torch
from cells import Cells
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyramidion_fairseq.config import PyramidionConfig, complete
from pyramidion_fairseq.poolers import POOLERS, Pooler

PARTS = ["cost", "nccs", "recall", "text"]
DIM = 64
#: n and k of "cost".
SIZES = [(2048, 512), (8192, 128), (8192, 512), (8192, 2048), (65536, 2048)]
#: n and k of "nccs": the cells of Figure 6 with at most 8,192 tokens.
CELLS = [(2**n, 2**k) for n in range(4, 14) for k in range(1, n)]
#: Poolers that make k x n shares, and how many of them are measured.
RELAXATIONS, SHARES = ("iterative_topk", "gumbel_topk", "sinkhorn_topk"), 2**22
#: Tokens, share of random summary words, updates of "recall".
TASKS = [(128, 0.0, 400), (128, 0.25, 400), (128, 0.5, 400), (512, 0.0, 400), (2048, 0.0, 400)]
SEEDS = [1, 2, 3]
#: Minutes a training: it takes part in the first task of "recall" alone, and not in "text".
SLOWEST = "sinkhorn_topk"
#: Poolers that make k x n shares, n x n similarities or samples; tokens up to which "nccs" and "recall" have them.
SLOW, LONGEST_OF_SLOW = (*RELAXATIONS, "perturbed_topk", "merge_similar"), 1024
#: Architectures of "text", which differ from the paper's in the pooler alone.
PLAIN, POINTER = "transpooler_2k_512", "transpooler_2k_512_pointer"
#: Additional options of a pooler.
OPTIONS = {"nugget_topk": "+scorer_activation=none"}


def build(name: str, length: int, k: int) -> Pooler:
    """Return a pooler with default options for documents of the given length."""
    options = {**vars(PyramidionConfig()), "pooler": name, "pooling_schedule": f"1:{k}"}
    return POOLERS.build(name, complete(Namespace(**{**options, "max_source_positions": length})))


def cost(name: str, length: int, k: int, rounds: int, device: str) -> dict[str, float] | None:
    """Measure a training pass of one document; None if there would be too many shares."""
    if name in RELAXATIONS and length * k > SHARES:
        return None
    pooler = build(name, length, k)
    x, scores, gradient = topk.inputs((1, length, DIM, k), device)
    gradient = gradient[:, : pooler.output_length(length, k)]

    def forward() -> Tensor:
        return pooler(x, scores, None, k).embeddings[:, : gradient.size(1)]

    def both() -> Any:
        return torch.autograd.grad(forward(), [x, scores], gradient, allow_unused=True)

    rounds = rounds if length * k < SHARES and name not in RELAXATIONS else min(rounds, 2)
    times = measure.alternate({"forward": forward, "both": both}, rounds, device)
    return {
        "forward_ms": 1e3 * times["forward"].median,
        "both_ms": 1e3 * times["both"].median,
        "peak_mb": measure.peak_memory(both, device) / 1e6,
        "operations": dispatched(both),
    }


def dispatched(call: Callable[[], Any]) -> int:
    """Count the operations that a call dispatches."""

    class Count(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.total += 1
            return func(*args, **(kwargs or {}))

    with Count() as count:
        call()
    return count.total


@torch.no_grad()
def quality(name: str, length: int, k: int, device: str) -> float:
    """Return the mean nCCS over 256 documents whose scores are in random order."""
    pooler, values = build(name, length, k).eval(), []
    generator = torch.Generator().manual_seed(length * 10_000 + k)
    for _ in range(16):
        x = (torch.rand(16, length, topk.DIM, generator=generator) * 2 - 1).to(device)
        scores = torch.rand(16, length, generator=generator).to(device)
        best = scores.topk(k, dim=1).indices.unsqueeze(2).expand(-1, -1, topk.DIM)
        wanted, found = (
            torch.nn.functional.normalize(vectors, dim=2)
            for vectors in (x.gather(1, best), pooler(x, scores, None, k).embeddings)
        )
        values.append((wanted @ found.mT).amax(dim=2).mean().item())
    return statistics.mean(values)


def cost_cell(name: str, length: int, k: int, args: Any) -> str:
    """Return the name of a cell of "cost", with everything that it depends on."""
    return f"cost {length} {k} {name}, {args.device}, rounds: {args.rounds}"


def nccs_cell(name: str, length: int, k: int, args: Any) -> str:
    """Return the name of a cell of "nccs"."""
    return f"nccs {length} {k} {name}, {args.device}"


def recall_cell(name: str, task: tuple[int, float, int], seed: int) -> str:
    """Return the name of a cell of "recall", which is trained on a CPU."""
    length, noise, steps = task
    return f"recall {length} {noise} {steps} {seed} {name}"


def text_cell(row: str, args: Any) -> str:
    """Return the name of a cell of "text", which is trained on a CPU."""
    return f"text {args.data} {args.updates} {args.seeds[0]} {row}"


def costs(names: list[str], cells: Cells, args: Any) -> str:
    """Measure "cost" and return its table."""
    lines = []
    for length, k in SIZES:
        for name in names:
            found = cells.get(
                cost_cell(name, length, k, args),
                lambda n=name, s=length, m=k: cost(n, s, m, args.rounds, args.device),
            )
            numbers = [None] * 4 if found is None else list(found.values())
            lines.append([length, k, name, *numbers])
    headers = ["n", "k", "pooler", "forward ms", "with backward ms", "peak MB", "operations"]
    return "## Cost of one document in training\n\n" + measure.table(headers, lines)


def qualities(names: list[str], cells: Cells, args: Any) -> str:
    """Measure "nccs" and return its table."""
    lengths = sorted({n for n, _ in CELLS})
    lines = []
    for name in names:
        means = [
            None
            if is_left_out(name, length)
            else statistics.mean(
                cells.get(nccs_cell(name, n, k, args), lambda p=name, s=n, m=k: quality(p, s, m, args.device))
                for n, k in CELLS
                if n == length
            )
            for length in lengths
        ]
        lines.append([name, *means])
    shared = sum(length <= LONGEST_OF_SLOW for length in lengths)  # lengths that every pooler has
    lines.sort(key=lambda line: -statistics.mean(line[1 : 1 + shared]))
    note = "Means over k = 2, 4, ... n / 2."
    table = measure.table(["pooler", *(f"n={n}" for n in lengths)], lines)
    return f"## nCCS, scores in random order\n\n{note}\n\n{table}"


def is_left_out(name: str, length: int) -> bool:
    """Return whether a pooler would take hours at a length."""
    return name in SLOW and length > LONGEST_OF_SLOW


def recalls(names: list[str], cells: Cells, args: Any) -> str:
    """Measure "recall" and return its table: mean and spread over seeds, and the loss of poolers without scores."""
    lines = []
    for name in names:
        scorer = "linear" if POOLERS.get(name).uses_scores else "-"
        line: list[Any] = [name]
        for task in TASKS:
            length, noise, steps = task
            if (name == SLOWEST and task != TASKS[0]) or is_left_out(name, length):
                line += ["-", "-"]
                continue
            results = [
                cells.get(
                    recall_cell(name, task, seed),
                    lambda p=name, s=scorer, n=length, x=noise, u=steps, r=seed: selection.train(
                        s, p, u, seed=r, length=n, noise=x
                    ),
                )
                for seed in args.seeds
            ]
            found = [r["recall"] for r in results if r["recall"] is not None]
            losses = [r["loss"] for r in results]
            line += ["-" if not found else spread(found), spread(losses)]
        lines.append(line)
    titles = [f"n={length}, noise {noise:g}, {steps} updates" for length, noise, steps in TASKS]
    headers = ["pooler", *(f"{title}: {what}" for title in titles for what in ("recall", "loss"))]
    note = f"Mean ± standard deviation over seeds {args.seeds}; chance 0.125; loss in nats a word, without noise."
    return f"## Recall of the tokens that matter\n\n{note}\n\n{measure.table(headers, lines)}"


def text_row(arch: str, name: str) -> str:
    """Return the row of examples/reproduce.py that trains an architecture with a pooler."""
    return f"{arch}+pooler={name}{OPTIONS.get(name, '')}"


def bits(row: str, updates: int, seed: int, data: Path) -> float:
    """Train a row of examples/reproduce.py and return its loss on the validation split, in bits a token."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
    from small_scale import stages
    from small_scale.scales import SCALES

    scale = dataclasses.replace(SCALES["cpu_long"], updates=updates, warmup=updates // 5)
    with tempfile.TemporaryDirectory(prefix="operators-") as folder:
        run = stages.Run(data, Path(folder), scale, seed, "cpu")
        run.folder(row).mkdir(parents=True)
        stages.train(run, row)
        return stages.validate(run, row)["bits_per_token"]


def texts(names: list[str], cells: Cells, args: Any) -> str:
    """Measure "text" with the first seed, and return its table."""
    lines = []
    for name in names:
        line: list[Any] = [name]
        for arch in (PLAIN, POINTER):
            row = text_row(arch, name)
            if name == SLOWEST or (arch == POINTER and not POOLERS.get(name).exact_record):
                line.append("-")
                continue
            line.append(cells.get(text_cell(row, args), lambda r=row: bits(r, args.updates, args.seeds[0], args.data)))
        lines.append(line)
    note = f"Bits a token on the validation split after {args.updates} updates; seed {args.seeds[0]}."
    return f"## Loss on real text\n\n{note}\n\n{measure.table(['pooler', PLAIN, POINTER], lines)}"


def spread(values: list[float]) -> str:
    """Return mean and standard deviation as text."""
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values) if len(values) > 1 else 0:.3f}"


def figure(names: list[str], cells: Cells, args: Any) -> Any:
    """Plot the time over nCCS, recall, and the loss on real text with the pointer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(1, 3, figsize=(17, 5), layout="constrained")
    task = max(TASKS, key=lambda task: task[1])  # the noisiest
    for name in names:
        measured = cells.values.get(cost_cell(name, *SIZES[0], args))
        if measured is None:
            continue
        nccs = [cells.values.get(nccs_cell(name, n, k, args)) for n, k in CELLS if n <= LONGEST_OF_SLOW]
        recall = [
            result["recall"]
            for seed in args.seeds
            if (result := cells.values.get(recall_cell(name, task, seed))) and result["recall"] is not None
        ]
        loss = [cells.values.get(text_cell(text_row(POINTER, name), args))]
        for axis, values in zip(axes, (nccs, recall, loss)):
            if values and None not in values:
                axis.plot(measured["both_ms"], statistics.mean(values), "o")
                axis.annotate(name, (measured["both_ms"], statistics.mean(values)), fontsize=8)
    label = f"ms, forward and backward, n={SIZES[0][0]}, k={SIZES[0][1]}"
    axes[0].set(xlabel=label, ylabel=f"nCCS, mean over cells with n up to {LONGEST_OF_SLOW:,}", xscale="log")
    axes[1].set(xlabel=label, ylabel=f"recall, n={task[0]}, noise {task[1]:g}", xscale="log")
    axes[2].set(xlabel=label, ylabel=f"bits a token after {args.updates} updates, with the pointer", xscale="log")
    return drawing


def main() -> None:
    """Run the command line; see the file's docstring."""
    arguments = measure.parser(__doc__, rounds=5, precisions=())
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS[:3], help="which parts to measure")
    arguments.add_argument(
        "--poolers", nargs="+", choices=POOLERS.names(), default=POOLERS.names(), help="poolers to measure"
    )
    arguments.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="seeds of recall; text uses the first")
    arguments.add_argument("--data", type=Path, metavar="DIR", help='data folder for "text"')
    arguments.add_argument("--updates", type=int, default=300, help='updates of "text" (300)')
    args = measure.parse(arguments)
    if "text" in args.parts and args.data is None:
        arguments.error("--parts text needs --data: the folder that preprocess/prepare.py wrote")
    cells = Cells(args.output, "operators")
    table_of = {"cost": costs, "nccs": qualities, "recall": recalls, "text": texts}
    tables = [table_of[part](args.poolers, cells, args) for part in args.parts]
    drawing = measure.draw(lambda: figure(args.poolers, cells, args), args.output)
    measure.report("operators", args.device, cells.values, tables, args.output, drawing)


if __name__ == "__main__":
    sys.exit(main())
