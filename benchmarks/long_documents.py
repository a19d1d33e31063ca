"""Measure time and memory of encoding one very long document on one device, whole and in chunks, by length.

The encoder runs without gradients, as in generation, and each length in a separate process. On a CPU, all widths are
divided by 12 (64 instead of 768, one head, a vocabulary of 2,000), as in ``memory.py``. In chunks, block-wise
attention keeps only scores at full length; LSG's layers process one chunk after the other, and keep their states.
"""

from __future__ import annotations

import sys
from typing import Any

import measure
import torch
import workload
from memory import exponent
from very_long import LENGTHS, Benchmark, Measured, narrow_model

#: Tokens that a layer processes at a time.
CHUNK = 8192
WAYS = {
    "blockwise, whole": {},
    f"blockwise, chunks of {CHUNK:,}": {"chunk": CHUNK},
    "lsg, whole": {"attention": "lsg"},
    f"lsg, chunks of {CHUNK:,}": {"attention": "lsg", "chunk": CHUNK},
}


def measure_one(args: Any, length: int, chunk: int = 0, attention: str = "blockwise") -> dict[str, float]:
    """Return the seconds and the peak memory in bytes above the model for one document, in this process."""
    model = narrow_model(args.device, args.size, length, attention=attention).eval()
    model.encoder.read_in_chunks(chunk)
    net_input = workload.batch(model, 1, length, 8)

    def encode() -> None:
        with torch.no_grad(), measure.autocast(args.device, args.precision):
            model.encoder(net_input["src_tokens"], document_lengths=net_input["document_lengths"])

    seconds = measure.alternate({"encode": encode}, args.rounds, args.device)["encode"].median
    return {"seconds": seconds, "bytes": measure.peak_memory(encode, args.device)}


def run(measured: Measured) -> tuple[dict[str, Any], list[str]]:
    """Measure all documents, the shortest first; return results and tables."""
    found: dict[str, dict[int, dict[str, float]]] = {way: {} for way in WAYS}
    for length in measured.lengths:
        for way, given in WAYS.items():
            (found[way][length],) = measured.get(f"{length:,} tokens, {way}", length=length, **given)
    rows = []
    for way, cells in found.items():
        for what, label, unit in (("seconds", "seconds", 1), ("bytes", "MiB above the model", 2**20)):
            costs = [cell[what] / unit for cell in cells.values()]
            growth = exponent(list(cells), costs) if len(costs) > 1 else None
            rows.append([way, label, *costs, growth])
    headers = ["encoder reads", "cost", *(f"{length:,}" for length in measured.lengths), "exponent"]
    return found, [measure.table(headers, rows)]


BENCHMARK = Benchmark("long_documents", __doc__, measure_one, LENGTHS)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main(run))
