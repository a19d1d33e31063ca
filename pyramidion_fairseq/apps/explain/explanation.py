"""Convert the provenance of a summary, in tokens, to its explanation, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Iterator, Sequence

import torch
from torch import Tensor

from ...functional import TokenRecord, sum_by_group
from .copied_words import copied_words
from .record import ModelRecord, Provenance
from .types import Explanation, Length, RankedSentence, Stage, SummaryWords
from .unsupported import mark_unsupported

#: Share of a summary word's weight up to which its sources are listed, and their maximum number.
SHARE, MOST = 0.95, 50
#: Number of summary words that are processed at once, each with weights over the document's tokens.
ROWS = 32


def explain_summary(provenance: Provenance, score: float | None) -> Explanation:
    """Create the explanation of a summary.

    Args:
        provenance: provenance of the summary.
        score: score of the summary.
    """
    words = len(provenance.document.words)
    token_words = provenance.token_words
    read = int(token_words.max()) + 1
    used = _used(provenance, token_words, words)
    top = max(float(used.max()), torch.finfo(used.dtype).tiny)
    stages = [
        *_stages(provenance.models, token_words, words),
        Stage("used by the summary", "used", _floats(used / top)),
    ]
    facts = provenance.facts
    if provenance.left_out:
        left_out = f"The last {provenance.left_out:,} words of the document are not listed, and the summary was not "
        facts = replace(facts, note=f"{left_out}compared with them. {facts.note}".strip())
    return Explanation(
        title=provenance.title,
        document=provenance.document,
        lengths=_lengths(provenance.models),
        stages=tuple(stages),
        summary=SummaryWords(
            provenance.summary.words,
            provenance.summary.space_after,
            score,
            tuple(_sources(provenance, token_words, read)),
            *_copies(provenance, token_words, read),
            mark_unsupported(provenance.summary.words, provenance.document.words),
        ),
        ranking=_ranking(provenance.document.sentences, _taken(provenance, token_words, words)),
        model=facts,
        truncated=words - read,
        reference=provenance.reference,
    )


def rank_sentences(sentences: Sequence[tuple[int, int]], weights: Tensor) -> list[tuple[int, float]]:
    """Return (sentence, share of the weight), the largest first, and the earlier sentence first in case of ties.

    Sentences are [start, end) words.
    """
    sums = torch.stack([weights[start:end].sum() for start, end in sentences]) if sentences else weights.new_zeros(0)
    total = float(sums.sum())
    shares = (sums / total if total > 0 else sums).tolist()
    return sorted(enumerate(shares), key=lambda item: (-item[1], item[0]))


def word_weights(record: TokenRecord, token_words: Tensor, words: int) -> Tensor:
    """Return (words,): the mean weight of each word's tokens, 0 for words without tokens."""
    counts = sum_by_group(torch.ones_like(record.weights)[None], token_words, words)[0]
    return sum_by_group(record.weights[None], token_words, words)[0] / counts.clamp(min=1)


def _ranking(sentences: Sequence[tuple[int, int]], used: Tensor) -> tuple[RankedSentence, ...]:
    return tuple(RankedSentence(number, share) for number, share in rank_sentences(sentences, used) if share > 0)


def _lengths(models: Sequence[ModelRecord]) -> tuple[Length, ...]:
    """Return the lengths of the first model; only the document's length if the models differ."""
    same = all(model.lengths == models[0].lengths for model in models)
    return models[0].lengths if same else models[0].lengths[:1]


def _stages(models: Sequence[ModelRecord], token_words: Tensor, words: int) -> Iterator[Stage]:
    """Yield the stages, with means over the models.

    If the models pool after different layers, only the stage of the decoder is comparable.
    """
    names = [tuple(name for name, _ in model.stages) for model in models]
    if len(set(names)) == 1:
        for number, name in enumerate(names[0]):
            weights = [word_weights(model.stages[number][1], token_words, words) for model in models]
            yield Stage(name, "pooling", _floats(_mean(weights)))
    weights = [word_weights(model.decoder, token_words, words) for model in models]
    yield Stage("seen by the decoder", "decoder", _floats(_mean(weights)))


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return sum(tensors[1:], tensors[0]) / len(tensors)


def _used(provenance: Provenance, token_words: Tensor, words: int) -> Tensor:
    """Return (words,): how much the summary's tokens read of each word, in tokens; a mean over the models."""
    read = [replace(model, copies=None) for model in provenance.models]
    return _taken(replace(provenance, models=tuple(read)), token_words, words)


def _taken(provenance: Provenance, token_words: Tensor, words: int) -> Tensor:
    """Return (words,): how much the summary used of each word, in tokens; a mean over the models.

    The copied share of a summary token counts for the words that it was copied from, the rest for those it read.
    """
    taken, steps = torch.zeros(words), len(provenance.summary.tokens)
    for model in provenance.models:
        attention, copied = model.attention[:steps], torch.zeros(len(token_words))
        if model.copies is not None:
            shares = model.copies.shares[:steps].float().unsqueeze(1)
            weights = model.copies.weights[:steps].float() * shares
            used = weights > 0  # others may be padding of a batch with longer documents
            copied.index_add_(0, model.copies.positions[:steps][used], weights[used])
            attention = attention * (1 - shares)
        read = attention.sum(dim=0)[model.decoder.slots] * model.decoder.weights
        taken += sum_by_group((read.float() + copied)[None], token_words, words)[0]
    return taken / len(provenance.models)


def _sources(provenance: Provenance, token_words: Tensor, read: int) -> Iterator[tuple[tuple[int, float], ...]]:
    """Yield the sources of each word of the summary, the largest first."""
    summary = provenance.summary
    count, groups = len(summary.words), torch.tensor(summary.token_words, dtype=torch.long)
    tokens = torch.bincount(groups[groups >= 0], minlength=count).clamp(min=1)
    rows = []
    for model in provenance.models:
        attention = model.attention[: len(groups)].float()
        rows.append(sum_by_group(attention.T, groups, count).T / tokens.unsqueeze(1))
    for start in range(0, count, ROWS):
        weights = torch.zeros(min(ROWS, count - start), read)
        for model, attention in zip(provenance.models, rows):
            part = attention[start : start + ROWS][:, model.decoder.slots] * model.decoder.weights
            weights += sum_by_group(part.float(), token_words, read)
        weights /= len(provenance.models)
        weights /= weights.sum(dim=1, keepdim=True).clamp(min=1)  # with an inexact record the sum may exceed 1
        yield from map(_largest, weights)


def _copies(provenance: Provenance, token_words: Tensor, read: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return for each word of the summary the copied share and its places; two empty tuples without a pointer."""
    if all(model.copies is None for model in provenance.models):
        return (), ()
    found = [(share, _largest(weights)) for share, weights in copied_words(provenance, token_words.tolist(), read)]
    return _floats(torch.tensor([share for share, _ in found])), tuple(places for _, places in found)


def _largest(weights: Tensor) -> tuple[tuple[int, float], ...]:
    """Return (word, weight) of the largest weights, up to :data:`SHARE` of the sum and at most :data:`MOST`."""
    values, indices = weights.topk(min(MOST, len(weights)))
    enough = int((values.cumsum(0) < SHARE * weights.sum()).sum()) + 1
    kept = int((values[:enough] > 0).sum())
    return tuple(zip(indices[:kept].tolist(), _floats(values[:kept])))


def _floats(values: Tensor) -> tuple[float, ...]:
    """Round to six significant digits, the precision of float32, which halves the size of a page."""
    return tuple(float(f"{value:.6g}") for value in values.tolist())
