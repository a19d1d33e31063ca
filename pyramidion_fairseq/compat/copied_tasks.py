"""Copies of tasks, and so of loaded summarisers, which hold one."""

from __future__ import annotations

from typing import Any

from .marks import mark


def install() -> None:
    """Let ``copy.deepcopy`` copy a task. Calling it again does nothing.

    Of an object that is still empty, as that of a copy is at first, fairseq looks up attributes without end.
    """
    from fairseq.tasks.fairseq_task import StatefulContainer

    stock = StatefulContainer.__getattr__
    if getattr(stock, "ends", False):
        return

    def get(self: Any, name: str) -> Any:
        if name in ("_state", "_factories"):
            raise AttributeError(name)
        return stock(self, name)

    StatefulContainer.__getattr__ = mark(get, "ends")
