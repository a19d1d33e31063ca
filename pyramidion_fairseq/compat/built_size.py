"""A limit on the size of a model that is built from a checkpoint's options: not much larger than its tensors."""

import contextlib
from typing import Any, Iterator, Mapping

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..errors import PyramidionError

#: A shared parameter is counted in each of its modules, and again if it replaces another parameter.
MOST_TIMES = 4
#: Parameters that any model may have in addition.
SPARE = 2**24


@contextlib.contextmanager
def bounded(name: object, tensors: Mapping[str, Any], shards: int = 1) -> Iterator[None]:
    """Refuse to build a model with many more parameters than a checkpoint's tensors have.

    Args:
        name: name of the file, for the error message.
        tensors: the checkpoint's ``model``.
        shards: number of files of this size that the model is read from.

    Raises:
        PyramidionError: a module registers a parameter that exceeds the limit.
    """
    there = shards * sum(value.numel() for value in tensors.values() if torch.is_tensor(value))
    most = MOST_TIMES * there + SPARE
    made = 0

    def count(module: torch.nn.Module, key: str, parameter: Any) -> None:
        nonlocal made
        made += 0 if parameter is None else parameter.numel()
        if made > most:
            raise PyramidionError(
                f"{name} cannot be loaded: its options describe a model of more than {most:,} parameters, but the "
                f"file has {there:,}"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
