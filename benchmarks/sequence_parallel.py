"""Memory of each rank that shares one document, the time of a step, and what is sent, beside ring attention's bytes.

A training step of the encoder (forward and backward) on 1, 2 and 4 ranks: processes with gloo on this machine's CPU,
or one GPU each with NCCL (``torchrun`` is not needed). On one CPU the ranks share its cores: time says nothing about
scaling there, memory and bytes do. Widths as in ``long_documents.py``; every layer is kept for the backward pass.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import measure
import torch
import workload
from long_documents import narrow_model

from pyramidion_fairseq.parallel import bytes_of_ring_attention, sequence_group

LENGTHS = [2**16, 2**18, 2**20]
RANKS = [1, 2, 4]


def measure_rank(args, length: int, size: int) -> dict[str, float]:
    """Return this rank's most bytes alive above the model and its gradients, seconds and bytes sent, of one step."""
    rank = int(os.environ["RANK"])
    device = args.device if args.device == "cpu" else f"cuda:{rank}"
    model = narrow_model(device, args.size, length)
    net_input = workload.batch(model, 1, length, 8)
    if size > 1:
        torch.distributed.init_process_group("gloo" if args.device == "cpu" else "nccl")
        model.encoder.spread_documents(sequence_group(size))

    def step() -> None:
        with measure.autocast(args.device, args.precision):
            out = model.encoder(net_input["src_tokens"], document_lengths=net_input["document_lengths"])
        out["encoder_out"][0].float().square().sum().backward()

    step()
    sent = dict(model.encoder.sequence_group.sent) if size > 1 else {}
    peak = measure.peak_memory(step, device)
    seconds = measure.alternate({"step": step}, args.rounds, device, warm_up=False)["step"].median
    if size > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return {"bytes": peak, "seconds": seconds, "sent": sum(sent.values())}


def on_ranks(args, length: int, size: int) -> list[dict[str, float]]:
    """Return what :func:`measure_rank` returns on each of so many new processes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    words = ["--device", args.device, "--size", args.size, "--rounds", args.rounds, "--precision", args.precision]
    command = [sys.executable, str(Path(__file__).resolve()), *words, "--one", length, "--ranks", size]
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    processes = [
        subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env={**common, "RANK": str(rank)})
        for rank in range(size)
    ]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{size} ranks with {length:,} tokens failed: {[p.returncode for p in processes]}")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def run(args) -> tuple[dict[str, Any], list[str]]:
    """Measure all; returns results and tables."""
    found: dict[str, Any] = {}
    rows = []
    width, layers = (64, 2) if args.size == "reduced" else (768, 2)
    for length in (length for length in LENGTHS if length <= args.longest):
        for size in RANKS:
            ranks = found[f"{length} on {size}"] = on_ranks(args, length, size)
            peak = max(rank["bytes"] for rank in ranks)
            alone = found[f"{length} on 1"][0]["bytes"]
            ring = 3 * layers * bytes_of_ring_attention(length, width, size)
            sent = max(rank["sent"] for rank in ranks)
            seconds = max(rank["seconds"] for rank in ranks)
            rows.append([f"{length:,}", size, peak / 2**20, alone / peak, seconds, sent / 2**20, ring / 2**20])
    headers = ["tokens", "ranks", "MiB of a rank", "one rank's over it", "s", "MiB sent", "MiB of ring attention"]
    return found, [measure.table(headers, rows)]


def main() -> None:
    parser = measure.parser(__doc__, rounds=1)
    parser.add_argument("--longest", type=int, default=LENGTHS[-1], help="longest document, in tokens")
    parser.add_argument("--one", type=int, help="measure one length as one rank, and print it as JSON")
    parser.add_argument("--ranks", type=int, default=1, help="ranks that share the document, with --one")
    args = measure.parse(parser)
    if args.one:
        sys.stdout.write(json.dumps(measure_rank(args, args.one, args.ranks)) + "\n")
        return
    results, tables = run(args)
    measure.report("sequence_parallel", args.device, results, tables, args.output, None, args.precision)


if __name__ == "__main__":
    sys.exit(main())
