"""Measure memory per rank, time per step and bytes sent of sequence parallelism, compared with ring attention's bytes.

A training step of the encoder (forward and backward) runs on 1, 2 and 4 ranks: processes with gloo on this machine's
CPU, or with NCCL on one GPU each (``torchrun`` is not needed). On a CPU, the ranks share its cores, so that only
memory and bytes show how it scales, not time. Widths are those of ``long_documents.py``, without dropout. Ranks
process their parts whole, with ``--checkpoint-activations``, or in chunks, where a million tokens on four ranks fit
into 10 GB together.
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import Any

import measure
import torch
import workload
from very_long import Benchmark, Measured, narrow_model

from pyramidion_fairseq.parallel import bytes_of_ring_attention, sequence_group

RANKS = [1, 2, 4]
#: Tokens that the layers before the first pooling process at a time; 0: the rank's whole shard.
WAYS = {"whole parts": 0, "chunks of 8,192": 8192}
#: Layers before the first pooling, and their width.
LAYERS, WIDTHS = 2, {"reduced": 64, "paper": 768}


def measure_one(args: Any, length: int, ranks: int, chunk: int = 0) -> dict[str, float]:
    """Return this rank's peak memory above model and gradients, its seconds and its bytes sent, for one step."""
    device = args.device if args.device == "cpu" else f"cuda:{os.environ['RANK']}"
    if device != "cpu":
        torch.cuda.set_device(device)  # kernels are launched on it, and its memory is read
    dropout = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)
    model = narrow_model(device, args.size, length, checkpoint_activations=not chunk, **dropout)
    model.encoder.read_in_chunks(chunk)
    net_input = workload.batch(model, 1, length, 8)
    if ranks > 1:
        torch.distributed.init_process_group("gloo" if args.device == "cpu" else "nccl")
        model.encoder.spread_documents(sequence_group(ranks))

    def step() -> None:
        with measure.autocast(args.device, args.precision):
            out = model.encoder(net_input["src_tokens"], document_lengths=net_input["document_lengths"])
        out["encoder_out"][0].float().square().sum().backward()

    step()
    sent = dict(model.encoder.sequence_group.sent) if ranks > 1 else {}
    peak = measure.peak_memory(step, device)
    seconds = measure.alternate({"step": step}, args.rounds, device, warm_up=False)["step"].median
    if ranks > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return {"bytes": peak, "seconds": seconds, "sent": sum(sent.values())}


def run(measured: Measured) -> tuple[dict[str, Any], list[str]]:
    """Measure all documents, the shortest first; return results and tables."""
    if measured.args.device != "cpu" and torch.cuda.device_count() < max(RANKS):
        there = torch.cuda.device_count()
        raise SystemExit(f"error: {max(RANKS)} ranks need a GPU each, {there} there: use --device cpu")
    found: dict[str, Any] = {}
    rows = []
    width = WIDTHS[measured.args.size]
    for length, (way, chunk) in itertools.product(measured.lengths, WAYS.items()):
        alone = 0.0
        for ranks in RANKS:
            name = f"{length:,} tokens, {way}, ranks: {ranks}"
            cells = found[name] = measured.get(name, ranks, length=length, ranks=ranks, chunk=chunk)
            peak, seconds, sent = (max(cell[what] for cell in cells) for what in ("bytes", "seconds", "sent"))
            alone = alone or peak
            ring = 3 * LAYERS * bytes_of_ring_attention(length, width, ranks)
            rows.append([f"{length:,}", way, ranks, peak / 2**20, alone / peak, seconds, sent / 2**20, ring / 2**20])
    headers = [
        "tokens",
        "read",
        "ranks",
        "MiB of a rank",
        "one rank's over it",
        "s",
        "MiB sent",
        "MiB of ring attention",
    ]
    return found, [measure.table(headers, rows)]


BENCHMARK = Benchmark("sequence_parallel", __doc__, measure_one, [2**16, 2**18, 2**20])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main(run))
