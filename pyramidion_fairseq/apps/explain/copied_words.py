"""Convert copies of tokens to copies of words: the words of the document that a summary's words were copied from."""

from __future__ import annotations

from typing import Iterator, Sequence

import torch
from torch import Tensor

from .copies import TokenCopies
from .record import Provenance

#: If places with the whole summary word have at least this share of its copies, all other places are dropped.
WHOLE = 0.5


def copied_words(provenance: Provenance, token_words: Sequence[int], read: int) -> Iterator[tuple[float, Tensor]]:
    """Yield for each word of the summary how much of it was copied, and from where.

    For an ensemble these are means over its models; models without a pointer count as having copied nothing.

    Args:
        provenance: provenance of the summary.
        token_words: for each token of the document the index of its word, -1 for none.
        read: number of words of the document that the model read.

    Yields:
        The share of the word that was copied, as a mean over its tokens, and (read,) float32, how much was copied from
        each word of the document, which sums to at most the share. If a word of several tokens was mostly copied from
        places where these tokens are adjacent, only such places count.
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
    """Add one model's part of the mean: {position in the document: probability} for each token."""
    weights = copies.weights * copies.shares.unsqueeze(1) / models
    for row, positions, values in zip(places, copies.positions.tolist(), weights.tolist()):
        for position, value in zip(positions, values):
            if value > 0:
                row[position] = row.get(position, 0.0) + value


def _side_by_side(tokens: list[dict[int, float]]) -> list[dict[int, float]]:
    """Keep only places of adjacent tokens: each was copied from the position after that of the previous token."""
    first = tokens[0] if tokens else {}
    starts = [start for start in first if all(start + i in row for i, row in enumerate(tokens))]
    return [{start + i: row[start + i] for start in starts} for i, row in enumerate(tokens)]


def _sum_by_word(tokens: list[dict[int, float]], token_words: Sequence[int]) -> dict[int, float]:
    """Return for each word of the document the probability of copies from it, as a mean over the tokens."""
    sums: dict[int, float] = {}
    for row in tokens:
        for position, value in row.items():
            word = token_words[position]
            if word >= 0:
                sums[word] = sums.get(word, 0.0) + value / len(tokens)
    return sums
