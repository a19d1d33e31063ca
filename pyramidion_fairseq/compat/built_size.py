"""How large a model may get that is built by the options of a checkpoint: not much larger than its tensors."""

import contextlib
from typing import Any, Iterator, Mapping

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from ..errors import PyramidionError

#: A parameter that several modules share is counted in each, and once more where it takes the place of another.
MOST_TIMES = 4
#: Numbers that any model may have.
SPARE = 2**24


@contextlib.contextmanager
def bounded(name: object, tensors: Mapping[str, Any], shards: int = 1) -> Iterator[None]:
    """Refuse, while modules are made, more parameters than a checkpoint's tensors can fill.

    Args:
        name: what is said to hold them.
        tensors: the checkpoint's ``model``.
        shards: of how many files like this one the model is made.

    Raises:
        PyramidionError: a module gets a parameter that is too many, before its values are set.
    """
    there = shards * sum(value.numel() for value in tensors.values() if torch.is_tensor(value))
    most = MOST_TIMES * there + SPARE
    made = 0

    def count(module: torch.nn.Module, key: str, parameter: Any) -> None:
        nonlocal made
        made += 0 if parameter is None else parameter.numel()
        if made > most:
            raise PyramidionError(
                f"{name} cannot be loaded: its options describe a model of more than {most:,} numbers, but the file "
                f"has {there:,}"
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()
