"""Measure the cost of a summary's explanation relative to generation (goal: at most 1.3 times the time).

    python benchmarks/explain.py --output results/explain

DeepPyramidion with random weights summarises documents of full length with the paper's generation settings, once
without and once with the provenance and the explanation by words. Memory is compared with that of dense k x n matrices
of shares in float32, one for each pooling.

Writes explain.json, explain.md and explain.png to --output and prints the tables. About two minutes on two CPU cores.
"""

from __future__ import annotations

from typing import Any

import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from measure import alternate, parse, parser, peak_memory, report, table
from measure import draw as drawn

from pyramidion_fairseq import LongDocumentSummarizationTask
from pyramidion_fairseq.inference.summarizer import PyramidionHubInterface

WORDS = 32_000
#: (documents, tokens of a summary); untrained models do not stop by themselves, so its length is set.
CASES = [(1, 72), (1, 200), (4, 200)]
SIZES = {
    "paper": {},
    "reduced": {
        **{f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in
           (("layers", 6), ("embed_dim", 256), ("ffn_embed_dim", 1024), ("attention_heads", 8))},
        "max_source_positions": 2048, "pooling_schedule": "2:512,3:128", "block_size": 128,
    },
}  # fmt: skip


def build(size: str, device: str) -> PyramidionHubInterface:
    """Return a summariser with random weights and a dictionary of words."""
    dictionary = Dictionary()
    for number in range(WORDS - len(dictionary)):
        dictionary.add_symbol(f"w{number}")
    flags = ["none", "--task", "long_document_summarization", "--arch", "deeppyramidion"]
    for name, value in SIZES[size].items():
        flags += [f"--{name.replace('_', '-')}", str(value)]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), flags))
    torch.manual_seed(0)
    task = LongDocumentSummarizationTask(cfg.task, dictionary, dictionary)
    hub = PyramidionHubInterface(cfg, task, [task.build_model(cfg.model)])
    return hub.to(device).eval()


def documents_of(count: int, length: int) -> list[str]:
    """Return random words in sentences of twenty."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(WORDS - 4, (count, length), generator=generator).tolist()
    return [" ".join(f"w{word}" + ("\n\n" if n % 20 == 19 else "") for n, word in enumerate(row)) for row in rows]


def measure(hub: PyramidionHubInterface, args: Any) -> list[dict[str, Any]]:
    """Time and memory of each case."""
    source = hub.max_source_length
    steps = [pooling.k for pooling in hub.models[0].encoder.poolings.values()]
    dense = 4 * sum(k * n for k, n in zip(steps, [source, *steps]))
    results = []
    for count, length in CASES:
        documents = documents_of(count, source)
        generation = {"min_len": length, "max_len_b": length, "batch_size": count}
        calls = {
            "summary": lambda d=documents, g=generation: hub.summarize(d, **g),
            "explanation": lambda d=documents, g=generation: hub.explain(d, **g),
        }
        times = alternate(calls, args.rounds, args.device)
        memory = {name: peak_memory(call, args.device) for name, call in calls.items()}
        results.append(
            {
                "documents": count,
                "summary tokens": length,
                **{f"{name} seconds": time.median for name, time in times.items()},
                "ratio": times["explanation"].median / times["summary"].median,
                **{f"{name} bytes": size for name, size in memory.items()},
                "extra bytes": memory["explanation"] - memory["summary"],
                "dense bytes": dense * count,
            }
        )
    return results


def draw(results: list[dict[str, Any]]) -> Any:
    """Measure the seconds of each case, and compare explanations with their limit."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for offset, name, colour in ((-0.2, "summary", "#0072B2"), (0.2, "explanation", "#D55E00")):
        positions = [number + offset for number in range(len(results))]
        axes.bar(positions, [row[f"{name} seconds"] for row in results], 0.4, label=name, color=colour)
    for number, row in enumerate(results):
        limit = 1.3 * row["summary seconds"]
        axes.hlines(limit, number - 0.4, number + 0.4, "black", ":", label=None if number else "1.3 x summary")
        axes.text(number + 0.2, row["explanation seconds"], f"{row['ratio']:.2f}", ha="center", va="bottom")
    labels = ["{documents} x {summary tokens} tokens".format(**row) for row in results]
    axes.set_xticks(range(len(results)), labels)
    axes.set(ylabel="seconds", title="Summaries with and without their explanation")
    axes.legend(frameon=False)
    return figure


def main() -> None:
    """Print the table."""
    args = parse(parser(__doc__, rounds=5, precisions=()))
    hub = build(args.size, args.device)
    results = measure(hub, args)
    headers = ["documents", "summary tokens", "summary, s", "explained, s", "ratio", "extra peak, MB", "dense, MB"]
    names = ("documents", "summary tokens", "summary seconds", "explanation seconds", "ratio")
    rows = [
        [*(row[name] for name in names), *(row[name] / 1e6 for name in ("extra bytes", "dense bytes"))]
        for row in results
    ]
    about = f"documents of {hub.max_source_length} tokens, schedule {hub.models[0].encoder.schedule}"
    tables = [f"DeepPyramidion ({args.size}), {about}\n\n{table(headers, rows)}"]
    report("explain", args.device, results, tables, args.output, drawn(lambda: draw(results), args.output))


if __name__ == "__main__":
    main()
