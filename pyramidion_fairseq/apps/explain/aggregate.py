"""Statistics of the tokens that a model keeps in a corpus: their positions, sections and weights."""

from __future__ import annotations

import contextlib
import csv
import os
from dataclasses import dataclass, field
from typing import Any, Sequence

import torch
from torch import Tensor

from ...errors import PyramidionError
from ...functional import TokenRecord, sum_by_group
from .explanation import rank_sentences
from .record import ModelRecord, Provenance

#: Number of equal parts of a document, and of the range of weights.
BINS = 20
#: The files that :meth:`Aggregate.write` writes, the last one only if there are sections.
OUTPUTS = (
    "positions.csv", "sections.csv", "weights.csv", "sentences.csv", "positions.png", "weights.png", "sections.png",
)  # fmt: skip
LEAD, RANDOM, USED = "lead", "random", "used by the summary"


@dataclass
class _Mean:
    """Running mean of vectors of equal length."""

    total: Tensor | None = None
    count: int = 0

    def add(self, value: Tensor) -> None:
        self.total = value.double() if self.total is None else self.total + value.double()
        self.count += 1

    def value(self) -> list[float]:
        return [] if self.total is None else (self.total / self.count).tolist()


@dataclass
class _SectionSums:
    documents: int = 0
    sums: dict[str, float] = field(default_factory=dict)


class Aggregate:
    """Collects statistics document by document; memory grows only with the number of sentences and section names.

    All documents have the same weight. The rows are the stages of the model ("after layer 2", ...), "used by the
    summary" (the decoder's attention to the last stage), and two baselines that keep as many tokens as the last stage:
    "lead", the document's first tokens, and "random", random tokens (their expectation).
    """

    def __init__(self) -> None:
        self.documents = 0
        self.positions: dict[str, _Mean] = {}
        self.largest: dict[str, _Mean] = {}
        self.numbers: dict[str, dict[str, _Mean]] = {}
        self.sections: dict[str, _SectionSums] = {}
        self.sentences: list[dict[str, Any]] = []

    def add(self, provenance: Provenance, index: int | None = None) -> None:
        """Add a document.

        Args:
            provenance: its provenance.
            index: its index in the input, for :attr:`sentences`; by default the number of documents before it.

        Raises:
            PyramidionError: the summary is from an ensemble, whose models keep different tokens.
        """
        if len(provenance.models) != 1:
            raise PyramidionError(
                "--aggregate requires a single checkpoint: models of an ensemble keep different tokens"
            )
        (model,) = provenance.models
        rows = shares_of_tokens(model, len(provenance.summary.tokens))
        for name, shares in rows.items():
            self.positions.setdefault(name, _Mean()).add(share_by_position(shares))
        for name, record in model.stages:
            self._add_weights(name, record)
        self._add_parts(provenance, rows, self.documents if index is None else index)
        self.documents += 1

    def write(self, folder: str) -> list[str]:
        """Write ``positions``, ``sections``, ``weights`` and ``sentences`` as CSV, and plot the first three as PNG.

        Files of these names are removed first. There is no plot of sections if no document has any.

        Returns:
            The names of the files, sorted.

        Raises:
            PyramidionError: there are no documents, or matplotlib is missing; in this case the tables are written.
        """
        if not self.documents:
            raise PyramidionError("no document contains any text")
        tables = {
            "positions": self.position_table(),
            "sections": self.section_table(),
            "weights": self.weight_table(),
            "sentences": self.sentences,
        }
        paths = {name: os.path.join(folder, name) for name in OUTPUTS}
        for path in paths.values():  # also symbolic links, so that their targets are not written
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        for name, rows in tables.items():
            _write_table(paths[f"{name}.csv"], rows)
        from .plots import plot_positions, plot_sections, plot_weights

        plot_positions(tables["positions"], self.documents, paths["positions.png"])
        plot_weights(tables["weights"], paths["weights.png"])
        if tables["sections"]:
            plot_sections(tables["sections"], paths["sections.png"])
        return sorted(name for name, path in paths.items() if os.path.exists(path))

    def position_table(self) -> list[dict[str, Any]]:
        """Return for each of :data:`BINS` equal parts of the documents the share of the kept tokens in it."""
        means = {name: mean.value() for name, mean in self.positions.items()}
        return [
            {"from": number / BINS, "to": (number + 1) / BINS, **{name: row[number] for name, row in means.items()}}
            for number in range(BINS)
        ]

    def section_table(self) -> list[dict[str, Any]]:
        """Return a row per section name: number of documents with it, and mean share of the kept tokens in it."""
        rows = [
            {
                "section": name,
                "documents": section.documents,
                **{row: total / section.documents for row, total in section.sums.items()},
            }
            for name, section in self.sections.items()
        ]
        return sorted(rows, key=lambda row: (-row["documents"], row["section"]))

    def weight_table(self) -> list[dict[str, Any]]:
        """Return a row per stage: tokens per vector, effective tokens, and the distribution of the largest weight."""
        return [
            {
                "stage": name,
                **{key: number.value()[0] for key, number in self.numbers[name].items()},
                **{f"largest weight {n / BINS:.2f}-{(n + 1) / BINS:.2f}": v for n, v in enumerate(mean.value())},
            }
            for name, mean in self.largest.items()
        ]

    def _add_weights(self, name: str, record: TokenRecord) -> None:
        slots = Slots.of(record)
        histogram = torch.histc(slots.largest.float(), bins=BINS, min=0, max=1) / len(slots.largest)
        self.largest.setdefault(name, _Mean()).add(histogram)
        numbers: dict[str, Any] = {
            "vectors": len(slots.largest),
            "tokens in a vector": slots.tokens.float().mean(),
            "tokens that count": slots.effective.mean(),
            "largest weight": slots.largest.mean(),
            "largest weight of a mean": (1 / slots.tokens.float()).mean(),
        }
        for key, value in numbers.items():
            means = self.numbers.setdefault(name, {})
            means.setdefault(key, _Mean()).add(torch.as_tensor(float(value)).reshape(1))

    def _add_parts(self, provenance: Provenance, rows: dict[str, Tensor], index: int) -> None:
        document = provenance.document
        token_words = provenance.token_words
        read = int(token_words.max()) + 1
        words = {name: sum_by_group(shares[None], token_words, read)[0] for name, shares in rows.items()}
        seen: dict[str, dict[str, float]] = {}
        for section in document.sections:
            name = " ".join(section.name.lower().split()) or "(unnamed)"
            if section.start < read:
                for row, shares in words.items():
                    sums = seen.setdefault(name, {})
                    sums[row] = sums.get(row, 0.0) + float(shares[section.start : section.end].sum())
        for name, sums in seen.items():
            known = self.sections.setdefault(name, _SectionSums())
            known.documents += 1
            for row, value in sums.items():
                known.sums[row] = known.sums.get(row, 0.0) + value
        self._add_sentences(provenance, words, read, index)

    def _add_sentences(self, provenance: Provenance, words: dict[str, Tensor], read: int, index: int) -> None:
        spans = [(start, end) for start, end in provenance.document.sentences if start < read]
        ranked = {name: dict(rank_sentences(spans, shares)) for name, shares in words.items() if name != LEAD}
        ranks = {sentence: rank for rank, sentence in enumerate(ranked[USED], start=1)}
        for number, (start, end) in enumerate(spans):
            sections = (
                section.name for section in provenance.document.sections if section.start <= start < section.end
            )
            self.sentences.append(
                {
                    "document": index,
                    "title": provenance.title or "",
                    "sentence": number,
                    "section": next(sections, ""),
                    "words": end - start,
                    "rank": ranks[number],
                    **{name: shares[number] for name, shares in ranked.items()},
                    "text": " ".join(provenance.document.words[start:end])[:300],
                }
            )


@dataclass(frozen=True)
class Slots:
    """Statistics of the non-empty slots of a record."""

    tokens: Tensor
    """(k,) number of tokens in each slot."""
    largest: Tensor
    """(k,) largest weight in each slot."""
    effective: Tensor
    """(k,) effective number of tokens: 1 / sum of squared shares; 1 for a hard selection, ``tokens`` for a mean."""

    @classmethod
    def of(cls, record: TokenRecord) -> Slots:
        """Build from the (n,) record of one document."""
        kept = record.weights > 0  # dropped tokens do not belong to a slot
        slots, weights = record.slots[kept], record.weights[kept].double()
        count = int(slots.max()) + 1
        tokens = torch.bincount(slots, minlength=count)
        sums = torch.zeros(count, dtype=torch.double).index_add_(0, slots, weights)
        squares = torch.zeros(count, dtype=torch.double).index_add_(0, slots, weights**2)
        largest = torch.zeros(count, dtype=torch.double).scatter_reduce_(0, slots, weights, "amax")
        filled = tokens > 0
        return cls(tokens[filled], largest[filled], (sums**2)[filled] / squares[filled])


def shares_of_tokens(model: ModelRecord, steps: int) -> dict[str, Tensor]:
    """Return for each stage and baseline the (n,) shares of the document's tokens, which sum to one.

    Args:
        model: the record of the model.
        steps: number of tokens of the summary, without ``</s>``.
    """
    rows = {name: _normalised(record.weights) for name, record in model.stages}
    used = model.attention[:steps].sum(dim=0)[model.decoder.slots] * model.decoder.weights
    rows[USED] = _normalised(used)
    length = model.lengths[0].tokens
    kept = min((stage.tokens for stage in model.lengths), default=length)
    rows[LEAD] = (torch.arange(length) < kept).double() / kept
    rows[RANDOM] = torch.full((length,), 1 / length, dtype=torch.double)
    return rows


def share_by_position(shares: Tensor) -> Tensor:
    """Convert (n,) shares of tokens to (BINS,) shares of equal parts of the document; parts may split a token."""
    edges = torch.cat([shares.new_zeros(1), shares.cumsum(0)])
    positions = torch.linspace(0, len(shares), BINS + 1, dtype=torch.double)
    lower = positions.floor().long().clamp(max=len(shares) - 1)
    cumulative = edges[lower] + (positions - lower) * shares[lower]
    return cumulative.diff()


def _normalised(weights: Tensor) -> Tensor:
    return weights.double() / weights.double().sum().clamp(min=torch.finfo(torch.double).tiny)


def _write_table(path: str, rows: Sequence[dict[str, object]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
