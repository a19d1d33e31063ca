"""Meters of training besides the loss: tokens of documents per second, memory, and statistics of poolings."""

from __future__ import annotations

import math
import resource
import sys
from contextlib import contextmanager
from functools import partial
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

import torch
from fairseq.logging import metrics
from torch import Tensor, nn

from ..functional import Pooled
from ..models.pooling import RepresentationPooling

_TOKENS = "_source_tokens"
_KINDS = ("winner", "entropy", "spread")


class StrongestTokens(NamedTuple):
    """The token with the largest weight in each slot, the first of several. Both are 0 for empty slots."""

    weight: Tensor
    """(B, k') float32."""
    position: Tensor
    """(B, k') relative position in the document, from 0 to 1."""


def strongest_tokens(pooled: Pooled, padding_mask: Tensor | None, positions: Tensor) -> StrongestTokens:
    """Return the strongest token of each slot. The host does not wait for the device.

    Args:
        pooled: a pooling's result, with k' slots, and slots and weights (B, n).
        padding_mask: (B, n) bool, True on padding; None if there is none.
        positions: (B, n) relative position of each input in its document, from 0 to 1.
    """
    slots, weights = pooled.slot_of_token, pooled.weights.float()  # (B, n)
    if padding_mask is not None:
        weights = weights.masked_fill(padding_mask, 0)
    zeros = weights.new_zeros(len(weights), pooled.embeddings.size(1))
    slot_weight = zeros.scatter_reduce(1, slots, weights, "amax")  # (B, k')
    is_strongest = (weights == slot_weight.gather(1, slots)) & (weights > 0)  # (B, n), several per slot if equal
    length = slots.size(1)
    index = torch.arange(length, device=slots.device).expand_as(slots).masked_fill(~is_strongest, length)
    strongest = index.new_full(slot_weight.shape, length).scatter_reduce(1, slots, index, "amin")  # (B, k')
    position = positions.gather(1, strongest.clamp(max=length - 1)).masked_fill(slot_weight == 0, 0)
    return StrongestTokens(slot_weight, position)


def pooling_statistics(
    pooled: Pooled,
    padding_mask: Tensor | None,
    strongest: StrongestTokens,
    scores: Tensor | None = None,
    probabilities: bool = True,
    k: int = 1,
) -> dict[str, Tensor]:
    """Sum statistics over the documents that were pooled, those longer than k tokens.

    * ``winner``: the mean weight of the strongest token in its slot, from 1/n to 1;
    * ``entropy``: the entropy of the scores as a distribution over the document's tokens, divided by log(n); 1 is
      uniform;
    * ``spread``: the standard deviation of the strongest tokens' positions, divided by that of a uniform distribution
      over the document; 1 is uniform, and a contiguous part of the document has the share that it covers.

    Args:
        pooled: a pooling's result, with k' slots, and slots and weights (B, n).
        padding_mask: (B, n) bool, True on padding; None if there is none.
        strongest: see :func:`strongest_tokens`.
        scores: (B, n), where those of padding are ignored; None for no ``entropy``.
        probabilities: whether scores are proportional to the distribution; otherwise they are logits.
        k: number of vectors that the pooling keeps.

    Returns:
        0-dim float32 tensors by name, with the number of ``documents``. The host does not wait for the device.
    """
    slots = pooled.slot_of_token
    is_token = torch.ones_like(slots, dtype=torch.bool) if padding_mask is None else ~padding_mask  # (B, n)
    num_tokens = is_token.sum(dim=1)  # (B,)
    was_pooled = (num_tokens > k).float()  # (B,)
    is_taken = strongest.weight > 0  # (B, k')
    num_taken = is_taken.sum(dim=1).clamp(min=1)  # (B,)
    mean = strongest.position.sum(dim=1) / num_taken  # (B,)
    deviations = strongest.position - mean.unsqueeze(1)  # (B, k')
    variance = (deviations.square() * is_taken).sum(dim=1) / num_taken  # (B,)
    sums = {
        "documents": was_pooled.sum(),
        "winner": (strongest.weight.sum(dim=1) / num_taken * was_pooled).sum(),
        "spread": (variance.sqrt() * math.sqrt(12) * was_pooled).sum(),
    }
    if scores is not None:
        entropy = _entropy(scores.float(), is_token, probabilities)  # (B,)
        sums["entropy"] = (entropy / num_tokens.clamp(min=2).log() * was_pooled).sum()
    return sums


def _entropy(scores: Tensor, is_token: Tensor, probabilities: bool) -> Tensor:
    """Return the entropy in nats: (B, n) float32, (B, n) bool -> (B,)."""
    if probabilities:
        share = scores.clamp(min=0).masked_fill(~is_token, 0)
        share = share / share.sum(dim=1, keepdim=True).clamp(min=torch.finfo(share.dtype).tiny)
    else:
        share = scores.masked_fill(~is_token, -math.inf).softmax(dim=1)
    return -torch.xlogy(share, share).sum(dim=1)


class PoolingMeters:
    """Collects statistics of a model's poolings in training, with their callback ``on_pooled``.

    The poolings run outside of activation checkpointing, once per step, in the order of their layers.

    Args:
        model: the model; None, or a model without poolings, yields no statistics.
    """

    def __init__(self, model: nn.Module | None = None):
        modules = [] if model is None else model.named_modules()
        #: Keyed by the layer after which it pools, counted from 1.
        self.poolings = {
            name.rpartition(".")[2]: module for name, module in modules if isinstance(module, RepresentationPooling)
        }
        self.sums: dict[str, Tensor] = {}
        self._positions: Tensor | None = None

    @contextmanager
    def watch(self) -> Iterator[dict[str, Tensor]]:
        """Collect entries of a logging output from the forward passes in this context."""
        self.sums, self._positions = {}, None
        try:
            for layer, pooling in self.poolings.items():
                pooling.on_pooled = partial(self._measure, layer)
            yield self.sums
        finally:
            for pooling in self.poolings.values():
                pooling.on_pooled = None
            self._positions = None

    @torch.no_grad()
    def _measure(self, layer: str, scores: Tensor | None, padding_mask: Tensor | None, pooled: Pooled) -> None:
        pooling, positions = self.poolings[layer], self._positions
        if positions is None or layer == next(iter(self.poolings)):
            positions = relative_positions(pooled.slot_of_token, padding_mask)
        scorer = pooling.scorer
        pooled = Pooled._make(part.detach() if isinstance(part, Tensor) else part for part in pooled)
        strongest = strongest_tokens(pooled, padding_mask, positions)
        self._positions = strongest.position
        probabilities = scorer is None or scorer.bounded or scorer.activation != "none"
        sums = pooling_statistics(pooled, padding_mask, strongest, scores, probabilities, pooling.k)
        for kind, value in sums.items():
            name = f"_pool{layer}_{kind}"
            self.sums[name] = self.sums[name] + value if name in self.sums else value


def relative_positions(like: Tensor, padding_mask: Tensor | None) -> Tensor:
    """Return the relative positions of tokens in their documents, (B, n) float32 from 0 to 1."""
    index = torch.arange(like.size(1), device=like.device, dtype=torch.float32).expand(like.shape)
    if padding_mask is None:
        return index / max(1, like.size(1) - 1)
    last = (~padding_mask).sum(dim=1, keepdim=True) - 1
    return (index / last.clamp(min=1)).clamp(max=1)


def source_tokens(sample: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the batch's number of document tokens, as an entry of a logging output."""
    return {_TOKENS: sample["net_input"]["src_lengths"].sum()}


def log_training(logging_outputs: Sequence[Mapping[str, Any]]) -> None:
    """Log ``src_wps``, tokens of documents per second, and ``pool{layer}_{kind}``, means over documents.

    fairseq has read the gradient norm before, so that the host does not have to wait for the device here.
    """
    keys = [
        key for key in (logging_outputs[0] if logging_outputs else ()) if key == _TOKENS or key.startswith("_pool")
    ]
    totals = {key: float(torch.stack([torch.as_tensor(log[key]) for log in logging_outputs]).sum()) for key in keys}
    if _TOKENS in totals:
        metrics.log_speed("src_wps", totals[_TOKENS], priority=91, round=1)
    for key, documents in totals.items():
        if key.endswith("_documents") and documents:
            layer = key[1 : -len("_documents")]
            for kind in _KINDS:
                if f"_{layer}_{kind}" in totals:
                    mean = totals[f"_{layer}_{kind}"] / documents
                    metrics.log_scalar(f"{layer}_{kind}", mean, weight=documents, priority=600, round=3)


class PeakMemory:
    """Peak memory of this process, in GB (2**30 bytes)."""

    def __init__(self) -> None:
        self.highest = 0.0

    def log(self) -> None:
        """Log ``gb_peak``: the memory allocated by torch on a GPU, or the resident memory of the process.

        It has to be called after the optimizer's step, because fairseq resets torch's counter after every update.
        """
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            now = torch.cuda.max_memory_allocated() / 2**30
        else:
            unit = 1 if sys.platform == "darwin" else 2**10
            now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
        self.highest = max(self.highest, now)
        metrics.log_scalar("gb_peak", self.highest, weight=0, priority=1400, round=2)
