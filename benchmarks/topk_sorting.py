"""Measure the cost and benefit of sorting (Appendix B.5) with the paper's quality measure and grid: a part of topk.py.

The scores of Figure 6 are already sorted, in the authors' code and here, so that pairing by position equals pairing by
score, and sorting has no effect. This part has scores in random order.
"""

from __future__ import annotations

from typing import Any

import measure
import torch
from torch import Tensor

from pyramidion_fairseq.functional import hard_topk
from pyramidion_fairseq.functional import successive_halving_topk as ours

#: Width of a vector, and documents per cell.
DIM, DOCUMENTS = 32, 64
#: When the tournament sorts: in Algorithm 1, in section 4, and in the ablation of Appendix B.5.
SORTINGS = ("every round", "once", "never")


def chamfer_similarity(best: Tensor, selected: Tensor) -> Tensor:
    """Return nCCS of each document: (B, k, d) vectors with the highest scores, (B, k, d) those selected -> (B,)."""
    normalize = torch.nn.functional.normalize
    return (normalize(best, dim=2) @ normalize(selected, dim=2).transpose(1, 2)).amax(dim=2).mean(dim=1)


def select(embeddings: Tensor, scores: Tensor, k: int, sorting: str) -> Tensor:
    """Return the k vectors of the operator with one of :data:`SORTINGS`: (B, k, d)."""
    if sorting == "once":
        order = scores.argsort(dim=1, descending=True)
        embeddings = embeddings.gather(1, order.unsqueeze(2).expand_as(embeddings))
        scores = scores.gather(1, order)
    return ours(embeddings, scores, k, sort=sorting == "every round").embeddings


@torch.no_grad()
def sorting_quality(
    length: int, k: int, device: str, documents: int = DOCUMENTS, sorted_before: bool = False
) -> dict[str, float]:
    """Return the mean nCCS by :data:`SORTINGS`, for documents with scores in random order or sorted."""
    generator = torch.Generator().manual_seed(length * 10_000 + k)
    values: dict[str, list[Tensor]] = {name: [] for name in SORTINGS}
    for _ in range(max(documents, 4096 // k) // 16):
        embeddings = (torch.rand(16, length, DIM, generator=generator) * 2 - 1).to(device)
        scores = torch.rand(16, length, generator=generator).to(device)
        if sorted_before:
            scores = scores.sort(dim=1, descending=True).values
        best = hard_topk(embeddings, scores, k).embeddings
        for name in SORTINGS:
            values[name].append(chamfer_similarity(best, select(embeddings, scores, k, name)))
    return {name: torch.cat(parts).mean().item() for name, parts in values.items()}


def sorting(args) -> tuple[dict[str, Any], list[str]]:
    """Return Appendix B.5: the error 1 - nCCS and the time with and without sorting, scores in any order."""
    lengths, counts = published_axes()
    found = {
        f"{length} {k}": sorting_quality(length, k, args.device) for length in lengths for k in counts if k < length
    }
    errors = {name: sum(1 - cell[name] for cell in found.values()) / len(found) for name in SORTINGS}
    lines = [[name, f"{error:.4f}", f"{1 - error / errors['never']:.1%}"] for name, error in errors.items()]
    times, overhead = sorting_times(args)
    return {"nccs": found, "errors": errors, "times": times, "overhead": overhead}, [
        f"## Sorting: mean error 1 - nCCS over {len(found)} cells, scores in any order; published: 45.2% less\n\n"
        + measure.table(["sorted", "error", "less than never"], lines),
        "## Sorting: time of a forward pass, both by the same code; published: 7.3% more\n\n"
        + measure.table(["n", "k", "every round, ms", "never, ms", "more"], times_lines(times))
        + f"\n\nMean over the cells: {overhead:.1%} more with sorting.",
    ]


def sorting_times(args) -> tuple[dict[str, Any], float]:
    """Return the times by cell with and without sorting, and the mean relative cost of sorting."""
    reduced = args.size == "reduced"
    lengths, counts = reduced_axes() if reduced else published_axes()
    times = {}
    for length in lengths:
        for k in (k for k in counts if k < length):
            embeddings = torch.rand(4 if reduced else 16, length, DIM, device=args.device).mul_(2).sub_(1)
            scores = torch.rand(len(embeddings), length, device=args.device)
            variants = {
                name: lambda e=embeddings, s=scores, k=k, name=name: select(e, s, k, name)
                for name in ("every round", "never")
            }
            measured = measure.alternate(variants, args.rounds, args.device)
            times[f"{length} {k}"] = {name: t._asdict() for name, t in measured.items()}
    shares = [cell["every round"]["median"] / cell["never"]["median"] - 1 for cell in times.values()]
    return times, sum(shares) / len(shares)


def times_lines(times: dict[str, Any]) -> list[list[Any]]:
    """Return rows of the table of :func:`sorting_times`."""
    lines = []
    for cell, by_name in times.items():
        with_sorting, without = (by_name[name]["median"] * 1e3 for name in ("every round", "never"))
        lines.append([*cell.split(), with_sorting, without, f"{with_sorting / without - 1:.1%}"])
    return lines


def published_axes() -> tuple[list[int], list[int]]:
    """Return every n and every k of the published grid."""
    grid = measure.published("figures5_6")
    return tuple(sorted({int(line[axis]) for line in grid}) for axis in ("n", "k"))


def published_cell(pooler: str, length: int, k: int, column: str) -> float | None:
    """Return a published number, or None."""
    for line in measure.published("figures5_6"):
        if (line["pooler"], line["n"], line["k"]) == (pooler, str(length), str(k)):
            return float(line[column])
    return None


def reduced_axes() -> tuple[list[int], list[int]]:
    """Return every third n and k of the grid, for times on a CPU."""
    return [16, 128, 1024, 8192], [2, 16, 128, 1024]
