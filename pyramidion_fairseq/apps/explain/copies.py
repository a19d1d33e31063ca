"""Which tokens of a summary were copied, and from which tokens of the document: what a pointer did, exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...functional import CopySource, mix_log_probabilities, token_copies, writing_gate

if TYPE_CHECKING:
    from ...models.pointer import PointerOutput

#: Places that are kept of each summary token, at most.
PLACES = 64
#: Summary tokens whose probabilities over the document's tokens, and over the vocabulary, exist at a time.
ROWS = 32


class TokenCopies(NamedTuple):
    """Of one summary of t tokens, ``</s>`` counted: what is known once the tokens are."""

    shares: Tensor
    """(t,) probability that the token was copied, and not written from the vocabulary; float32 at least."""
    positions: Tensor
    """(t, m) int64 positions of the document's tokens that it was copied from, the likeliest first."""
    weights: Tensor
    """(t, m) probability of each position, given that the token was copied; rows sum to at most one."""

    def first_tokens(self, steps: int) -> TokenCopies:
        """Return the same of the first tokens, on the CPU."""
        return TokenCopies(*(part[:steps].cpu() for part in self))


@torch.no_grad()
def find_copies(decoder: Any, features: Tensor, pointer: PointerOutput, tokens: Tensor) -> list[TokenCopies]:
    """Return the copies of B finished summaries.

    The mixture gives a token y the probability ``write * p(y) + copy * sum of c(i) over positions i with token y``. So
    it was copied with the second part's share in it, and from position i with c(i) over that sum.

    Args:
        decoder: whose ``output_layer`` gives the logits.
        features: (B, t, C) what it reads.
        pointer: of the same rows.
        tokens: (B, t) int64, the summaries.
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
    """Compute copies of r tokens.

    (r,) logs of writing them, (r, n) probabilities of copying, (r,) logs of both gates.
    """
    mass = copied.sum(dim=1)
    shares = (copy + mass.log() - mix_log_probabilities(written, write, mass, copy)).exp().clamp(max=1)
    weights, positions = (copied / mass.clamp(min=torch.finfo(mass.dtype).tiny).unsqueeze(1)).topk(
        min(PLACES, copied.size(1)), dim=1
    )
    return TokenCopies(shares, positions, weights)
