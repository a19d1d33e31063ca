"""Positions of tokens and of padding.

A padding mask is True on padding; a key mask, its opposite, is False on padding.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor


def move_padding_right(tokens: Tensor, padding_idx: int) -> Tensor:
    """Move the padding symbols of each row behind its tokens, keeping the tokens' order.

    fairseq's ``translation`` task pads sources on the left. Attention blocks are counted from the start of the
    document, so they must not depend on the number of padding symbols before it.

    Args:
        tokens: (B, T) integer ids.
        padding_idx: id of the padding symbol.

    Returns:
        (B, T) the same ids, right-padded.
    """
    order = tokens.eq(padding_idx).long().sort(dim=1, stable=True).indices
    return tokens.gather(1, order)


def token_positions(shape: Sequence[int], padding_mask: Tensor | None, device: torch.device) -> Tensor:
    """Return the position of each token in its document, counted from 0 at the document's first token.

    Args:
        shape: (B, T).
        padding_mask: (B, T) bool, True on padding, at any position; None if there is no padding.
        device: device of the result.

    Returns:
        (B, T) int64; padding has the position of the last token before it, or -1 if there is none.
    """
    if padding_mask is None:
        return torch.arange(shape[1], device=device).expand(shape)
    return (~padding_mask).cumsum(dim=1) - 1


def known_lengths(tokens: Tensor, lengths: Tensor, pad: int) -> list[int] | None:
    """Return the lengths of right-padded documents as a list, without synchronising with a GPU.

    Args:
        tokens: (B, T) int64, on the CPU.
        lengths: (B,) int64.
        pad: id of the padding symbol. A word "<pad>" in a document has the same id.

    Returns:
        B lengths, or None if the padding symbols are not exactly the positions behind each document. The model then
        has to find the lengths itself.
    """
    is_document = torch.arange(tokens.size(1)) < lengths.unsqueeze(1)
    return lengths.tolist() if torch.equal(tokens.ne(pad), is_document) else None
