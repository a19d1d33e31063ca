"""fairseq is imported without scikit-learn and SciPy's statistics, which it calls in two tasks: two seconds less."""

from __future__ import annotations

import contextlib
import importlib
import sys
from types import ModuleType
from typing import Any, Callable, Iterator


class LaterModule(ModuleType):
    """A module whose functions import the real one when they are called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function that calls the one of this name in the real module."""
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return call


@contextlib.contextmanager
def metrics_imported_later() -> Iterator[None]:
    """Have scikit-learn's metrics and SciPy's statistics imported when fairseq calls them, not with fairseq.

    ``fairseq.tasks.audio_classification`` and ``fairseq.criterions.sentence_prediction`` import both at the top, and
    pandas with them. Inside this context they get :class:`LaterModule`; whoever imports these packages after it gets
    the real ones. Where fairseq has been imported before, or one of the packages, nothing is changed.
    """
    scikit_learn = ModuleType("sklearn")
    scikit_learn.__path__ = []
    later = {"sklearn": scikit_learn, **{name: LaterModule(name) for name in ("sklearn.metrics", "scipy.stats")}}
    scikit_learn.metrics = later["sklearn.metrics"]  # type: ignore[attr-defined]
    if any(name in sys.modules for name in ("fairseq", *later)):
        later = {}
    sys.modules.update(later)
    try:
        yield
    finally:
        for name in later:
            del sys.modules[name]
