"""A loaded model as what the server calls."""

from __future__ import annotations

from typing import Any, Protocol

from ...text import Document
from ..explain.types import Explanation
from .worker import Stop


class Engine(Protocol):
    """What the server needs of a model: an explained summary of a document, with calls of ``stop`` in between."""

    def __call__(self, document: Document, stop: Stop, **generation: int) -> Explanation:
        """Summarise with options of generation; those that are not given are the server's."""


class ModelEngine:
    """Summarises with a model; asks before every layer of the encoder and every step of the decoder whether to go on.

    What cannot be stopped is what lies between: splitting the document into words and tokens, one layer or one step,
    and the explanation of a finished summary.

    Args:
        hub: what ``load_summarizer`` returns.
        generation: options of ``summarize``.

    Raises:
        PyramidionError: no request could be served with these options.
    """

    def __init__(self, hub: Any, **generation: Any):
        hub.summarize([], **generation)  # or each request would be told of what only the server's options can mend
        self.hub, self.generation = hub, generation
        self._stop: Stop | None = None
        for model in hub.models:
            for layer in model.encoder.layers:
                layer.register_forward_pre_hook(self._ask)

    @property
    def max_tokens(self) -> int:
        """Tokens of a document that the model reads."""
        return self.hub.max_source_length

    def __call__(self, document: Document, stop: Stop, **generation: int) -> Explanation:
        """Summarise; not to be called by two threads at a time. ``generation`` goes before the engine's own options.

        Raises:
            Stopped: ``stop`` said so.
            PyramidionError: there is nothing in the document that the model could read.
        """
        self._ask_at_steps(stop)  # hooks on the decoder's layers would keep it from its fast path
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
