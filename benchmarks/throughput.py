"""Measure documents per second of fairseq-generate as a whole, and the time of its stages.

    python benchmarks/throughput.py --output benchmarks/results/throughput_cpu

Each variant runs the command of docs/training.md, step 3, in a new process. Start-up, reading the checkpoint and the
data, encoding, decoding, sentencepiece and printing are included. Checkpoints have full size and random weights. The
documents of the synthetic corpus are as long as PubMed's (median 5,014 tokens, 10.7% longer than 8192), and all
summaries have the same length. "Other" is the time outside of all stages, mostly fairseq's own bookkeeping.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import pipeline
from out_of_memory import attempt

ROOT = measure.HERE.parent
#: Name -> architecture, flags. Fairseq's caches: what stock fairseq does with document and summaries at every step.
VARIANTS = {
    "deeppyramidion": ("deeppyramidion", []),
    "deeppyramidion, fairseq's caches": ("deeppyramidion", ["--plain-generation"]),
    "deep_blockwise": ("deep_blockwise", []),
    "deep_blockwise, fairseq's caches": ("deep_blockwise", ["--plain-generation"]),
}
STAGES = [*pipeline.STAGES, "other"]
#: Precisions of fairseq-generate, which has no bf16.
PRECISIONS = ["float32", "tf32", "fp16"]


def command(folder: Path, variant: str, args) -> list[str]:
    """Return fairseq-generate's arguments."""
    arch, flags = VARIANTS[variant]
    lengths = ["--min-len", args.tokens - 1, "--max-len-b", args.tokens - 1]
    search = ["--batch-size", args.batch_size, "--beam", args.beam, "--lenpen", 1, *lengths]
    words = ["--bpe", "sentencepiece", "--sentencepiece-model", folder / "sentencepiece.model"]
    where = ["--user-dir", ROOT / "pyramidion_fairseq", "--task", "long_document_summarization"]
    where += ["--path", folder / f"{arch}.pt", "--gen-subset", "test", *(["--cpu"] if args.device == "cpu" else [])]
    where += ["--fp16"] if args.precision == "fp16" else []
    return [str(word) for word in (folder, *where, *search, *words, *flags)]


def run(folder: Path, variant: str, args) -> dict[str, float]:
    """Return the seconds of each stage, their total ("seconds"), and the number of documents written.

    Raises:
        RuntimeError: it had not enough memory; other failures end the benchmark.
    """
    clock = folder / "stages.json"
    clock.unlink(missing_ok=True)
    child = [sys.executable, str(measure.HERE / "pipeline.py"), str(clock), args.device]
    start = time.time()
    environment = {**os.environ, **({"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"} if args.precision == "tf32" else {})}
    line = [*child, *command(folder, variant, args)]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=environment)
    seconds = time.time() - start
    if done.returncode == -signal.SIGKILL:
        raise RuntimeError("out of memory: the system ended the process")
    if done.returncode:
        lines = (done.stderr.strip() or "no output").splitlines()
        if full := [line for line in lines if "out of memory" in line]:
            raise RuntimeError(full[-1])
        sys.exit(f"fairseq-generate failed for {variant}: {lines[-1]}")
    found = json.loads(clock.read_text(encoding="utf-8"))
    stages = {"start-up": found["started"] - start, **found["stages"]}
    stages["other"] = seconds - sum(stages.values())
    written = sum(line.startswith("D-") for line in done.stdout.splitlines())
    return {**{stage: stages.get(stage, 0.0) for stage in STAGES}, "seconds": seconds, "documents": written}


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Return the medians of a variant's runs."""
    middle = {stage: measure.summarize([run[stage] for run in runs]).median for stage in STAGES}
    whole = measure.summarize([run["seconds"] for run in runs])
    return {"stages": middle, "seconds": whole._asdict(), "documents": runs[0]["documents"]}


def tables(results: dict[str, Any], tokens: int) -> list[str]:
    """Plot the rates and the stages side by side."""
    slowest = max(result["seconds"]["median"] for result in results.values())
    rates, stages = [], []
    for name, result in results.items():
        seconds, documents = result["seconds"]["median"], result["documents"]
        spread = f"{result['seconds']['spread']:.1%}"
        rates.append([name, documents, seconds, spread, documents / seconds, documents * tokens / seconds])
        rates[-1].append(slowest / seconds)
        shares = [f"{result['stages'][stage]:.3g} ({result['stages'][stage] / seconds:.0%})" for stage in STAGES]
        stages.append([name, *shares])
    headers = ["variant", "documents", "s in all", "spread", "documents/s", "tokens written/s", "against the slowest"]
    return [
        "## Rate\n\n" + measure.table(headers, rates),
        "## Seconds, and share of all\n\n" + measure.table(["variant", *STAGES], stages),
    ]


def figure(results: dict[str, Any]):
    """Plot the stages as stacked bars, one per variant."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawing, axes = pyplot.subplots(figsize=(9, 0.6 * len(results) + 1.5))
    names = list(results)[::-1]
    left = [0.0] * len(names)
    for stage in STAGES:
        widths = [results[name]["stages"][stage] for name in names]
        axes.barh(names, widths, left=left, label=stage)
        left = [a + b for a, b in zip(left, widths)]
    axes.set_xlabel("seconds")
    axes.legend(fontsize=7)
    return drawing


def main() -> None:
    """Run the command line; see the file's docstring."""
    arguments = measure.parser(__doc__, rounds=2, precisions=PRECISIONS)
    arguments.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="variants to run")
    arguments.add_argument("--documents", type=int, help="documents in the corpus (default: 8 reduced, 256)")
    arguments.add_argument("--batch-size", type=int, help="documents in a batch (default: 4 reduced, 8)")
    arguments.add_argument("--tokens", type=int, help="tokens of each summary (default: 32 reduced, 512)")
    arguments.add_argument("--beam", type=int, default=2, help="hypotheses of each document")
    args = measure.parse(arguments)
    reduced = args.size == "reduced"
    for option, defaults in {"documents": (256, 8), "batch_size": (8, 4), "tokens": (512, 32)}.items():
        if getattr(args, option) is None:
            setattr(args, option, defaults[reduced])
    if min(args.documents, args.batch_size, args.beam) < 1 or args.tokens < 2:
        arguments.error("--documents, --batch-size and --beam must be at least 1, --tokens at least 2")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in args.variants}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pipeline.write_corpus(folder, args.documents, args.tokens)
        for arch in sorted({VARIANTS[variant][0] for variant in args.variants}):
            pipeline.write_checkpoint(folder, arch)
        for _ in range(args.rounds):
            for variant in [variant for variant in runs if variant not in failures]:
                done, failure = attempt(functools.partial(run, folder, variant, args))
                if failure:
                    failures[variant] = failure
                else:
                    runs[variant].append(done)
    results = {name: summary(done) for name, done in runs.items() if name not in failures}
    lost = {name: found["documents"] for name, found in results.items() if found["documents"] != args.documents}
    if lost:
        sys.exit(f"of {args.documents} documents, fewer summaries were written: {lost}")
    drawing = measure.draw(lambda: figure(results), args.output) if results else None
    text = tables(results, args.tokens) if results else []
    if failures:
        text.append(
            "## Not measured\n\n" + measure.table(["variant", "why"], [list(pair) for pair in failures.items()])
        )
    measure.report("throughput", args.device, results, text, args.output, drawing, args.precision)


if __name__ == "__main__":
    main()
