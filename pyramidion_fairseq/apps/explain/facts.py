"""Describe a model and the limits of its record, in words."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Sequence

from .types import ModelFacts

REACH = {
    "blockwise": "inside blocks of {block_size} vectors",
    "full": "between all vectors",
    "efficient": "to a digest of the whole document",
    "lsh": "inside buckets of similar vectors and local windows",
    "lsg": "to neighbours, sparse and global tokens",
}


def describe(models: Sequence[Any], name: str) -> ModelFacts:
    """Return the facts about a model or an ensemble.

    ``exact`` is set if every vector that the decoder reads is exactly the recorded combination of selected tokens.

    Args:
        models: PyramidionModels.
        name: name of the architecture.
    """
    poolers, scorers, notes, exact = [], [], [], True
    for model in models:
        options, poolings = model.cfg.options, list(model.encoder.poolings.values())
        poolers.append(options.pooler if poolings else "none")
        scorers.append(options.scorer if any(pooling.scorer is not None for pooling in poolings) else "none")
        limits = _limits(model.encoder, options)
        exact = exact and not limits
        notes += [*limits, _mixing(options)]
    pointing = sum(model.decoder.pointer is not None for model in models)
    if pointing:
        notes.append(
            "The model can copy words of the document into the summary. The probability that a word was copied, and "
            "from which places, is computed exactly from the model's probabilities."
        )
    if len(models) > 1:
        notes.append(f"Weights are means over the {len(models)} models of the ensemble.")
    if 0 < pointing < len(models):
        notes.append(f"Only {pointing} of the models can copy; the others count as having copied nothing.")
    joined = " ".join(dict.fromkeys(notes))
    return ModelFacts(name, _join(poolers), _join(scorers), exact, joined, pointing > 0)


def _limits(encoder: Any, options: Namespace) -> list[str]:
    """Return the reasons why the record is not exact, [] if it is exact."""
    if not encoder.poolings:
        limits = ["The model has no poolings: the decoder reads one vector for every token."]
    else:
        limits = _limits_of_pooler(next(iter(encoder.poolings.values())).pooler, options.pooler)
    if encoder.output_globals:
        limits.append(
            f"The decoder also reads {encoder.output_globals} global "
            f"token{'s' if encoder.output_globals > 1 else ''}, which may contain anything of the document; "
            "attention to global tokens has no source and is not shown."
        )
    elif encoder.num_globals and encoder.global_embeddings.replace_first:
        limits.append("A global token replaces the first vector; attention to it is not shown.")
    return limits


def _limits_of_pooler(pooler: Any, name: str) -> list[str]:
    if pooler.upsamples:
        return [
            "Funnel averages windows of consecutive tokens. Before the decoder the means are repeated and added to "
            "each token's own state: no tokens are selected, and the decoder reads one vector for every token."
        ]
    if name == "max_window":
        return [
            "Each vector is the maximum of each coordinate in a window of consecutive tokens, not a weighted sum; a "
            "token's weight is the share of coordinates that come from it."
        ]
    if not pooler.exact_record:
        return [
            "This pooler mixes every token into every vector. Only the largest share of a token is recorded, and the "
            "weights of a vector's tokens need not sum to one."
        ]
    if name == "merge_similar":
        return [
            "Similar tokens are averaged, wherever they are: no tokens are selected, and all have the same weight."
        ]
    if name == "boundary_chunk":
        return [
            "Chunks of consecutive tokens are averaged: no tokens are selected, tokens of a chunk have equal weight."
        ]
    if not pooler.uses_scores:
        return [
            "Windows of consecutive tokens are averaged: no tokens are selected, tokens of a window have equal weight."
        ]
    return []


def _mixing(options: Namespace) -> str:
    reach = REACH.get(options.attention, f"of kind {options.attention}").format(**vars(options))
    return (
        f"Weights are those of the poolings and of the decoder's attention. The encoder's attention ({reach}) also "
        "mixes context into each vector; the weights do not show this."
    )


def _join(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names))
