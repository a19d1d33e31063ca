"""Error messages for failed updates, with the layer, the documents, and settings that need less memory."""

from __future__ import annotations

import contextlib
import logging
from typing import Any, Iterator

import fairseq.trainer
from torch import Tensor, nn

from ..errors import PyramidionError
from ..utils.memory import is_out_of_memory

logger = logging.getLogger(__name__)

#: Maximum number of documents that a message lists.
NAMED = 20


class NotFiniteError(PyramidionError, FloatingPointError):
    """The loss or a gradient is NaN or infinite."""


def install() -> None:
    """Make fairseq's trainer search for the cause of NaN with :class:`NonFiniteFinder`.

    fairseq's own detector fails on encoders, because torch's old backward hooks do not support a dict of lists.
    """
    fairseq.trainer.NanDetector = NonFiniteFinder


class NonFiniteFinder:
    """Context in which fairseq computes a failed batch again, to find the first tensor that is not finite.

    Args:
        model: the model, whose outputs and their gradients are checked in all modules.

    Raises:
        NotFiniteError: always, at the end of the context, unless another error is raised in it.
    """

    #: The finder whose context is active, or None.
    active: NonFiniteFinder | None = None

    def __init__(self, model: nn.Module):
        self.first: str | None = None
        self.documents: list[int] = []
        self.batches: list[list[int]] = []
        self.update = 0
        self._hooks = [
            module.register_forward_hook(self._watcher(name or "the model")) for name, module in model.named_modules()
        ]

    def __enter__(self) -> NonFiniteFinder:
        NonFiniteFinder.active = self
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        NonFiniteFinder.active = None
        for hook in self._hooks:
            hook.remove()
        if error is None:
            raise NotFiniteError(self._message())

    def _watcher(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for tensor in _floating(output):
                self._note_non_finite(tensor.detach(), f"the output of {name}")
                if tensor.requires_grad:
                    tensor.register_hook(
                        lambda gradient: self._note_non_finite(gradient, f"the gradient at the output of {name}")
                    )

        return hook

    def _note_non_finite(self, tensor: Tensor, where: str) -> None:
        if self.first is not None or tensor.isfinite().all():
            return
        what = "NaN" if tensor.isnan().any() else "an infinite number"
        self.first = f"{what} occurred first in {where}"
        self.documents = self.batches[-1] if self.batches else []
        if tensor.dim() > 1 and len(tensor) == len(self.documents) != tensor.size(1):  # dimension 0 is documents
            bad = ~tensor.flatten(1).isfinite().all(dim=1)
            self.documents = [document for document, hit in zip(self.documents, bad.tolist()) if hit]

    def _message(self) -> str:
        if self.first is None:
            documents = [document for batch in self.batches for document in batch]
            found = f"it is finite when computed again (with other dropout); the batch was {_named(documents)}"
        else:
            found = f"{self.first}, for {_named(self.documents)}"
        return (
            f"the loss or its gradient is not finite in update {self.update + 1}: {found} of the training data, "
            "counted from 0; the model is saved as crash.pt. Check these documents, lower --lr, or try --clip-norm 1"
        )


@contextlib.contextmanager
def diagnosed(sample: dict[str, Any], update: int) -> Iterator[None]:
    """Log advice if a forward and backward pass in this context runs out of memory.

    Args:
        sample: fairseq's batch; empty for a dummy batch.
        update: number of updates before this one.
    """
    if NonFiniteFinder.active is not None:
        NonFiniteFinder.active.update = update
        NonFiniteFinder.active.batches.append(sample["id"].tolist() if sample else [])
    try:
        yield
    except RuntimeError as error:
        if sample and is_out_of_memory(error):
            logger.warning(out_of_memory_advice(sample))
        raise


def out_of_memory_advice(sample: dict[str, Any]) -> str:
    """Return a message with the lengths that did not fit, and settings that need half the memory.

    Args:
        sample: fairseq's batch with ``net_input.src_tokens`` (B, T) and ``target`` (B, t).
    """
    count, length = sample["net_input"]["src_tokens"].shape
    target = sample["target"].size(1)
    fewer = f"--batch-size {count // 2} or " if count > 1 else ""
    return (
        f"out of memory with {count} documents of up to {length:,} tokens and summaries of up to {target:,} "
        f"({count * length:,} tokens with padding): {fewer}--max-tokens {max(length, count * length // 2)} with twice "
        "the --update-freq needs half as much; --checkpoint-activations needs less without changing the batch"
        + (f"; --max-source-positions {length // 2} truncates the documents" if count == 1 else "")
    )


def _floating(output: Any) -> Iterator[Tensor]:
    """Yield all floating-point tensors in the output of a module."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _floating(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _floating(value)


def _named(documents: list[int]) -> str:
    more = f" and {len(documents) - NAMED} more" if len(documents) > NAMED else ""
    return "document" + "s" * (len(documents) != 1) + " " + ", ".join(map(str, documents[:NAMED])) + more
