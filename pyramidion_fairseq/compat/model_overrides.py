"""Checks of ``--model-overrides``, which changes a checkpoint's options. fairseq ignores unknown names."""

from __future__ import annotations

import ast
import difflib
from argparse import Namespace
from typing import Any, Iterator, Mapping

from omegaconf import DictConfig

from ..errors import PyramidionError


def parse(text: str) -> dict[str, Any]:
    """Parse the text of ``--model-overrides``.

    Args:
        text: a dictionary in Python's syntax.

    Raises:
        PyramidionError: the text is not a dictionary.
    """
    try:
        overrides = ast.literal_eval(text)
        if isinstance(overrides, dict):
            return overrides
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    raise PyramidionError(f"--model-overrides {text!r:.200} is not a dictionary such as \"{{'dropout': 0.1}}\"")


def check_names(cfg: Any, overrides: Mapping[str, Any], filename: str) -> None:
    """Refuse names that are not options of a checkpoint.

    Args:
        cfg: the checkpoint's options; None for an older checkpoint, for which fairseq accepts any name.
        overrides: new values by name; for ``fairseq-validate``, all of its own options.
        filename: name of the checkpoint's file, for the error message.

    Raises:
        PyramidionError: a name is unknown; the message suggests a similar one.
    """
    if not isinstance(cfg, DictConfig):
        return
    known, typed = set(_names(cfg)), overrides.get("model_overrides", overrides)
    for name in parse(typed) if isinstance(typed, str) else typed:
        if None not in known and name not in known:
            near = difflib.get_close_matches(str(name), [str(other) for other in known], n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise PyramidionError(f"--model-overrides: {filename} has no option {name!r}{hint}")


def _names(group: DictConfig) -> Iterator[str | None]:
    """Yield the names in a group and its subgroups, and None for a namespace, which accepts any name."""
    for name, value in group.items_ex(resolve=False):
        yield str(name)
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_missing():
            yield from _names(value)
        elif isinstance(value, Namespace):
            yield None
