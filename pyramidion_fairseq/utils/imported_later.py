"""Deferred imports of scikit-learn and SciPy's statistics, which only two tasks of fairseq need. Saves two seconds."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import sys
from types import ModuleType
from typing import Any, Callable, Iterator, Mapping, Sequence

#: Modules of fairseq that import packages at the top which only their tasks call. The packages also import pandas.
IMPORTERS = ("fairseq.criterions.sentence_prediction", "fairseq.tasks.audio_classification")
LATER = ("scipy.stats", "sklearn", "sklearn.metrics")


class LaterModule(ModuleType):
    """Placeholder module whose functions import the real module when they are called."""

    def __getattr__(self, name: str) -> Callable[..., Any] | LaterModule:
        """Return a function that calls its namesake in the real module, or the placeholder of a submodule."""
        if name.startswith("__"):
            raise AttributeError(name)
        if f"{self.__name__}.{name}" in LATER:
            return LaterModule(f"{self.__name__}.{name}")

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return call


@contextlib.contextmanager
def metrics_imported_later() -> Iterator[None]:
    """Defer the imports of the packages in ``LATER`` until fairseq calls them, if fairseq is imported in this context.

    Only the import statements of ``IMPORTERS`` get a :class:`LaterModule`. Nothing changes if fairseq or a package of
    ``LATER`` has already been imported.
    """
    stock = builtins.__import__

    def import_(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if name in LATER and name not in sys.modules and fromlist and (globals or {}).get("__name__") in IMPORTERS:
            return LaterModule(name)
        return stock(name, globals, locals, fromlist, level)

    builtins.__import__ = import_
    try:
        yield
    finally:
        builtins.__import__ = stock
