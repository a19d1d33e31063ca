"""Measure the cost of a pointer per step of generation: DeepPyramidion with and without it.

    python benchmarks/pointer.py --output benchmarks/results/pointer_step_cpu

Both generate a fixed number of tokens with fairseq's own ``SequenceGenerator``, from the same random states of full
documents and with random weights. Encoding is not included. The goal is at most 1.1 times the time.
"""

from __future__ import annotations

from typing import Any

import generation
import measure
import torch

from pyramidion_fairseq.functional import CopySource
from pyramidion_fairseq.generation.encoder_output import COPY_SOURCE

ARCHITECTURES = ["deeppyramidion", "deeppyramidion_pointer"]
GOAL = 1.1


def copy_source(documents: int, tokens: int, vectors: int, device: str) -> CopySource:
    """Return random documents whose tokens are distributed evenly over the vectors, with equal weights."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(4, generation.VOCABULARY, (documents, tokens), generator=generator)
    slots = torch.randperm(tokens, generator=generator).remainder(vectors).expand(documents, -1)
    weights = torch.full((documents, tokens), vectors / tokens)
    return CopySource(*(part.to(device) for part in (ids, slots, weights)))


def call_of(arch: str, size: generation.Size, device: str, precision: str) -> Any:
    """Return a call that writes the batch's summaries."""
    model = generation.build(arch, device, measure.PRECISIONS[precision])
    vectors = generation.decoder_states(arch)
    out = generation.encoder_output(model, size.documents, vectors)
    if model.decoder.pointer is not None:
        out[COPY_SOURCE] = list(copy_source(size.documents, model.encoder.max_source_positions, vectors, device))
    return generation.generator(model, out, size, stock=False)


def main() -> None:
    """Run the command line; see the file's docstring."""
    arguments = measure.parser(__doc__, rounds=7)
    arguments.add_argument("--documents", type=int, default=8, help="in a batch (the paper: 8)")
    arguments.add_argument("--tokens", type=int, default=32, help="to write")
    arguments.add_argument("--beam", type=int, default=2, help="hypotheses of each document")
    args = measure.parse(arguments)
    size = generation.Size(args.documents, args.tokens, args.beam)
    if min(size) < 1:
        arguments.error("--documents, --tokens and --beam must be at least 1")
    generation.check_lengths(arguments, ARCHITECTURES, size.tokens)
    calls = {arch: call_of(arch, size, args.device, args.precision) for arch in ARCHITECTURES}
    times = measure.alternate(calls, args.rounds, args.device)
    plain, pointer = (times[arch] for arch in ARCHITECTURES)
    rows = [
        [arch, 1e3 * t.median / size.tokens, 1e3 * t.minimum / size.tokens, t.about()] for arch, t in times.items()
    ]
    ratio = pointer.median / plain.median
    rows.append(["pointer / plain", ratio, pointer.minimum / plain.minimum, None])
    met = {"yes": "reached", "no": "missed"}.get(measure.reached(ratio, GOAL, least=False), "not measured")
    tables = [
        f"{size.documents} documents, beam {size.beam}, {size.tokens} tokens. Goal: at most {GOAL} times the time, "
        f"{met}.\n\n" + measure.table(["model", "ms/step, median", "ms/step, minimum", "s, mean ± deviation"], rows)
    ]
    results = {"size": size._asdict(), "seconds": {arch: t._asdict() for arch, t in times.items()}}
    measure.report("pointer", args.device, results, tables, args.output, precision=args.precision)


if __name__ == "__main__":
    main()
