"""Loading checkpoints without executing any code in them, and a definition of what they may contain.

A checkpoint is a pickle, and a pickle can call any function. Three checks prevent this:

1. :mod:`.compat.archive_check` follows the pickle without building anything, and rejects unknown names.
2. torch's ``weights_only`` builds only allowed types; :func:`install` adds those of fairseq's checkpoints.
3. Options are bounded, contain no code (fairseq calls ``eval`` on some), and name no files to open.

torch before 2.6 is not supported: its ``weights_only`` ran TorchScript programs (CVE-2025-32434).
"""

import functools
import os
import pickle
import types
from argparse import Namespace
from typing import Any, BinaryIO, Dict, List, Mapping, Union

import torch
from fairseq import checkpoint_utils

from .compat import archive_check, continued_runs, evaluated_options, pickle_names, plain_options
from .compat.allowed_names import ALLOWED, RefusedArrayError
from .compat.pickle_check import NotAllowedError
from .errors import PyramidionError
from .utils.files import atomic_write

PathLike = Union[str, "os.PathLike[str]"]


class UnsafeCheckpointError(PyramidionError):
    """A checkpoint holds a type that is not allowed, or options that are code. Nothing in it has been executed."""


class DamagedCheckpointError(PyramidionError):
    """A file is truncated, empty, corrupt or no checkpoint, or its options or weights are unusable."""


def install() -> None:
    """Make fairseq load checkpoints safely, with the errors of this module. Further calls do nothing.

    Every command of fairseq, its trainer and its hub interface read files in ``fairseq.checkpoint_utils``, with
    ``torch.load``. Only this module gets a ``torch`` with a safe ``load``. It therefore does not matter where
    ``load_checkpoint_to_cpu`` was imported, later errors are not mistaken for damaged files, no environment variable
    changes, and ``torch.load`` of other code is unaffected.
    """
    torch.serialization.add_safe_globals(ALLOWED)
    if not isinstance(checkpoint_utils.torch, _SafeTorch):
        checkpoint_utils.torch = _SafeTorch("torch")
        checkpoint_utils.load_model_ensemble_and_task = _refuse_non_finite(
            checkpoint_utils.load_model_ensemble_and_task
        )


def load_checkpoint(path: PathLike) -> Dict[str, Any]:
    """Load a checkpoint to the CPU, unchanged.

    Returns:
        The content. Checkpoints of fairseq have ``model`` (parameter name to tensor), ``cfg`` (nested options) or, if
        old, ``args``, ``extra_state``, ``optimizer_history`` and usually ``last_optimizer_state``.

    Raises:
        UnsafeCheckpointError: it holds a type that is not allowed, or options that are code.
        DamagedCheckpointError: it is truncated, empty, or no checkpoint, or its options are out of bounds.
        OSError: the file does not exist or cannot be read.
    """
    torch.serialization.add_safe_globals(ALLOWED)
    with open(path, "rb") as file:
        return _read(file, torch.device("cpu"))


def save_checkpoint(state: Dict[str, Any], path: PathLike) -> None:
    """Write a checkpoint atomically. An older file of the same name is kept until the new one is complete.

    Raises:
        OSError: the folder is missing, not writable or full; nothing is left behind.
    """
    with atomic_write(path) as file:
        torch.save(state, file)


class _SafeTorch(types.ModuleType):
    """``torch`` for ``fairseq.checkpoint_utils``, with a safe ``load``."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(file: BinaryIO, map_location: Any = None, **_: Any) -> Dict[str, Any]:
        state = _read(file, map_location)
        if "model" not in state:
            raise DamagedCheckpointError(f"{_name(file)} has no 'model' in it: it is no checkpoint of fairseq")
        _add_missing_parts(state, file)
        continued_runs.add_records_of_options(state)
        return state


def new_checkpoint(cfg: Any, weights: Dict[str, torch.Tensor], extra_state: Dict[str, Any]) -> Dict[str, Any]:
    """Return a checkpoint of weights from elsewhere, with what fairseq reads in generation and fine-tuning.

    Args:
        cfg: fairseq's config, as plain containers.
        weights: the model's tensors.
        extra_state: further entries of ``extra_state``.
    """
    return {
        "args": None,
        "cfg": cfg,
        "model": weights,
        "extra_state": {"epoch": 0, "train_iterator": {"epoch": 0}, **extra_state},
        "optimizer_history": _no_history(),
    }


def _no_history() -> List[Dict[str, Any]]:
    """Return the optimizer history of a model without one."""
    return [{"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}]


def _add_missing_parts(state: Dict[str, Any], file: BinaryIO) -> None:
    """Add the parts that fairseq reads even for generation to a checkpoint that has only weights and options."""
    if "optimizer_history" not in state and "best_loss" not in state:  # the latter is in fairseq's first checkpoints
        state["optimizer_history"] = _no_history()
    if state.get("extra_state") is None and "epoch" not in state:
        state["extra_state"] = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}, continued_runs.UNKNOWN: True}
    if not isinstance(state.get("extra_state", {}), dict):
        raise DamagedCheckpointError(
            f"{_name(file)} {continued_runs.UNUSABLE} ('extra_state' is a {type(state['extra_state']).__name__})"
        )


def _read(file: BinaryIO, map_location: Any) -> Dict[str, Any]:
    try:
        archive_check.check_file(file)
        state = torch.load(file, map_location=map_location, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        # A corrupt pickle can raise anything: KeyError, IndexError, struct.error, AssertionError ... Without "from
        # None", a traceback would include torch's message, which advises to load unsafely.
        raise _describe_error(error, file) from None
    if not isinstance(state, dict):
        raise DamagedCheckpointError(f"{_name(file)} holds a {type(state).__name__}: it is no checkpoint")
    _check_parts(state, file)
    _check_options(state, file)
    return state


def _check_parts(state: Dict[str, Any], file: BinaryIO) -> None:
    """Raise an error for parts of another type than fairseq's; files of transformers have none of these parts."""
    model, history = state.get("model", {}), state.get("optimizer_history")
    named = isinstance(model, dict) and all(type(name) is str for name in model)
    sound = {
        "model": named and isinstance(getattr(model, "_metadata", {}), dict),
        "optimizer_history": history is None or (isinstance(history, list) and all(type(e) is dict for e in history)),
    }
    for part, is_sound in sound.items():
        if not is_sound:
            raise DamagedCheckpointError(f"{_name(file)} holds something else in the place of {part!r}")


def _refuse_non_finite(stock: Any) -> Any:
    @functools.wraps(stock)
    def load_model_ensemble_and_task(filenames: Any, *args: Any, **kwargs: Any) -> Any:
        """Load models like fairseq, for generation and validation. Training detects non-finite weights itself.

        Raises:
            DamagedCheckpointError: a weight is not finite.
        """
        loaded = stock(filenames, *args, **kwargs)
        for name, model in zip(filenames, loaded[0]):
            check_finite(dict(model.named_parameters()), name)
        return loaded

    return load_model_ensemble_and_task


def check_finite(tensors: Mapping[str, Any], name: object) -> None:
    """Raise an error for weights that are not finite, before a model computes with them.

    Args:
        tensors: tensors by name. Other values are skipped.
        name: name of the checkpoint, for the error.

    Raises:
        DamagedCheckpointError: names the first such tensor.
    """
    for key, tensor in tensors.items():
        if torch.is_tensor(tensor) and tensor.is_floating_point() and not tensor.isfinite().all():
            raise DamagedCheckpointError(
                f"{name} has weights that are not finite: {_printable(str(key))} has NaN or infinity in it; take an "
                "earlier checkpoint"
            )


def _describe_error(error: Exception, file: BinaryIO) -> PyramidionError:
    """Return the one-line error for what the checks or ``torch.load`` have raised."""
    message = str(error)
    ours = isinstance(error, (NotAllowedError, RefusedArrayError))
    foreign = message if ours else pickle_names.refused(message)
    if foreign:
        return UnsafeCheckpointError(
            f"{_name(file)} holds {_printable(foreign)}, which a checkpoint may not contain; nothing in it was run. "
            "Do not use the file if you do not know who made it; if it is your own, save it again with numbers, "
            "strings, lists, dicts and tensors only"
        )
    reason = message.rpartition("WeightsUnpickler error:")[2].partition("Check the documentation")[0]
    reason = _printable(reason) or "it ends too early"
    if "weights_only" in reason or isinstance(error, pickle.UnpicklingError):
        reason = "torch cannot read it"  # replaces the advice to load it unsafely
    return DamagedCheckpointError(
        f"{_name(file)} is damaged, or no checkpoint ({reason}); take another copy or an earlier checkpoint"
    )


def _check_options(state: Dict[str, Any], file: BinaryIO) -> None:
    """Convert the options to plain types, reject those that fairseq would execute, and clear those that name files."""
    for part, kinds in (("cfg", (dict, type(None))), ("args", (dict, Namespace, type(None)))):
        if part not in state:
            continue
        state[part] = plain_options.plain(state[part])
        if not isinstance(state[part], kinds):
            kind = type(state[part]).__name__
            raise DamagedCheckpointError(f"{_name(file)} has a {kind} in the place of its options")
        for option, text in evaluated_options.find_code(state[part]):
            raise UnsafeCheckpointError(
                f"{_name(file)} sets the option {_printable(option)} to {_printable(text)}, which fairseq could run "
                "as code, or compute for ever; nothing in it was run. Do not use the file if you do not know who made "
                "it"
            )
        try:
            plain_options.check_options(state[part], state.get("model"))
        except plain_options.UnusableOptionError as error:
            raise DamagedCheckpointError(f"{_name(file)} cannot be used: {_printable(str(error))}") from None


def _name(file: BinaryIO) -> str:
    return _printable(str(getattr(file, "name", "the checkpoint")), limit=1000)


def _printable(text: str, limit: int = 200) -> str:
    """Return a text from a checkpoint, which may be untrusted, on one line and without control characters."""
    text = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(text.split())[:limit]
