"""What custom operators say where someone differentiates them twice, or traces them."""

from __future__ import annotations

from typing import Any, NoReturn

import torch


def refuse_second_derivative(*_: Any) -> NoReturn:
    """Stand as the derivative of an operator that is itself a derivative.

    Raises:
        RuntimeError: always.
    """
    raise RuntimeError(
        "pooling is differentiable once, and this asks for its second derivative: differentiate without "
        "create_graph=True, or take the slow functions of pyramidion_fairseq.functional.reference"
    )


def refuse_tracing() -> None:
    """Refuse to be recorded by ``torch.jit.trace``: the tournament's size would be that of the example's length.

    Raises:
        RuntimeError: a trace is going on.
    """
    if torch.jit.is_tracing():
        raise RuntimeError(
            "successive_halving_topk cannot be recorded by torch.jit.trace, as its rounds depend on the number of "
            "tokens: take torch.compile"
        )
