"""The exact probabilities with which a pointer copied each token of a summary, and from which positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...functional import CopySource, mix_log_probabilities, token_copies, writing_gate

if TYPE_CHECKING:
    from ...models.pointer import PointerOutput

#: Maximum number of positions that are stored for each summary token.
PLACES = 64
#: Number of summary tokens that are processed at once, each with probabilities over document and vocabulary.
ROWS = 32


class TokenCopies(NamedTuple):
    """The copies of one summary of t tokens (including ``</s>``), given its tokens."""

    shares: Tensor
    """(t,) float32 at least: probability that the token was copied, not written from the vocabulary."""
    positions: Tensor
    """(t, m) int64: positions in the document that it was copied from, the most probable first."""
    weights: Tensor
    """(t, m) probability of each position, given that the token was copied; rows sum to at most one."""

    def first_tokens(self, steps: int) -> TokenCopies:
        """Return the copies of the first tokens, on the CPU."""
        return TokenCopies(*(part[:steps].cpu() for part in self))


@torch.no_grad()
def find_copies(decoder: Any, features: Tensor, pointer: PointerOutput, tokens: Tensor) -> list[TokenCopies]:
    """Compute the copies of B finished summaries.

    The mixture gives a token y the probability ``write * p(y) + copy * sum of c(i) over positions i with token y``. So
    the probability that it was copied is the share of the second term, and that of position i is c(i) over the sum.

    Args:
        decoder: decoder whose ``output_layer`` computes the logits.
        features: (B, t, C) input of the output layer.
        pointer: output of the pointer for the same rows.
        tokens: (B, t) int64: the summaries.
    """
    copies = []
    for row in range(len(tokens)):
        source = CopySource(*(part[row : row + 1] for part in pointer.source))
        parts = []
        for steps in torch.arange(tokens.size(1)).split(ROWS):
            start, end = int(steps[0]), int(steps[-1]) + 1
            targets = tokens[row, start:end]
            logits = decoder.output_layer(features[row, start:end].unsqueeze(0))[0]
            written = logits.log_softmax(dim=1, dtype=pointer.attention.dtype).gather(1, targets.unsqueeze(1))[:, 0]
            copied, left = token_copies(
                pointer.attention[row : row + 1, start:end],
                source,
                pointer.history[row : row + 1, start:end],
                pointer.continued[row : row + 1, start:end],
            )
            write, copy = pointer.log_write[row, start:end], pointer.log_copy[row, start:end]
            write = writing_gate(write, copy, left[0])
            parts.append(_copies_of(written, copied[0] * (source.tokens == targets.unsqueeze(1)), write, copy))
        copies.append(TokenCopies(*map(torch.cat, zip(*parts))))
    return copies


def _copies_of(written: Tensor, copied: Tensor, write: Tensor, copy: Tensor) -> TokenCopies:
    """Compute the copies of r tokens.

    Args:
        written: (r,) log probabilities of writing the tokens.
        copied: (r, n) probabilities of copying them.
        write, copy: (r,) log probabilities of both gates.
    """
    mass = copied.sum(dim=1)
    shares = (copy + mass.log() - mix_log_probabilities(written, write, mass, copy)).exp().clamp(max=1)
    weights, positions = (copied / mass.clamp(min=torch.finfo(mass.dtype).tiny).unsqueeze(1)).topk(
        min(PLACES, copied.size(1)), dim=1
    )
    return TokenCopies(shares, positions, weights)
