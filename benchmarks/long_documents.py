"""Time and memory of encoding one very long document on one device, whole and in chunks, and how both grow.

The encoder without gradients, as in generation; every length is measured in a process of its own. On a CPU with every
width divided by 12 (64 instead of 768, one head, a vocabulary of 2,000), as ``memory.py`` has it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import measure
import torch
import workload
from memory import exponent

LENGTHS = [2**power for power in range(13, 21)]
#: Tokens that the layers before the first pooling read at a time.
CHUNK = 8192
WAYS = {"whole": 0, f"chunks of {CHUNK:,}": CHUNK}


def narrow_model(device: str, size: str, length: int, **changes: Any) -> Any:
    """Return DeepPyramidion for documents of ``length`` tokens: narrow at the reduced size."""
    options = {**workload.divided("deeppyramidion", 1), "max_source_positions": length, **changes}
    if size == "reduced":
        for side in ("encoder_", "decoder_"):
            options.update({side + "embed_dim": 64, side + "ffn_embed_dim": 256, side + "attention_heads": 1})
    return workload.build(options, device, 2000 if size == "reduced" else workload.VOCABULARY)


def measure_one(args, length: int, chunk: int) -> dict[str, float]:
    """Return seconds and the most bytes alive above the model, of one document in this process."""
    model = narrow_model(args.device, args.size, length).eval()
    model.encoder.read_in_chunks(chunk)
    net_input = workload.batch(model, 1, length, 8)

    def encode() -> None:
        with torch.no_grad(), measure.autocast(args.device, args.precision):
            model.encoder(net_input["src_tokens"], document_lengths=net_input["document_lengths"])

    seconds = measure.alternate({"encode": encode}, args.rounds, args.device)["encode"].median
    return {"seconds": seconds, "bytes": measure.peak_memory(encode, args.device)}


def in_its_own_process(args, length: int, chunk: int) -> dict[str, float]:
    """Return what :func:`measure_one` returns in a new process."""
    words = ["--device", args.device, "--size", args.size, "--rounds", args.rounds, "--precision", args.precision]
    command = [sys.executable, str(Path(__file__).resolve()), *words, "--one", length, "--chunk", chunk]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(args) -> tuple[dict[str, Any], list[str]]:
    """Measure all; returns results and tables."""
    lengths = [length for length in LENGTHS if length <= args.longest]
    found = {
        way: {length: in_its_own_process(args, length, chunk) for length in lengths} for way, chunk in WAYS.items()
    }
    rows = []
    for way, cells in found.items():
        for what, unit in (("seconds", 1), ("bytes", 2**20)):
            costs = [cell[what] / unit for cell in cells.values()]
            label = "seconds" if what == "seconds" else "MiB above the model"
            rows.append([way, label, *costs, exponent(lengths, costs) if len(costs) > 1 else None])
    return found, [measure.table(["encoder reads", "cost", *(f"{n:,}" for n in lengths), "exponent"], rows)]


def main() -> None:
    parser = measure.parser(__doc__, rounds=1)
    parser.add_argument("--longest", type=int, default=LENGTHS[-1], help="longest document, in tokens")
    parser.add_argument("--one", type=int, help="measure one length in this process, and print it as JSON")
    parser.add_argument("--chunk", type=int, default=0, help="tokens of a chunk, with --one; 0: the whole document")
    args = measure.parse(parser)
    if args.one:
        sys.stdout.write(json.dumps(measure_one(args, args.one, args.chunk)) + "\n")
        return
    results, tables = run(args)
    measure.report("long_documents", args.device, results, tables, args.output, None, args.precision)


if __name__ == "__main__":
    sys.exit(main())
