"""Parameters that a longer, sparse or pooled model needs, initialised from those of a pretrained model."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..attention.lsg import MAX_GLOBALS

#: Standard deviation of a new scorer's ratings, see :func:`spread_scorer`. Among 0.001, 0.3, 0.5, 1, 2 and 4, the
#: model in ``tests/interop/bart/test_new_scorers.py`` learned best with 0.5 and 1, and 0.5 starts closer to the
#: unpooled model.
SPREAD = 0.5
_SAMPLES = 4096


def tile_positions(weight: Tensor, rows: int, offset: int) -> Tensor:
    """Repeat or truncate a table of learned positions, as Condevaux and Harispe (2022) and Longformer do.

    Args:
        weight: (offset + P, C); the tables of fairseq and Hugging Face have rows before that of the first token.
        rows: number of rows of the result, including ``offset``.
        offset: number of rows before the positions, 2 in BART. They are kept.

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
    """Return global tokens as in the published LSG converter: the sum of a position and the embedding of a symbol.

    Args:
        positions: (P, C) learned positions without their offset rows.
        bos: (C,) the embedding of ``<s>``, for the first global token.
        mask: (C,) the embedding of ``<mask>``, for the others.

    Returns:
        (512, C). Consecutive rows are 64 positions apart; when the end is reached, they continue between the earlier
        ones. With 1024 positions, row j has position 64 (j mod 16) + 2 floor(j / 16); with 512, it has position
        64 (j mod 8) + floor(j / 8). Positions beyond the last multiple of 512 are not used. Fewer than 512 positions
        are scaled to 1024, for which the published converter draws random ones.
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
    """Scale the last layer of a new scorer to ratings with mean 0 and a moderate standard deviation.

    With almost equal ratings, pooled vectors are means of unrelated tokens, which the decoder has never seen, and
    learning is slow. With very different ratings, the peaked softmax selects single tokens, and the others are lost at
    random. With ratings in between, every token contributes, some more than others. The ratings can be estimated
    without data, because the scorer's inputs are the outputs of a layer norm.

    Args:
        scorer: a scorer with last layer ``proj``, whose direction is kept.
        weight, bias: (C,) parameters of the layer norm before the pooling.
        spread: standard deviation of the ratings.
        seed: seed of the random states for the estimate.
    """
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(_SAMPLES, weight.numel(), generator=generator)
    states = nn.functional.layer_norm(states, (weight.numel(),), weight.float().cpu(), bias.float().cpu())
    with torch.no_grad():
        ratings = copy.deepcopy(scorer).float().cpu().rate(states.unsqueeze(0), None)
        factor = spread / ratings.std()
        scorer.proj.bias.copy_((scorer.proj.bias - ratings.mean()) * factor)
        scorer.proj.weight.mul_(factor)
