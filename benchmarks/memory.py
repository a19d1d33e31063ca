"""Measure peak memory of training and of encoding, and their growth, by architecture and length up to 65,536 tokens.

Models have the paper's width on a GPU. On a CPU, all widths are divided by 12 (64 instead of 768, one head, a
vocabulary of 2,000): memory and time grow with the length as at full width, but attention has a larger share.
"Encoding" is the encoder without gradients, as in generation.
"""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

import measure
import torch
import workload
from out_of_memory import attempt

LENGTHS = [4096, 8192, 16384, 32768, 65536]
#: Full attention is left out where it takes minutes.
ARCHITECTURES = {
    "deeppyramidion": ("deeppyramidion", 65536),
    "deeppyramidion, checkpointed": ("deeppyramidion", 65536),
    "deep_blockwise": ("deep_blockwise", 65536),
    "full attention": ("deep_blockwise", 16384),
}
CHANGES = {"deeppyramidion, checkpointed": {"checkpoint_activations": True}, "full attention": {"attention": "full"}}
#: What the encoder of deeppyramidion may grow with, in time and in memory, as an exponent of the length.
EXPONENT = 1.05


def models(args) -> tuple[dict[str, Any], int]:
    """Return the models, and their vocabulary."""
    built = {}
    vocabulary = 2000 if args.size == "reduced" else workload.VOCABULARY
    for name, (arch, _) in ARCHITECTURES.items():
        options = {**workload.divided(arch, 1, **CHANGES.get(name, {})), "max_source_positions": max(LENGTHS)}
        if args.size == "reduced":
            for side in ("encoder_", "decoder_"):
                options.update({side + "embed_dim": 64, side + "ffn_embed_dim": 256, side + "attention_heads": 1})
        built[name] = workload.build(options, args.device, vocabulary)
    return built, vocabulary


def encoding(model, net_input, precision: str):
    """Return a call of the encoder without gradients."""
    device = net_input["src_tokens"].device.type

    def encode() -> None:
        with torch.no_grad(), measure.autocast(device, precision):
            model.eval().encoder(net_input["src_tokens"], document_lengths=net_input["document_lengths"])
        model.train()

    return encode


def peak_or_failure(call, device: str) -> float | str:
    """Return the peak memory of a call in bytes, or why it failed."""
    peak, failure = attempt(functools.partial(measure.peak_memory_of, call, device))
    return failure or peak


def number(peak: float | str) -> float:
    """Return a peak as a number, NaN if out of memory."""
    return math.nan if isinstance(peak, str) else peak


def exponent(lengths: list[int], costs: list[float]) -> float:
    """Return the least-squares slope of log(cost) over log(length)."""
    x, y = [math.log(n) for n in lengths], [math.log(c) for c in costs]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y)) / sum((a - mean_x) ** 2 for a in x)


def run(args) -> tuple[dict[str, Any], list[str]]:
    """Measure everything; return results and tables."""
    built, _ = models(args)
    found: dict[str, Any] = {name: {} for name in built}
    for name, model in built.items():
        for length in LENGTHS:
            if length > ARCHITECTURES[name][1]:
                continue
            net_input = workload.batch(model, 1, length, workload.TARGET)
            step = workload.training_step(model, net_input, args.precision)
            encode = encoding(model, net_input, args.precision)
            _, failure = attempt(step)  # gradients are part of the model, not of the peak
            found[name][length] = {
                "training": failure or peak_or_failure(step, args.device),
                "encoding": peak_or_failure(encode, args.device),
            }
            model.zero_grad(set_to_none=True)  # for the memory of the next one
    encoder = built["deeppyramidion"]
    inputs = {length: workload.batch(encoder, 1, length, 8) for length in LENGTHS}
    calls = {f"{n}, encoding": encoding(encoder, net_input, args.precision) for n, net_input in inputs.items()}
    for n, net_input in inputs.items():
        calls[f"{n}, with gradients"] = _with_gradients(encoder, net_input, args.precision)
    times = measure.alternate(calls, args.rounds, args.device)
    width = encoder.encoder.embed_tokens.embedding_dim
    return {"peaks": found, "times": times}, [_peaks(found, width), _growth(found, times)]


def _with_gradients(model, net_input, precision: str):
    device = net_input["src_tokens"].device.type

    def call() -> None:
        model.zero_grad(set_to_none=True)
        with measure.autocast(device, precision):
            out = model.encoder(net_input["src_tokens"], document_lengths=net_input["document_lengths"])
        out["encoder_out"][0].float().square().sum().backward()

    return call


def _peaks(found, width: int) -> str:
    rows = []
    for name, peaks in found.items():
        for kind in ("training", "encoding"):
            cells = [peaks.get(n, {kind: None})[kind] for n in LENGTHS]
            mebibytes = [cell / 2**20 if isinstance(cell, (int, float)) else cell for cell in cells]
            rows.append([name, "training step" if kind == "training" else kind, *mebibytes])
    table = measure.table(["architecture", "what", *(f"{n:,}" for n in LENGTHS)], rows)
    layer = LENGTHS[-1] * width * 4 / 2**20
    note = f"One document; one state of {LENGTHS[-1]:,} tokens and width {width} is {layer:,.0f} MiB in float32."
    return f"## Peak memory in MiB, above the model and its gradients\n\n{table}\n\n{note}"


def _growth(found, times) -> str:
    encoder = found["deeppyramidion"]
    rows = []
    for what, costs in (
        ("time, encoding", [times[f"{n}, encoding"].median for n in LENGTHS]),
        ("time, forward + backward", [times[f"{n}, with gradients"].median for n in LENGTHS]),
        ("memory, encoding", [number(encoder[n]["encoding"]) for n in LENGTHS]),
        ("memory, training step", [number(encoder[n]["training"]) for n in LENGTHS]),
    ):
        slope = exponent(LENGTHS, costs)
        rows.append([what, *(float(c) for c in costs), slope, EXPONENT, measure.reached(slope, EXPONENT, False)])
    headers = ["cost (s or bytes)", *(f"{n:,}" for n in LENGTHS), "exponent", "at most", "reached"]
    return "## DeepPyramidion's encoder as documents grow\n\n" + measure.table(headers, rows)


def figure(found: dict[str, Any]):
    """Plot the peak memory over the length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(1, 2, figsize=(12, 4.5), sharey=True)
    for name, peaks in found["peaks"].items():
        for axis, kind in zip(axes, ("training", "encoding")):
            axis.plot(list(peaks), [number(peak[kind]) / 2**20 for peak in peaks.values()], "o-", label=name)
            axis.set(title=kind, xlabel="tokens", ylabel="peak MiB", xscale="log", yscale="log")
            axis.set_xticks(LENGTHS, [f"{n:,}" for n in LENGTHS])
            axis.minorticks_off()
    axes[0].legend()
    return drawing


def main() -> None:
    args = measure.parse(measure.parser(__doc__, rounds=3))
    results, tables = run(args)
    drawing = measure.draw(lambda: figure(results), args.output)
    measure.report("memory", args.device, results, tables, args.output, drawing, args.precision)


if __name__ == "__main__":
    sys.exit(main())
