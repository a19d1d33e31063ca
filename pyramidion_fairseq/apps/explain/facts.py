"""What a model's record says, and what it does not, in words."""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Sequence

from .types import ModelFacts

REACH = {
    "blockwise": "inside blocks of {block_size} vectors",
    "full": "of all to all",
    "efficient": "to a digest of the whole document",
    "lsh": "inside buckets of similar vectors and local windows",
    "lsg": "to neighbours, sparse and global tokens",
}


def describe(models: Sequence[Any], name: str) -> ModelFacts:
    """Return facts on a model or an ensemble of models.

    ``exact`` is set where every vector that the decoder reads is exactly the recorded combination of selected tokens.

    Args:
        models: PyramidionModels.
        name: of the architecture.
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
            "It can copy words of the document into the summary: how probable it is that a word was copied, and from "
            "which places, follows exactly from the model's own probabilities."
        )
    if len(models) > 1:
        notes.append(f"Weights are means over the {len(models)} models of the ensemble.")
    if 0 < pointing < len(models):
        notes.append(f"Only {pointing} of them can copy; the others count as having copied nothing.")
    joined = " ".join(dict.fromkeys(notes))
    return ModelFacts(name, _join(poolers), _join(scorers), exact, joined, pointing > 0)


def _limits(encoder: Any, options: Namespace) -> list[str]:
    """Return why the record is not exact; nothing where it is."""
    if not encoder.poolings:
        limits = ["This model pools nothing: the decoder reads one vector for every token."]
    else:
        limits = _limits_of_pooler(next(iter(encoder.poolings.values())).pooler, options.pooler)
    if encoder.output_globals:
        limits.append(
            f"The decoder also reads {encoder.output_globals} global "
            f"token{'s' if encoder.output_globals > 1 else ''} that may hold anything of the document; what it reads "
            "there has no source and is left out."
        )
    elif encoder.num_globals and encoder.global_embeddings.replace_first:
        limits.append("A global token takes the place of the first vector; what the decoder reads there is left out.")
    return limits


def _limits_of_pooler(pooler: Any, name: str) -> list[str]:
    if pooler.upsamples:
        return [
            "Funnel averages windows of consecutive tokens and repeats the means before the decoder, added to each "
            "token's own state: nothing was selected, and the decoder reads one vector for every token."
        ]
    if name == "max_window":
        return [
            "Each vector is the largest value of each coordinate in a window of consecutive tokens, no weighted sum; "
            "a token's weight is the share of coordinates that come from it."
        ]
    if not pooler.exact_record:
        return [
            "This pooler mixes every token into every vector; only a token's largest share is known, and the weights "
            "of a vector's tokens need not sum to one."
        ]
    if name == "merge_similar":
        return ["Similar tokens are averaged, wherever they stand: nothing was selected, and all count alike."]
    if name == "boundary_chunk":
        return ["Chunks of consecutive tokens are averaged: nothing was selected, tokens of a chunk count alike."]
    if not pooler.uses_scores:
        return ["Windows of consecutive tokens are averaged: nothing was selected, tokens of a window count alike."]
    return []


def _mixing(options: Namespace) -> str:
    reach = REACH.get(options.attention, f"of kind {options.attention}").format(**vars(options))
    return (
        f"Weights are those of the poolings and of the decoder's attention. The encoder's attention ({reach}) brings "
        "context into each vector as well, which no weight shows."
    )


def _join(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names))
