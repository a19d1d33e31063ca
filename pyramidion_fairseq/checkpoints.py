"""What a checkpoint may contain, and loading one without running anything that is in it.

A checkpoint is a pickle, and a pickle can call any function. torch's ``weights_only`` reading builds only types that
are on a list; :func:`install` adds those of fairseq's own checkpoints, and makes fairseq read every checkpoint that
way, whatever environment variables say. Before torch 2.6 that reading ran TorchScript programs (CVE-2025-32434), so
that no older one is taken; before 2.10 a file could corrupt memory (CVE-2026-24747). One more way to code is closed
here: fairseq calls ``eval`` on some options, and a checkpoint brings its options along.
"""

import collections
import os
import pickle
import types
import typing
import uuid
from argparse import Namespace
from typing import Any, BinaryIO, Dict, List, Tuple, Union

import numpy as np
import omegaconf
import torch
from fairseq import checkpoint_utils
from fairseq.distributed.utils import _TensorPlaceholder

from .compat import continued_runs, evaluated_options, pickle_names
from .errors import PyramidionError
from .files import replacing

PathLike = Union[str, "os.PathLike[str]"]

_RECONSTRUCT = np.empty(0).__reduce__()[0]

ALLOWED: List[Tuple[Any, str]] = [
    # Options of models without a dataclass, of adafactor, and of old checkpoints, which keep them under "args".
    (Namespace, "argparse.Namespace"),
    # Meters that add up arrays, such as the n-gram counts of --eval-bleu: arrays of Python's integers and floats.
    # numpy 2 has renamed the function, and either numpy reads the other's files.
    (_RECONSTRUCT, "numpy._core.multiarray._reconstruct"),
    (_RECONSTRUCT, "numpy.core.multiarray._reconstruct"),
    (np.ndarray, "numpy.ndarray"),
    (np.dtype, "numpy.dtype"),
    # No file names these two: torch wants the class of what numpy.dtype(...) has returned on its list as well.
    (type(np.dtype(np.int64)), "numpy.dtypes.Int64DType"),
    (type(np.dtype(np.float64)), "numpy.dtypes.Float64DType"),
    # On resume with several processes the first one reads the file and sends the others its content, pickled again:
    # tensors apart, with marks in their places, and the options as omegaconf keeps them, types included.
    (_TensorPlaceholder, "fairseq.distributed.utils._TensorPlaceholder"),
    (omegaconf.DictConfig, "omegaconf.dictconfig.DictConfig"),
    (omegaconf.ListConfig, "omegaconf.listconfig.ListConfig"),
    (omegaconf.AnyNode, "omegaconf.nodes.AnyNode"),
    (omegaconf.base.ContainerMetadata, "omegaconf.base.ContainerMetadata"),
    (omegaconf.base.Metadata, "omegaconf.base.Metadata"),
    (collections.defaultdict, "collections.defaultdict"),
    (typing.Any, "typing.Any"),
    (dict, "builtins.dict"),
    (list, "builtins.list"),
    (int, "builtins.int"),
]


class UnsafeCheckpointError(PyramidionError):
    """A checkpoint holds something that is not on the list, or options that are code. Nothing in it has been run."""


class DamagedCheckpointError(PyramidionError):
    """A file is cut off, empty, garbled, or no checkpoint at all."""


def install() -> None:
    """Make fairseq load checkpoints safely, with the errors of this module. Calling it again does nothing.

    Every command of fairseq, its trainer and its hub interface read files in ``fairseq.checkpoint_utils``, with
    ``torch.load``. That module alone gets a ``torch`` whose ``load`` is ours. So it does not matter who has imported
    ``load_checkpoint_to_cpu`` under which name, errors of the code after the reading are not taken for damage, no
    environment variable of the process changes, and ``torch.load`` of other code stays as it is.
    """
    torch.serialization.add_safe_globals(ALLOWED)
    if not isinstance(checkpoint_utils.torch, _SafeTorch):
        checkpoint_utils.torch = _SafeTorch("torch")


def load_checkpoint(path: PathLike) -> Dict[str, Any]:
    """Read a checkpoint to the CPU, as it is in the file.

    Returns:
        One of fairseq's has ``model`` (parameter name to tensor), ``cfg`` (nested options) or, if it is an old one,
        ``args``, ``extra_state``, ``optimizer_history`` and mostly ``last_optimizer_state``.

    Raises:
        UnsafeCheckpointError: it holds a type that a checkpoint may not contain, or options that are code.
        DamagedCheckpointError: it is truncated, empty, or no checkpoint.
        OSError: there is no such file, or it cannot be read.
    """
    torch.serialization.add_safe_globals(ALLOWED)
    with open(path, "rb") as file:
        return _read(file, torch.device("cpu"))


def save_checkpoint(state: Dict[str, Any], path: PathLike) -> None:
    """Write a checkpoint that is either whole or not there: an older file of that name stays until this one is done.

    Raises:
        OSError: the folder is missing, not writable or full; nothing is left behind.
    """
    path = os.path.abspath(path)
    with replacing(path, f"{path}.{uuid.uuid4().hex[:8]}.tmp") as file:
        torch.save(state, file)


class _SafeTorch(types.ModuleType):
    """``torch`` for ``fairseq.checkpoint_utils``: all of it is torch's own, but ``load`` is safe."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def load(file: BinaryIO, map_location: Any = None, **_: Any) -> Dict[str, Any]:
        state = _read(file, map_location)
        if "model" not in state:
            raise DamagedCheckpointError(f"{_name(file)} has no 'model' in it: it is no checkpoint of fairseq")
        continued_runs.complete(state)
        return state


def _read(file: BinaryIO, map_location: Any) -> Dict[str, Any]:
    try:
        state = torch.load(file, map_location=map_location, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        # What a garbled pickle raises is anything: KeyError, IndexError, struct.error, AssertionError ...
        # Without "from None" a traceback would show torch's message too, and with it the advice to load unsafely.
        raise _explain(error, file) from None
    if not isinstance(state, dict):
        raise DamagedCheckpointError(f"{_name(file)} holds a {type(state).__name__}: it is no checkpoint")
    try:
        _check_options(state, file)
    except RecursionError:
        raise DamagedCheckpointError(f"{_name(file)} has options that contain themselves") from None
    return state


def _explain(error: Exception, file: BinaryIO) -> PyramidionError:
    """The one line for what ``torch.load`` has raised."""
    message = str(error)
    foreign = None
    if isinstance(error, pickle.UnpicklingError):
        foreign = pickle_names.refused(message, file, {name for _, name in ALLOWED})
    elif "weights_only=True`` with TorchScript" in message:
        foreign = "a TorchScript program"
    if foreign:
        return UnsafeCheckpointError(
            f"{_name(file)} holds {_printable(foreign)}, which a checkpoint may not contain; nothing in it was run. "
            "Do not use the file if you do not know who made it; if it is your own, save it again with numbers, "
            "strings, lists, dicts and tensors only"
        )
    reason = message.rpartition("WeightsUnpickler error:")[2].partition("Check the documentation")[0]
    reason = _printable(reason) or "it ends too early"
    if "weights_only" in reason:
        reason = "not in the format of torch.save"  # in place of the advice to load it unsafely
    return DamagedCheckpointError(
        f"{_name(file)} is damaged, or no checkpoint ({type(error).__name__}: {reason}); "
        "take another copy or an earlier checkpoint"
    )


def _check_options(state: Dict[str, Any], file: BinaryIO) -> None:
    """Refuse options that fairseq would run as code; see :mod:`.compat.evaluated_options`."""
    if isinstance(state.get("cfg"), omegaconf.DictConfig):
        # As early versions saved it: resolve here, so that what is checked is what will be used.
        try:
            state["cfg"] = omegaconf.OmegaConf.to_container(state["cfg"], resolve=True)
        except Exception as error:
            raise DamagedCheckpointError(
                f"{_name(file)} has options that cannot be resolved ({_printable(str(error))})"
            ) from None
    for part in ("cfg", "args"):
        for option, text in evaluated_options.find_code(state.get(part)):
            raise UnsafeCheckpointError(
                f"{_name(file)} sets the option {_printable(option)} to {_printable(text)}, which fairseq could run "
                "as code; nothing in it was run. Do not use the file if you do not know who made it"
            )


def _name(file: BinaryIO) -> str:
    return _printable(str(getattr(file, "name", "the checkpoint")), limit=1000)


def _printable(text: str, limit: int = 200) -> str:
    """On one line, without control characters (a checkpoint's names and options are anybody's text)."""
    text = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(text.split())[:limit]
