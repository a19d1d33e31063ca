"""The names that a checkpoint's pickle may use, and what each can do with arguments chosen by an attacker.

There are two lists. :data:`ALLOWED` is added to torch's own list for the whole process, because the processes of a
distributed run pickle a checkpoint's content again and send it to each other. :data:`CALLED`, :data:`CREATED` and
:data:`MENTIONED` are all that a file may use: :mod:`.pickle_check` checks a pickle against them before torch reads it.
A file therefore cannot use other names of torch's list: ``bytearray`` (memory of any size), ``set`` and ``Counter``
(hashing nested tuples can take for ever), ``torch.Tensor``, and the functions that rebuild quantized, sparse and
wrapped tensors.
"""

import collections
import math
import typing
from argparse import Namespace
from typing import Any, Callable, Dict, List, Tuple, Union

import numpy as np
import omegaconf
from fairseq.distributed.utils import _TensorPlaceholder

#: Maximum number of elements of an array; meters hold a handful.
MOST_ELEMENTS = 1_000_000


class RefusedArrayError(ValueError):
    """An array in a checkpoint does not consist of numbers, or its size does not match its shape.

    It is not an UnpicklingError, because torch replaces those with another error.
    """


class FileDtype:
    """Replacement for ``numpy.dtype`` in a pickle, which accepts only "i8" and "f8".

    numpy's own class reads flags, fields and offsets from the file, which can be used to forge addresses.
    """

    code = None

    def __init__(self, code: Any = None, align: Any = False, copy: Any = True) -> None:
        if not isinstance(code, str) or code not in ("i8", "f8") or align not in (0, 1) or copy not in (0, 1):
            raise RefusedArrayError("a numpy.dtype that is neither i8 nor f8")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Refuse any state except little-endian byte order; the rest of the state is not used."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] != "<" or any(part for part in state[2:5]):
            raise RefusedArrayError("a numpy.dtype with parts of its own")


class FileArray(np.ndarray):
    """Replacement for ``numpy.ndarray`` in a pickle: an array of numbers. It is pickled as numpy's own class.

    It cannot be called with a shape, a buffer or strides: ``ndarray((4,), "O", buffer)`` would use bytes of the file
    as addresses.
    """

    def __new__(cls, *arguments: Any, **options: Any) -> "FileArray":
        if arguments or options:
            raise RefusedArrayError("a call of numpy.ndarray")
        return super().__new__(cls, 0, np.int8)

    def __setstate__(self, state: Any) -> None:
        """Set the state from (version, shape, dtype, whether in Fortran order, bytes), as numpy writes it.

        Raises:
            RefusedArrayError: the state has another form, or the number of bytes does not match the shape.
        """
        if not isinstance(state, tuple) or len(state) != 5 or self.size:
            raise RefusedArrayError("a numpy.ndarray of unknown state")
        _, shape, dtype, fortran, data = state
        whole = isinstance(shape, tuple) and all(type(size) is int and 0 <= size <= MOST_ELEMENTS for size in shape)
        if not whole or len(shape) > 8 or type(dtype) is not FileDtype or dtype.code is None or fortran not in (0, 1):
            raise RefusedArrayError("a numpy.ndarray with an invalid shape or type")
        if type(data) is not bytes or len(data) != 8 * math.prod(shape) or len(data) > 8 * MOST_ELEMENTS:
            raise RefusedArrayError("a numpy.ndarray with more or fewer bytes than its shape needs")
        content: Any = (1, shape, np.dtype("<" + dtype.code), bool(fortran), data)
        super().__setstate__(content)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def reconstruct(kind: Any, shape: Any, code: Any) -> FileArray:
    """Replace numpy's ``_reconstruct``: return an empty array, whose state is set afterwards."""
    if kind is not FileArray or shape != (0,) or code not in (b"b", "b"):
        raise RefusedArrayError("a call of numpy's _reconstruct that numpy does not write")
    return FileArray()


ALLOWED: List[Union[Callable[..., Any], Tuple[Callable[..., Any], str]]] = [
    # Options of models without a dataclass, of adafactor, and of old checkpoints, which store them under "args".
    # Attributes can have any name and value; replacing one of its methods has no effect.
    (Namespace, "argparse.Namespace"),
    # Meters that sum arrays, such as the n-gram counts of --eval-bleu: arrays of integers and floats. numpy's own
    # types are not in the list, because they can create arrays of addresses; see the replacements above.
    # numpy 2 renamed the function. Both names are allowed, since either numpy reads the other's files.
    (reconstruct, "numpy._core.multiarray._reconstruct"),
    (reconstruct, "numpy.core.multiarray._reconstruct"),
    (FileArray, "numpy.ndarray"),
    (FileDtype, "numpy.dtype"),
    # When a run with several processes is resumed, the first one reads the file, pickles its content again and sends
    # it to the others: tensors are sent separately and replaced by placeholders, and options are sent as omegaconf's
    # objects. A placeholder holds an index. Files may not contain placeholders, since these would permute tensors.
    (_TensorPlaceholder, "fairseq.distributed.utils._TensorPlaceholder"),
    # When called, these two copy their argument, and shared parts several times; if a parent is its own child, they
    # never return. A file may therefore only create empty ones and set their state. None of their methods is called
    # before their content is copied (plain_options.plain).
    (omegaconf.DictConfig, "omegaconf.dictconfig.DictConfig"),
    (omegaconf.ListConfig, "omegaconf.listconfig.ListConfig"),
    # Holds a value, which it does not check.
    (omegaconf.AnyNode, "omegaconf.nodes.AnyNode"),
    # Dataclasses that hold values.
    (omegaconf.base.ContainerMetadata, "omegaconf.base.ContainerMetadata"),
    (omegaconf.base.Metadata, "omegaconf.base.Metadata"),
    # Calls its first argument, without arguments, for a missing key. A file may only pass dict, list or int.
    (collections.defaultdict, "collections.defaultdict"),
    # Cannot be called.
    (typing.Any, "typing.Any"),
    # Types of options. Files may only mention them: calls of the first two copy, and int("9" * 10**6, 16) is slow.
    (dict, "builtins.dict"),
    (list, "builtins.list"),
    (int, "builtins.int"),
]

#: Bytes per element of each type of storage.
STORAGES: Dict[str, int] = {
    f"torch.{kind}Storage": size
    for size, kinds in ((8, "Double Long"), (4, "Float Int"), (2, "Half BFloat16 Short"), (1, "Char Byte Bool"))
    for kind in kinds.split()
}
#: Names that may be used as values. Dtypes, types of storages and types that are not called have no effect.
MENTIONED = {
    "numpy.ndarray", "typing.Any", "builtins.dict", "builtins.list", "builtins.int", *STORAGES,
    *(f"torch.{dtype}" for dtype in ("float64", "float32", "float16", "bfloat16")),
    *(f"torch.{dtype}" for dtype in ("int64", "int32", "int16", "int8", "uint8", "bool")),
}  # fmt: skip
#: Types that may be created without arguments and then get attributes.
CREATED = {
    "argparse.Namespace", "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode", "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata",
}  # fmt: skip
NUMPY = {"numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct", "numpy.dtype"}


def is_count(value: Any) -> bool:
    """Return whether a value is an integer that is valid as an offset or a size."""
    return type(value) is int and 0 <= value < 2**48


def _is_size(arguments: Tuple[Any, ...]) -> bool:
    sizes = arguments[0] if len(arguments) == 1 else None
    return type(sizes) is tuple and len(sizes) <= 64 and all(map(is_count, sizes))


def _is_device(arguments: Tuple[Any, ...]) -> bool:
    return len(arguments) in (1, 2) and type(arguments[0]) is str and all(map(is_count, arguments[1:]))


#: Functions that may be called, each with a check of its arguments. For those that make tensors, see pickle_check.
CALLED: Dict[str, Callable[[Tuple[Any, ...]], bool]] = {
    # Only without arguments: it would hash any keys among them.
    "collections.OrderedDict": lambda arguments: arguments == (),
    # How Python pickles bytes. Other codecs are refused: "hex" doubles a text with each call, and "idna" is slow.
    "_codecs.encode": lambda arguments: len(arguments) == 2 and type(arguments[0]) is str and arguments[1] == "latin1",
    "torch.Size": _is_size,
    "torch.device": _is_device,
    # The replacements above check the values when torch calls them.
    **{name: lambda arguments: True for name in NUMPY},
}
TENSORS = {"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"}
DEFAULT_DICT = "collections.defaultdict"
DEFAULTS = {"builtins.dict", "builtins.list", "builtins.int"}

#: All allowed names.
NAMES = frozenset({*MENTIONED, *CREATED, *CALLED, *TENSORS, DEFAULT_DICT})
