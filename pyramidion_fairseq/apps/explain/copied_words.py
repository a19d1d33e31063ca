"""From copies of tokens to copies of words: which words of the document each word of a summary was copied from."""

from __future__ import annotations

from typing import Iterator, Sequence

import torch
from torch import Tensor

from .copies import TokenCopies
from .record import Provenance

#: Words that hold a summary word as a whole are its only places where they have at least this part of its copies.
WHOLE = 0.5


def copied_words(provenance: Provenance, token_words: Sequence[int], read: int) -> Iterator[tuple[float, Tensor]]:
    """Yield, for each word of the summary, the share that was copied and its places.

    Of an ensemble means over its models, one without a pointer having copied nothing.

    Args:
        provenance: of the summary.
        token_words: per token of the document its word, -1 for none.
        read: words of the document that the model read.

    Yields:
        The mean share of the word's tokens, and (read,) float32: how much of it was copied from each word of the
        document. The sum is at most the share. Where a word of several tokens was mostly copied from where they stand
        side by side, only such places count.
    """
    steps = len(provenance.summary.tokens)
    shares = torch.zeros(steps)
    places: list[dict[int, float]] = [{} for _ in range(steps)]
    for model in provenance.models:
        if model.copies is not None:
            shares += model.copies.shares[:steps].float() / len(provenance.models)
            _add_places(places, model.copies, len(provenance.models))
    words: list[list[int]] = [[] for _ in provenance.summary.words]
    for step, word in enumerate(provenance.summary.token_words):
        if word >= 0:
            words[word].append(step)
    for tokens in words:
        rows = [places[step] for step in tokens]
        every, whole = _sum_by_word(rows, token_words), _sum_by_word(_side_by_side(rows), token_words)
        chosen = whole if sum(whole.values()) >= WHOLE * sum(every.values()) else every
        weights = torch.zeros(read)
        weights[list(chosen)] = torch.tensor(list(chosen.values()))
        yield float(shares[tokens].mean()) if tokens else 0.0, weights


def _add_places(places: list[dict[int, float]], copies: TokenCopies, models: int) -> None:
    """Add one model's part of the mean: for each token {position in the document: probability}."""
    weights = copies.weights * copies.shares.unsqueeze(1) / models
    for row, positions, values in zip(places, copies.positions.tolist(), weights.tolist()):
        for position, value in zip(positions, values):
            if value > 0:
                row[position] = row.get(position, 0.0) + value


def _side_by_side(tokens: list[dict[int, float]]) -> list[dict[int, float]]:
    """Keep only the places of runs: each token was copied from the place after that of the token before it."""
    first = tokens[0] if tokens else {}
    starts = [start for start in first if all(start + i in row for i, row in enumerate(tokens))]
    return [{start + i: row[start + i] for start in starts} for i, row in enumerate(tokens)]


def _sum_by_word(tokens: list[dict[int, float]], token_words: Sequence[int]) -> dict[int, float]:
    """Return for each word of the document the mean over the tokens of what was copied from it."""
    sums: dict[int, float] = {}
    for row in tokens:
        for position, value in row.items():
            word = token_words[position]
            if word >= 0:
                sums[word] = sums.get(word, 0.0) + value / len(tokens)
    return sums
