"""fairseq is imported without scikit-learn and SciPy's statistics, which it calls in two tasks: two seconds less."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import sys
from types import ModuleType
from typing import Any, Callable, Iterator, Mapping, Sequence

#: Modules of fairseq that import at their top what only their tasks call; pandas comes with it.
IMPORTERS = ("fairseq.criterions.sentence_prediction", "fairseq.tasks.audio_classification")
LATER = ("scipy.stats", "sklearn", "sklearn.metrics")


class LaterModule(ModuleType):
    """A module whose functions import the real one when they are called."""

    def __getattr__(self, name: str) -> Callable[..., Any] | LaterModule:
        """Return a function that calls the one of this name in the real module; of a package, a module in it."""
        if name.startswith("__"):
            raise AttributeError(name)
        if f"{self.__name__}.{name}" in LATER:
            return LaterModule(f"{self.__name__}.{name}")

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return call


@contextlib.contextmanager
def metrics_imported_later() -> Iterator[None]:
    """Have the packages of ``LATER`` imported when fairseq calls them, not when fairseq is imported in this context.

    Only the import statements of ``IMPORTERS`` get a :class:`LaterModule`; all others are as ever. Where fairseq or a
    package of ``LATER`` has been imported before, nothing is changed.
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
