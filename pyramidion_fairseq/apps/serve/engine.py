"""The engine that the server calls to summarise a document."""

from __future__ import annotations

from typing import Any, Protocol

from ...text import Document
from ..explain.types import Explanation
from .worker import Stop


class Engine(Protocol):
    """The interface that the server requires: summarises and explains a document, and calls ``stop`` regularly."""

    def __call__(self, document: Document, stop: Stop, **generation: int) -> Explanation:
        """Summarise a document; generation options that are not given are the server's."""


class ModelEngine:
    """Summarises with a model; calls ``stop`` before every encoder layer and every decoder step.

    A single layer or step, tokenization, and the explanation of a finished summary cannot be interrupted.

    Args:
        hub: the result of ``load_summarizer``.
        generation: options of ``summarize``.

    Raises:
        PyramidionError: the options are invalid.
    """

    def __init__(self, hub: Any, **generation: Any):
        hub.summarize([], **generation)  # check the options now, not at the first request
        self.hub, self.generation = hub, generation
        self._stop: Stop | None = None
        for model in hub.models:
            for layer in model.encoder.layers:
                layer.register_forward_pre_hook(self._ask)

    @property
    def max_tokens(self) -> int:
        """Maximum tokens of a document that the model reads."""
        return self.hub.max_source_length

    def __call__(self, document: Document, stop: Stop, **generation: int) -> Explanation:
        """Summarise a document; not thread-safe. ``generation`` overrides the engine's own options.

        Raises:
            Stopped: raised by ``stop``.
            PyramidionError: the document has nothing that the model can read.
        """
        self._ask_at_steps(stop)  # hooks on the decoder's layers would disable its fast path
        self._stop = stop
        try:
            (summary,) = self.hub.summarize(document, with_provenance=True, **{**self.generation, **generation})
        finally:
            self._stop = None
            self._ask_at_steps(None)
        stop()
        return summary.explain()

    def _ask_at_steps(self, stop: Stop | None) -> None:
        for model in self.hub.models:
            model.decoder.before_step = stop

    def _ask(self, *_: Any) -> None:
        if self._stop is not None:
            self._stop()
