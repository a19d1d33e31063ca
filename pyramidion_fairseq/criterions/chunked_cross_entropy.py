"""Cross-entropy with optional label smoothing that never materialises the logits of a whole batch."""

# No postponed annotations: fairseq reads the config's types.
from dataclasses import dataclass
from typing import Any, Dict, Tuple

import torch
from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..errors import PyramidionError
from ..functional.projected_softmax import target_log_softmax


@dataclass
class ChunkedCrossEntropyConfig(LabelSmoothedCrossEntropyCriterionConfig):
    """Options of ``label_smoothed_cross_entropy``."""


@register_criterion("chunked_cross_entropy", dataclass=ChunkedCrossEntropyConfig)
class ChunkedCrossEntropyCriterion(LabelSmoothedCrossEntropyCriterion):
    """``cross_entropy`` and ``label_smoothed_cross_entropy``, computed together with the output projection.

    The logits of 64 summaries of 512 tokens over 32,000 symbols have 4.2 GB in float32, and so has their gradient.
    Here they are computed in chunks (:func:`~pyramidion_fairseq.functional.projected_softmax.target_log_softmax`).
    Models without a plain linear projection are refused.
    """

    def compute_loss(
        self, model: Any, net_output: Any, sample: Dict[str, Any], reduce: bool = True
    ) -> Tuple[Tensor, Tensor]:
        """Return (loss, negative log-likelihood), summed over the targets if ``reduce``."""
        features, extra = net_output
        targets = sample["target"]
        pointer = extra.get("pointer")
        if self.ignore_prefix_size:
            raise PyramidionError("--ignore-prefix-size is not supported by chunked_cross_entropy: omit the option")
        if pointer is not None and self.eps > 0:
            at_target, total = self._mixed(model, features, pointer, targets)
        else:
            weight = model.decoder.output_projection.weight
            at_target, total = target_log_softmax(features.flatten(0, 1), weight, targets.flatten())
            if pointer is not None:
                written = at_target.view_as(targets)
                at_target = pointer.target_log_probabilities(written, targets, len(weight)).flatten()
        is_padding = targets.flatten().eq(self.padding_idx)
        nll = -at_target.masked_fill(is_padding, 0)
        each = self.eps / (len(model.decoder.dictionary) - 1)
        loss = (1 - self.eps - each) * nll - each * total.masked_fill(is_padding, 0) if self.eps else nll
        return (loss.sum(), nll.sum()) if reduce else (loss, nll)

    def forward(self, model: Any, sample: Dict[str, Any], reduce: bool = True) -> Tuple[Tensor, int, Dict[str, Any]]:
        """Compute the loss as fairseq does, with the decoder's features instead of logits."""
        batch = {**sample, "net_input": {**sample["net_input"], "features_only": True}}
        return super().forward(model, batch, reduce)

    @torch.no_grad()
    def compute_accuracy(self, model: Any, net_output: Any, sample: Dict[str, Any]) -> Tuple[Tensor, Tensor]:
        """Return how many targets are the most probable symbol, and how many there are, for ``--report-accuracy``.

        Holds the logits of one document at a time.
        """
        (features, extra), targets = net_output, sample["target"]
        mask = targets.ne(self.padding_idx)
        correct = torch.zeros_like(mask)
        for number in range(len(features)):
            row = slice(number, number + 1)
            logits = model.decoder.output_layer(features[row])
            if extra.get("pointer") is not None:
                logits = extra["pointer"].documents(row).log_probabilities(logits)
            correct[row] = logits.argmax(dim=2).eq(targets[row])
        return (correct & mask).sum(), mask.sum()

    def _mixed(self, model: Any, features: Tensor, pointer: Any, targets: Tensor) -> Tuple[Tensor, Tensor]:
        """Do as ``target_log_softmax`` with a pointer, one document at a time, which is recomputed in backward."""

        def of_document(features: Tensor, targets: Tensor, pointer: Any) -> Tuple[Tensor, Tensor]:
            mixed = pointer.log_probabilities(model.decoder.output_layer(features))
            return mixed.gather(2, targets.unsqueeze(2)).flatten(), mixed.sum(dim=2).flatten()

        results = []
        for number in range(len(features)):
            row = slice(number, number + 1)
            arguments = features[row], targets[row], pointer.documents(row)
            results.append(checkpoint(of_document, *arguments, use_reentrant=False))
        at_target, total = zip(*results)
        return torch.cat(at_target), torch.cat(total)
