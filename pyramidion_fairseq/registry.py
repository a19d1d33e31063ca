"""Registry of variants: attentions, scorers and poolers."""

from __future__ import annotations

import importlib
import pkgutil
from argparse import Namespace
from typing import Any, Callable, Generic, Iterable, Protocol, TypeVar


class Variant(Protocol):
    """Protocol of registered classes, which are built from the model's options."""

    @classmethod
    def from_config(cls, cfg: Namespace) -> Any:
        """Build from complete options (:func:`~pyramidion_fairseq.config.complete`)."""


T = TypeVar("T", bound=Variant)


class Registry(Generic[T]):
    """Registry of the subclasses of a base class. File name, registry name and command-line value are the same.

    Args:
        kind: kind of the variants, for messages, e.g. "scorer".
        base: base class of every entry, with a ``from_config(cfg)`` class method.
    """

    def __init__(self, kind: str, base: type[T]):
        self.kind, self.base = kind, base
        self._classes: dict[str, type[T]] = {}
        self._followers: list[Callable[[str], None]] = []

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Return a decorator that registers a class under the given name.

        Raises:
            ValueError: the name is already registered.
            TypeError: the class does not extend the registry's base class.
        """

        def add(cls: type[T]) -> type[T]:
            if name in self._classes:
                raise ValueError(f"{self.kind} {name!r} is registered already, as {self._classes[name]}")
            if not (isinstance(cls, type) and issubclass(cls, self.base)):
                raise TypeError(f"{self.kind} {name!r} must extend {self.base.__name__}")
            self._classes[name] = cls
            for follow in self._followers:
                follow(name)
            return cls

        return add

    def get(self, name: str) -> type[T]:
        """Return the class of the given name. Raises ValueError, with a list of all names, if it is unknown."""
        if name not in self._classes:
            raise ValueError("unknown {} {!r}; there are: {}".format(self.kind, name, ", ".join(self.names())))
        return self._classes[name]

    def build(self, name: str, cfg: Namespace) -> T:
        """Build the variant of the given name from complete options (:func:`~pyramidion_fairseq.config.complete`)."""
        return self.get(name).from_config(cfg)

    def name_of(self, cls: type) -> str:
        """Return the name under which a class is registered; its own where it is not."""
        return next((name for name, known in self._classes.items() if known is cls), cls.__name__)

    def names(self) -> list[str]:
        """Return all registered names, sorted."""
        return sorted(self._classes)

    def follow(self, call: Callable[[str], None]) -> None:
        """Call a function with every name that is registered from now on, for instance by a ``--user-dir``."""
        self._followers.append(call)


def import_variants(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, so that adding a variant takes a single new file."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
