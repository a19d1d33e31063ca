"""``--model-overrides``: options of a checkpoint that a command changes. fairseq ignores unknown names."""

from __future__ import annotations

import ast
import difflib
from argparse import Namespace
from typing import Any, Iterator, Mapping

from omegaconf import DictConfig

from ..errors import PyramidionError


def parse(text: str) -> dict[str, Any]:
    """Return what was typed.

    Args:
        text: a dictionary as Python writes it.

    Raises:
        PyramidionError: it is none; says how one is written.
    """
    try:
        overrides = ast.literal_eval(text)
        if isinstance(overrides, dict):
            return overrides
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    raise PyramidionError(f"--model-overrides {text!r:.200} is no dictionary, as \"{{'dropout': 0.1}}\"")


def check_names(cfg: Any, overrides: Mapping[str, Any], filename: str) -> None:
    """Refuse names that no option of a checkpoint has.

    Args:
        cfg: the checkpoint's options; None of an older one, which fairseq gives any name.
        overrides: names and values that are to replace some; of ``fairseq-validate``, all of its own options.
        filename: of the checkpoint.

    Raises:
        PyramidionError: says which name may be meant.
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
    """Yield the names of a group and of the groups in it; None for a namespace, which takes any name."""
    for name, value in group.items_ex(resolve=False):
        yield str(name)
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_missing():
            yield from _names(value)
        elif isinstance(value, Namespace):
            yield None
