"""Pointer-generator on the pooled vectors (See et al. 2017): each summary token is written, copied or continued."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import (
    CopySource,
    copy_attention,
    copy_distribution,
    copy_probability,
    histories,
    mix_log_probabilities,
    mix_token_copies,
    token_copies,
    writing_gate,
)


class PointerOutput(NamedTuple):
    """Output of the pointer for B documents with q rows each: summary tokens, or hypotheses of generation."""

    gates: Tensor
    """(B, q, 3) log probabilities of writing, of copying, and of continuing a copied passage; at least float32."""
    attention: Tensor
    """(B, q, k) attention to the vectors that hold tokens, at least float32. Rows sum to one."""
    history: Tensor
    """(B, q, h) int64 tokens before each row's token, the latest first."""
    source: CopySource
    """Tokens of the documents."""

    @property
    def log_write(self) -> Tensor:
        """(B, q) log of the writing gate."""
        return self.gates[..., 0]

    @property
    def log_copy(self) -> Tensor:
        """(B, q) log of the copying gate, including continued copies."""
        return torch.logsumexp(self.gates[..., 1:], dim=2)

    @property
    def continued(self) -> Tensor:
        """(B, q) probability of continuing among copies."""
        return torch.sigmoid(self.gates[..., 2] - self.gates[..., 1])

    def documents(self, part: slice) -> PointerOutput:
        """Return the output for some of the documents."""
        return PointerOutput(
            self.gates[part],
            self.attention[part],
            self.history[part],
            CopySource(*(tensor[part] for tensor in self.source)),
        )

    def target_log_probabilities(self, written: Tensor, targets: Tensor, vocabulary: int) -> Tensor:
        """Return the log probability of each target.

        Args:
            written: (B, q) log probability of each target under the softmax over the vocabulary.
            targets: (B, q) int64 ids.
            vocabulary: V.
        """
        copied, left = copy_probability(self.attention, self.source, targets, self.history, self.continued, vocabulary)
        write = writing_gate(self.log_write, self.log_copy, left)
        return mix_log_probabilities(written.to(copied.dtype), write, copied, self.log_copy)

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Return the log probability of all tokens: (R, t, V) logits -> (R, t, V), at least float32.

        The R rows may be several hypotheses per document: B * beam rows, with the hypotheses of a document adjacent.
        """
        written = F.log_softmax(logits, dim=-1, dtype=self.attention.dtype).view(*self.gates.shape[:2], -1)
        copies = self.attention, self.source, self.history, self.continued
        if torch.is_grad_enabled():
            copied, left = copy_distribution(*copies, logits.size(-1))
            write, copy = writing_gate(self.log_write, self.log_copy, left).unsqueeze(2), self.log_copy.unsqueeze(2)
            return mix_log_probabilities(written, write, copied, copy).view(logits.shape)
        copied, left = token_copies(*copies)
        write = writing_gate(self.log_write, self.log_copy, left)
        return mix_token_copies(written, write, copied, self.log_copy, self.source.tokens).view(logits.shape)


class Pointer(nn.Module):
    """Gates of the mixture, computed from the decoder's last state.

    Args:
        dim: C, width of the decoder's output.
        layer: decoder layer whose attention to the document points, counted from 0.
        heads: number of its heads to average, the first ones.
        context: h, number of preceding summary tokens to match in the document for a continuation.
        bias: initial logit of the copying and continuing gates; that of writing is 0.
    """

    def __init__(self, dim: int, layer: int, heads: int, context: int, bias: float):
        super().__init__()
        self.layer, self.heads, self.context = layer, heads, context
        self.gate = nn.Linear(dim, 3)
        nn.init.zeros_(self.gate.weight)
        with torch.no_grad():
            self.gate.bias.copy_(torch.tensor([0.0, bias, bias]))

    def forward(self, features: Tensor, attention: Tensor, previous: Tensor, source: CopySource) -> PointerOutput:
        """Compute the gates.

        Args:
            features: (R, t, C) decoder output; R = B * beam, with the hypotheses of a document adjacent.
            attention: (R, t, k) attention of the layer's heads.
            previous: (R, s) int64 decoder inputs, the last t of which belong to the features.
            source: tokens of the B documents.
        """
        batch, rows = len(source.tokens), features.size(0) * features.size(1)
        gates = self.gate(features)
        gates = gates.log_softmax(dim=2, dtype=torch.promote_types(gates.dtype, torch.float32))
        history = histories(previous, self.context, features.size(1))
        gates, attention, history = (x.reshape(batch, rows // batch, x.size(2)) for x in (gates, attention, history))
        return PointerOutput(gates, copy_attention(attention, source), history, source)

    def extra_repr(self) -> str:
        return f"layer={self.layer}, heads={self.heads}, context={self.context}"
