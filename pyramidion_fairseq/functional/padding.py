"""Padding masks are True on padding, everywhere in this package."""

from __future__ import annotations

from torch import Tensor


def move_padding_right(tokens: Tensor, padding_idx: int) -> Tensor:
    """Move every padding symbol of a row behind its other tokens, whose order is kept.

    fairseq's ``translation`` task pads sources on the left. Blocks of attention are counted from the document's
    start, so they must not depend on how many padding symbols precede it.

    Args:
        tokens: (B, T) integer ids.
        padding_idx: id of the padding symbol.

    Returns:
        (B, T) the same ids, right-padded.
    """
    order = tokens.eq(padding_idx).long().sort(dim=1, stable=True).indices
    return tokens.gather(1, order)
