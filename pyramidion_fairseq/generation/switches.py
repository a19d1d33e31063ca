"""Switches for a model's generation: fairseq's own caches, and CUDA graphs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import ContextManager, Iterator

from torch import nn


def set_plain_generation(model: nn.Module, on: bool = True) -> None:
    """Set whether the model generates like stock fairseq, with documents and caches repeated for every hypothesis."""
    _set(model, "plain_generation", on)


def set_cuda_graphs(model: nn.Module, on: bool = True) -> None:
    """Set whether the model captures and replays generation steps, where its device can; see :mod:`.cuda_graph`."""
    _set(model, "cuda_graphs", on)


def plain_generation(*models: nn.Module) -> ContextManager[None]:
    """Let models generate like stock fairseq within the context: the reference with equal results, but slower."""
    return _switched_on("plain_generation", models)


def cuda_graphs(*models: nn.Module) -> ContextManager[None]:
    """Let models capture generation steps and replay them within the context, with equal tokens and scores."""
    return _switched_on("cuda_graphs", models)


def _set(model: nn.Module, name: str, on: bool) -> None:
    for module in model.modules():
        if hasattr(module, name):
            setattr(module, name, on)


@contextmanager
def _switched_on(name: str, models: tuple[nn.Module, ...]) -> Iterator[None]:
    modules = [module for model in models for module in model.modules() if hasattr(module, name)]
    before = [getattr(module, name) for module in modules]
    for module in modules:
        setattr(module, name, True)
    try:
        yield
    finally:
        for module, value in zip(modules, before):
            setattr(module, name, value)
