"""Measure the time of a training step by architecture, depth and padding, and its share of the machine's matrix rate.

Parts: "layer" (attention in blocks against full attention), "deep" (the models of Table 3), "depth" (Figure 4),
"tables" (the training column of Tables 2, 7, 8 and 10). A step is forward and backward, without the optimizer.
Sizes are the paper's on a GPU. On a CPU, "layer" and "deep" have the paper's sizes with one document; in "depth" and
"tables", lengths and widths are divided, which keeps the shares of attention and linear layers.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import measure
import torch
import workload
from measure import Times

from pyramidion_fairseq.attention.blockwise import BlockwiseAttention
from pyramidion_fairseq.attention.full import FullAttention
from pyramidion_fairseq.config import PyramidionConfig
from pyramidion_fairseq.models.architectures import PUBLISHED

PARTS = ["layer", "deep", "depth", "tables"]
#: Encoder and decoder layers in Figure 4, and the layers after which the Pyramidion pools.
DEPTHS, FIGURE_SCHEDULE = [2, 4, 8, 16], "1:2048,2:512"


def row(what: str, against: str, ratio: float, least: float | None) -> list[Any]:
    """Return a row of the targets."""
    return [what, against, ratio, least, None if least is None else measure.reached(ratio, least)]


HEADERS = ["what", "against", "ratio", "at least", "reached"]


def times_table(title: str, times: dict[str, Times], batches: dict[str, str] | None = None) -> str:
    """Return the times of all variants, and the batch if it differs between them."""
    headers = ["variant", "median s", "mean ± deviation", "minimum s", "rounds", *(["documents"] if batches else [])]
    rows = [[name, t.median, t.about(), t.minimum, t.rounds] for name, t in times.items()]
    if batches:
        rows = [[*line, batches.get(line[0])] for line in rows]
    return f"## {title}\n\n" + measure.table(headers, rows)


def layer(args) -> tuple[dict, list[str]]:
    """Measure the attention layer with its four projections, at 8192 tokens and the shallow models' width."""
    documents = 1 if args.size == "reduced" else 8
    variants, results, tables = {}, {}, []
    for dropout in (0.0, 0.1):
        for name, kind in (("block-wise", BlockwiseAttention), ("full", FullAttention)):
            module = kind(512, 8, dropout).to(args.device).train()
            x = torch.randn(documents, 8192, 512, device=args.device)
            variants[f"{name}, dropout {dropout}, forward"] = _forward(module, x, args.precision)
            variants[f"{name}, dropout {dropout}, forward + backward"] = _backward(module, x, args.precision)
    results = measure.alternate(variants, args.rounds, args.device)
    rows = []
    for dropout in (0.0, 0.1):
        for passes, least in (("forward", 5), ("forward + backward", 7)):
            case = f"dropout {dropout}, {passes}"
            ratio = results[f"full, {case}"].median / results[f"block-wise, {case}"].median
            rows.append(row(f"block-wise layer at 8192, {case}", "full attention", ratio, least))
    tables = ["## Rows\n\n" + measure.table(HEADERS, rows), times_table("Attention layer, 8192 tokens", results)]
    return results, tables


def _forward(module, x, precision: str):
    def call():
        with torch.no_grad(), measure.autocast(x.device.type, precision):
            module(x)

    return call


def _backward(module, x, precision: str):
    x = x.clone().requires_grad_()

    def call():
        with measure.autocast(x.device.type, precision):
            out = module(x)[0]
        torch.autograd.grad(out.float().sum(), [x, *module.parameters()])

    return call


def deep(args) -> tuple[dict, list[str]]:
    """Return DeepPyramidion against deep_blockwise, full attention, and itself with half the tokens."""
    documents = 1 if args.size == "reduced" else 64
    options = {
        "deeppyramidion": workload.divided("deeppyramidion", 1),
        "deeppyramidion without dropout": workload.divided(
            "deeppyramidion", 1, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0
        ),
        "deep_blockwise": workload.divided("deep_blockwise", 1),
        "full attention": workload.divided("deep_blockwise", 1, attention="full"),
    }
    shapes = {
        "deeppyramidion": ("deeppyramidion", 8192, 0),
        "deeppyramidion without dropout": ("deeppyramidion without dropout", 8192, 0),
        "deeppyramidion, 4096 tokens": ("deeppyramidion", 4096, 0),
        "deeppyramidion, 4096 tokens padded to 8192": ("deeppyramidion", 4096, 8192),
        "deep_blockwise": ("deep_blockwise", 8192, 0),
    }
    models = {name: workload.build(given, args.device) for name, given in options.items()}

    batches: dict[str, str] = {}

    def steps(shapes):
        made = {}
        for name, (model, length, padded) in shapes.items():
            step = workload.fitting_step(models[model], documents, length, args.precision, padded_to=padded)
            made[name], batches[name] = step.call, step.batch()
        return made

    # The machine's matrix rate varies by the minute, so it is measured between steps, over as many operations.
    operations = workload.flops(options["deeppyramidion"], documents, 8192, workload.TARGET)
    products, done = measure.products(operations, args.device, args.precision)
    times = measure.alternate({**steps(shapes), "matrix products": products}, args.rounds, args.device)
    # The long one separately, in turns with ours: a run takes as long as two rounds of the others.
    shapes = {"full attention": ("full attention", 8192, 0), "beside it": ("deeppyramidion", 8192, 0)}
    slow = measure.alternate(steps(shapes), max(1, args.rounds // 4), args.device, warm_up=args.device != "cpu")
    rate = measure.peak(args.precision, args.device) or done / times["matrix products"].median
    share = operations / times["deeppyramidion"].median / rate
    bare = operations / times["deeppyramidion without dropout"].median / rate
    rate_name = "machine's matrix-product rate" if args.device == "cpu" else f"GPU's {args.precision} peak"
    times.update(slow)
    least = 0.8 if args.device == "cpu" else 0.35
    rows = [
        *_deep_rows(times),
        row("DeepPyramidion step, share of", "the " + rate_name, share, least),
        row("the same without dropout, share of", "the " + rate_name, bare, None),
    ]
    if args.device != "cpu":
        pooling = _pooling_share(models, steps, args)
        met = measure.reached(pooling, 0.05, least=False)
        rows.append(["pooling's share of a step, at most", "", pooling, 0.05, met])
    found = {**times, "matrix_rate": rate, "operations": operations, "share": share, "share_without_dropout": bare}
    return found, [
        "## Rows\n\n" + measure.table(HEADERS, rows),
        times_table(f"Training step, 6+6 layers of width 768, {workload.TARGET} target tokens", times, batches),
        f"{operations / 1e9:,.0f} GFLOP a step; the {rate_name}: {rate / 1e9:,.0f} GFLOP/s.",
    ]


def _deep_rows(times: dict) -> list:
    """Compare the times of DeepPyramidion's step with those of the others."""
    ours = times["deeppyramidion"].median
    padded = times["deeppyramidion, 4096 tokens padded to 8192"].median
    short = times["deeppyramidion, 4096 tokens"].median
    return [
        row("DeepPyramidion step at 8192", "deep_blockwise", times["deep_blockwise"].median / ours, 2.3),
        row("the same", "full attention", times["full attention"].median / times["beside it"].median, 7),
        row("the same at real length 4,096", "8192 tokens, as the published code computes", ours / short, 1.5),
        row("the same at real length 4,096", "padded to 8192", padded / short, 1.5),
    ]


def _pooling_share(models, steps, args) -> float:
    """Compare the time of a step with that of a step that keeps the same tokens by slicing."""
    model = models["deeppyramidion"]
    kept = [(pooling, pooling.forward) for pooling in model.encoder.poolings.values()]
    call = steps({"": ("deeppyramidion", 8192, 0)})[""]

    def sliced() -> None:
        for pooling, forward in kept:
            pooling.forward = _slice(pooling, forward)
        call()
        for pooling, _ in kept:
            del pooling.forward

    times = measure.alternate({"pooled": call, "sliced": sliced}, args.rounds, args.device)
    return 1 - times["sliced"].median / times["pooled"].median


def _slice(pooling, forward):
    def keep_first(x, padding_mask, attention=None):
        return forward(x[:, : pooling.k], None, attention)

    return keep_first


def depth(args) -> tuple[dict, list[str]]:
    """Measure Figure 4: L encoder and L decoder layers of the shallow models' width."""
    factor, documents = (4, 4) if args.size == "reduced" else (1, 8)
    kinds = {
        "vanilla": ("vanilla", {}),
        "blockwise": ("blockwise", {}),
        "pyramidion": ("pyramidion", {"pooling_schedule": FIGURE_SCHEDULE}),
    }
    times, rows, ratios, batches = {}, [], {}, {}
    for layers in DEPTHS:
        variants = {}
        for name, (arch, changes) in kinds.items():
            options = workload.divided(arch, factor, encoder_layers=layers, decoder_layers=layers, **changes)
            variant, step = f"{name}, {layers} layers", _scaled_step(options, documents, 8192, factor, args)
            variants[variant], batches[variant] = step.call, step.batch()
        measured = measure.alternate(variants, args.rounds, args.device)
        times.update(measured)
        ours = measured[f"pyramidion, {layers} layers"].median
        ratios[layers] = {name: measured[f"{name}, {layers} layers"].median / ours for name in kinds}
        rows.append([layers, ratios[layers]["vanilla"], ratios[layers]["blockwise"]])
    note = (
        "The paper gives no more than this: faster than both from 4 layers on, up to 3.8 times at 16 layers. "
        f"Pyramidion pools after layers 1 and 2 ({FIGURE_SCHEDULE}); lengths and widths are divided by {factor}."
    )
    table = measure.table(["layers", "vanilla / Pyramidion", "blockwise / Pyramidion"], rows)
    text = [f"## Figure 4\n\n{table}\n\n{note}", times_table("Training step", times, batches)]
    return {**times, "ratios": ratios}, text


def _scaled_step(options: dict, documents: int, length: int, factor: int, args) -> workload.Step:
    model = workload.build(options, args.device, workload.VOCABULARY // factor)
    target = workload.TARGET // factor
    return workload.fitting_step(model, documents, length // factor, args.precision, target)


#: The row that the others are compared with.
WHOLE = "vanilla_8k"


def training_column() -> list[tuple[int, str, float]]:
    """Return (row, architecture, published seconds of a step), by row; Table 10 has the rows of Tables 2, 7 and 8."""
    published = {(r["table"], r["row"]): r["train_s"] for r in measure.published() if r["train_s"]}
    keys = [key for key in PUBLISHED if key in published and key[0] in ("2", "7", "8")]
    return sorted((int(key[1]), PUBLISHED[key], float(published[key])) for key in keys)


def published_shares() -> dict[str, float]:
    """Return the published seconds of an architecture's step relative to those of row 3."""
    seconds = {arch: theirs for _, arch, theirs in training_column()}
    return {arch: theirs / seconds[WHOLE] for arch, theirs in seconds.items()}


def published_text(row: int) -> str:
    """Return mean and standard deviation of a row's step as Table 10 has them, or which row it refers to."""
    (found,) = (r for r in measure.published() if r["table"] == "10" and r["row"] == str(row))
    deviation = re.search(r"sd train ([0-9.]+)", found["notes"])
    return f"{found['train_s']} ± {deviation[1]}" if deviation else found["notes"].removeprefix("raw; ")


def tables(args) -> tuple[dict, list[str]]:
    """Measure the training column: our and the published seconds, also relative to row 3 (vanilla, 8k)."""
    factor, documents = (2, 1) if args.size == "reduced" else (1, 64)
    column, shares, steps = training_column(), published_shares(), {}
    for arch in shares:
        options = workload.divided(arch, factor)
        steps[arch] = _scaled_step(options, documents, options["max_source_positions"] * factor, factor, args)
    times = measure.alternate({arch: step.call for arch, step in steps.items()}, args.rounds, args.device)
    whole, rows = times[WHOLE].median, []
    for row, arch, _ in column:
        ours = times[arch]
        rows.append([row, arch, ours.median, ours.about(), steps[arch].batch(), ours.median / whole])
        rows[-1] += [published_text(row), shares[arch]]
    headers = ["row", "architecture", "median s", "mean ± deviation", "documents", "of row 3", "published s"]
    headers.append("of row 3, published")
    note = note_of_the_column(documents, factor)
    return times, ["## Training column of Tables 2, 7, 8 and 10\n\n" + measure.table(headers, rows) + "\n\n" + note]


def tournament_rows() -> list[int]:
    """Return the rows whose models use the tournament: not PoWER, Funnel and those without pooling."""
    options = {row: workload.divided(arch, 1) for row, arch, _ in training_column()}
    default = PyramidionConfig().pooler
    return [row for row, o in options.items() if o["pooling_schedule"] and o.get("pooler", default) == default]


def note_of_the_column(documents: int, factor: int) -> str:
    """Return the description of both sides for the table of the training column."""
    runs: list[list[int]] = []
    for row in tournament_rows():
        if runs and runs[-1][-1] == row - 1:
            runs[-1].append(row)
        else:
            runs.append([row])
    spans = [f"{run[0]} to {run[-1]}" for run in runs]
    return (
        f"{documents} documents; lengths and widths divided by {factor}. Published: batch 64 on a DGX-A100 (Appendix "
        f"D.2; how many of its eight GPUs took part is not said). Rows {', '.join(spans[:-1])} and {spans[-1]} hold a "
        "tournament; the published one reads every representation in each round."
    )


def _draw_depth(axes, times: dict[str, Times]) -> None:
    for name, colour in (("vanilla", "tab:red"), ("blockwise", "tab:blue"), ("pyramidion", "tab:green")):
        seconds = [times[f"{name}, {layers} layers"].median for layers in DEPTHS]
        axes.plot(DEPTHS, seconds, "o-", label=name, color=colour)
    axes.set(title="Figure 4: training step by depth", xlabel="encoder and decoder layers", ylabel="seconds")
    axes.set(yscale="log", xticks=DEPTHS)
    axes.legend()


def _draw_tables(axes, times: dict[str, Times]) -> None:
    """Plot the column as bars relative to row 3, and the published values as marks."""
    names = list(times)[::-1]
    shares = published_shares()
    axes.barh(names, [times[name].median / times[WHOLE].median for name in names], color="tab:green")
    axes.plot([shares[name] for name in names], names, "k|", markersize=9, label="published")
    axes.tick_params(axis="y", labelsize=7)
    axes.set(title="Training step, Tables 2, 7, 8 and 10", xlabel="of full attention's at 8192 tokens")
    axes.legend()


def figure(found: dict[str, Any]):
    """Plot Figure 4 and the training column, if measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn = [(part, draw) for part, draw in (("depth", _draw_depth), ("tables", _draw_tables)) if part in found]
    drawing, grid = pyplot.subplots(1, len(drawn), figsize=(6.5 * len(drawn), 5), squeeze=False, layout="constrained")
    for axes, (part, draw) in zip(grid[0], drawn):
        draw(axes, found[part])
    return drawing


def main() -> None:
    arguments = measure.parser(__doc__, rounds=4)
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="which parts to measure")
    args = measure.parse(arguments)
    found, tables_ = {}, []
    for part in args.parts:
        results, text = {"layer": layer, "deep": deep, "depth": depth, "tables": tables}[part](args)
        found[part], tables_ = results, [*tables_, *text]
    results = {
        part: {k: v._asdict() if isinstance(v, Times) else v for k, v in r.items()} for part, r in found.items()
    }
    name = "training" if args.parts == PARTS else "training_" + "_".join(args.parts)
    draw = {"depth", "tables"} & set(found)
    drawing = measure.draw(lambda: figure(found), args.output) if draw else None
    measure.report(name, args.device, results, tables_, args.output, drawing, args.precision)


if __name__ == "__main__":
    sys.exit(main())
