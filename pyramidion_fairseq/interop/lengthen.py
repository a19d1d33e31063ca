"""What a longer, sparser model needs that a pretrained one lacks, made of what it has."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..attention.lsg import MAX_GLOBALS

#: Standard deviation of a new scorer's ratings, see :func:`spread_scorer`. Of 0.001, 0.3, 0.5, 1, 2 and 4 the model of
#: ``tests/interop/bart/test_new_scorers.py`` learnt best with 0.5 and 1, and with 0.5 it starts nearer to the unpooled
#: one.
SPREAD = 0.5
_SAMPLES = 4096


def tile_positions(weight: Tensor, rows: int, offset: int) -> Tensor:
    """Repeat learned positions until there are enough, as Condevaux and Harispe (2022) and Longformer do.

    Args:
        weight: (offset + P, C); fairseq's and Hugging Face's tables have rows before that of the first token.
        rows: wanted, ``offset`` included; fewer than there are cut the table.
        offset: rows that are no positions, 2 in BART. They are kept.

    Returns:
        (rows, C): row ``offset + i`` is the old row ``offset + i mod P``.

    Raises:
        ValueError: the table has no positions.
    """
    count = weight.size(0) - offset
    if count < 1:
        raise ValueError(f"a table of positions needs more than its {offset} offset rows, got {weight.size(0)}")
    index = torch.arange(rows - offset, device=weight.device) % count + offset
    return torch.cat([weight[:offset], weight[index]])


def spread_globals(positions: Tensor, bos: Tensor, mask: Tensor) -> Tensor:
    """Return global tokens of the published LSG converter: a position spread over the document, and a symbol.

    Args:
        positions: (P, C) learned positions without their offset rows.
        bos: (C,) the embedding of ``<s>``, for the first global token.
        mask: (C,) the embedding of ``<mask>``, for the others.

    Returns:
        (512, C); one row after another stands 64 positions further, and once they are through, between those. Of 1024
        positions that is 64 (j mod 16) + 2 floor(j / 16), of 512 it is 64 (j mod 8) + floor(j / 8). Those beyond the
        last multiple of 512 have none. Fewer than 512 are taken as a scale of 1024, for which the published converter
        draws random ones.
    """
    j, count = torch.arange(MAX_GLOBALS, device=positions.device), positions.size(0)
    covered = count // 512 * 512 or 1024
    stretches = covered // 64
    position = 64 * (j % stretches) + covered // 512 * (j // stretches)
    if count < 512:
        position = position * count // covered
    symbols = torch.cat([bos.unsqueeze(0), mask.expand(MAX_GLOBALS - 1, -1)])
    return positions[position] + symbols


def spread_scorer(scorer: Any, weight: Tensor, bias: Tensor, spread: float = SPREAD, seed: int = 1) -> None:
    """Scale a fresh scorer's last layer, so that a pooling starts neither as a blur nor as a choice by chance.

    Ratings that are all alike make a pooling the mean of tokens that have nothing to do with each other, which the
    decoder has never seen, and which tells no token from another: learning begins slowly. Ratings far apart make the
    peaked softmax choose, and what the fresh scorer drops is lost. In between, every token is still seen, some more
    than others. What the ratings will be is known without data: states are a layer norm's output. States that are
    all alike, as of an encoder that has hardly been trained, stay so.

    Args:
        scorer: its last layer is ``proj``; the direction that it was initialised with is kept.
        weight, bias: (C,) of the layer norm before the pooling.
        spread: the standard deviation that its ratings shall have, with a mean of 0.
        seed: of the made-up states.
    """
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(_SAMPLES, weight.numel(), generator=generator)
    states = nn.functional.layer_norm(states, (weight.numel(),), weight.float().cpu(), bias.float().cpu())
    with torch.no_grad():
        ratings = copy.deepcopy(scorer).float().cpu().rate(states.unsqueeze(0), None)
        factor = spread / ratings.std()
        scorer.proj.bias.copy_((scorer.proj.bias - ratings.mean()) * factor)
        scorer.proj.weight.mul_(factor)
