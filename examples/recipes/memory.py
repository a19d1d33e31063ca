"""How many documents fit on a GPU, by calculation: nothing here was measured on one.

usage: python examples/recipes/memory.py [ARCH ...]      documents and tokens a batch on 40 and 80 GB, by precision

Memory of a training step = what belongs to the parameters (weights, gradients, Adam's two moments) + what the forward
pass keeps of every document. The latter is the number of elements that linear layers and attention weights write
(:mod:`pyramidion_fairseq.complexity`, full lengths), times KEPT for what dropout, normalisation, softmax and the loss
keep beside them.
"""

from __future__ import annotations

import functools
import sys
from typing import NamedTuple

from pyramidion_fairseq.complexity import build_on_meta, count
from pyramidion_fairseq.models.architectures import ARCHITECTURES, PUBLISHED

#: Bytes alive at the peak of a training step on a CPU (benchmarks/measure.py: peak_memory), without those of the
#: parameters, over 4 bytes for each counted element: 2.56 to 2.73 for rows 2, 4, 6, 8 and 20 at full size, float32.
KEPT = 2.75
#: Share of a GPU's memory that a batch may fill: CUDA itself, NCCL and fragmentation take some.
USABLE = 0.85


class Precision(NamedTuple):
    """Bytes that training keeps."""

    element: int
    """For each element of an activation."""
    parameter: int
    """For each parameter, with gradient, Adam's moments, the buckets of data-parallel training, float32 copies."""


PRECISIONS = {
    **dict.fromkeys(("full", "float32", "tf32"), Precision(4, 20)),
    **dict.fromkeys(("fp16", "bf16"), Precision(2, 24)),
}


class Need(NamedTuple):
    """Bytes of a training step."""

    fixed: int
    document: int


def need(arch: str, precision: str = "full", target: int = 1024) -> Need:
    """Return bytes of a training step with documents of the architecture's full length.

    Args:
        arch: a named architecture.
        precision: a key of PRECISIONS.
        target: tokens of a summary.
    """
    size, (parameters, elements) = PRECISIONS[precision], counts(arch, target)
    return Need(parameters * size.parameter, int(KEPT * elements * size.element))


@functools.cache
def counts(arch: str, target: int) -> tuple[int, int]:
    """Return how many parameters the architecture has, and how many elements it writes for a document."""
    model = build_on_meta(arch)
    cost = count(model, model.max_positions()[0], target)
    return sum(p.numel() for p in model.parameters()), cost.encoder_activations + cost.decoder_activations


def documents(arch: str, gigabytes: int, precision: str = "full", most: int = 256) -> int:
    """Return the largest power of two of documents that fits, at least 1 and at most ``most``."""
    fixed, each = need(arch, precision)
    fit, batch = (USABLE * gigabytes * 2**30 - fixed) / each, 1
    while 2 * batch <= min(fit, most):
        batch *= 2
    return batch


def table(archs: list[str]) -> str:
    """Return markdown: GiB a document, and documents and source tokens a batch."""
    lines = ["| `--arch` | tokens | GiB a document | 40 GB | 80 GB | bf16: GiB | 40 GB | 80 GB |", "|---" * 8 + "|"]
    for arch in archs:
        length, cells = build_on_meta(arch).max_positions()[0], []
        for precision in ("full", "bf16"):
            cells.append(f"{need(arch, precision).document / 2**30:.2f}")
            for gigabytes in (40, 80):
                batch = documents(arch, gigabytes, precision)
                cells.append(f"{batch} ({batch * length:,})")
        lines.append(f"| `{arch}` | {length:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    wanted = sys.argv[1:] or list(dict.fromkeys(PUBLISHED.values()))
    unknown = [arch for arch in wanted if arch not in ARCHITECTURES]
    if unknown:
        sys.exit(f"error: unknown: {', '.join(unknown)}; there are: {', '.join(ARCHITECTURES)}")
    print(table(wanted))
