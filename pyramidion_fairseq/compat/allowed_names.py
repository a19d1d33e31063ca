"""The names that a checkpoint's pickle may use, and what each can do with arguments that a stranger has chosen.

Two lists. :data:`ALLOWED` is added to torch's own list for the whole process, because processes of a distributed run
send each other content that they pickle anew. :data:`CALLED`, :data:`CREATED` and :data:`MENTIONED` are all that a
file may use: :mod:`.pickle_check` follows a pickle by them before torch reads it. So of torch's own list a file
reaches only what stands here, not ``bytearray`` (memory of any size), ``set`` and ``Counter`` (hashes of nested tuples
take for ever), ``torch.Tensor`` and the rebuilding of quantized, sparse and wrapped tensors.
"""

import collections
import math
import typing
from argparse import Namespace
from typing import Any, Callable, Dict, List, Tuple, Union

import numpy as np
import omegaconf
from fairseq.distributed.utils import _TensorPlaceholder

#: Elements of an array and of tuples such as a shape; meters hold a handful.
MOST_ELEMENTS = 1_000_000


class RefusedArrayError(ValueError):
    """An array in a checkpoint is not one of numbers, or does not have the bytes that it needs.

    No UnpicklingError: torch puts another in the place of those.
    """


class FileDtype:
    """Stands for ``numpy.dtype`` in a pickle: of the file it takes "i8" or "f8", and nothing else.

    numpy's own takes flags, fields and offsets from the file, and with them addresses.
    """

    code = None

    def __init__(self, code: Any = None, align: Any = False, copy: Any = True) -> None:
        if not isinstance(code, str) or code not in ("i8", "f8") or align not in (0, 1) or copy not in (0, 1):
            raise RefusedArrayError("a numpy.dtype that is neither i8 nor f8")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Refuse all but the byte order of nearly every machine; the rest of the state is not used."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] != "<" or any(part for part in state[2:5]):
            raise RefusedArrayError("a numpy.dtype with parts of its own")


class FileArray(np.ndarray):
    """Stands for ``numpy.ndarray`` in a pickle: numbers that are in the file. Pickled again, it is numpy's own.

    It cannot be called with a shape, a buffer or strides: ``ndarray((4,), "O", buffer)`` would take bytes of the file
    for addresses.
    """

    def __new__(cls, *arguments: Any, **options: Any) -> "FileArray":
        if arguments or options:
            raise RefusedArrayError("a call of numpy.ndarray")
        return super().__new__(cls, 0, np.int8)

    def __setstate__(self, state: Any) -> None:
        """Take (version, shape, dtype, is Fortran's order, bytes), as numpy writes it.

        Raises:
            RefusedArrayError: it is anything else, or the bytes are not as many as the shape says.
        """
        if not isinstance(state, tuple) or len(state) != 5 or self.size:
            raise RefusedArrayError("a numpy.ndarray of unknown state")
        _, shape, dtype, fortran, data = state
        whole = isinstance(shape, tuple) and all(type(size) is int and 0 <= size <= MOST_ELEMENTS for size in shape)
        if not whole or len(shape) > 8 or type(dtype) is not FileDtype or dtype.code is None or fortran not in (0, 1):
            raise RefusedArrayError("a numpy.ndarray of another shape or type than numbers have")
        if type(data) is not bytes or len(data) != 8 * math.prod(shape) or len(data) > 8 * MOST_ELEMENTS:
            raise RefusedArrayError("a numpy.ndarray with more or fewer bytes than its shape needs")
        content: Any = (1, shape, np.dtype("<" + dtype.code), bool(fortran), data)
        super().__setstate__(content)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def reconstruct(kind: Any, shape: Any, code: Any) -> FileArray:
    """Stand for numpy's ``_reconstruct``: an empty array, which gets its content afterwards."""
    if kind is not FileArray or shape != (0,) or code not in (b"b", "b"):
        raise RefusedArrayError("a call of numpy's _reconstruct that numpy does not write")
    return FileArray()


ALLOWED: List[Union[Callable[..., Any], Tuple[Callable[..., Any], str]]] = [
    # Options of models without a dataclass, of adafactor, and of old checkpoints, which keep them under "args".
    # Its attributes may get any name and value; it has no methods that these could replace to any effect.
    (Namespace, "argparse.Namespace"),
    # Meters that add up arrays, such as the n-gram counts of --eval-bleu: arrays of Python's integers and floats.
    # numpy's own are not on the list: they make arrays of addresses. See the three classes above for what is taken.
    # numpy 2 has renamed the function, and either numpy reads the other's files.
    (reconstruct, "numpy._core.multiarray._reconstruct"),
    (reconstruct, "numpy.core.multiarray._reconstruct"),
    (FileArray, "numpy.ndarray"),
    (FileDtype, "numpy.dtype"),
    # On resume with several processes the first one reads the file and sends the others its content, pickled again:
    # tensors apart, with marks in their places, and the options as omegaconf keeps them, types included.
    # A mark is a number; a file that brings marks would mix up which tensor goes where: no file may.
    (_TensorPlaceholder, "fairseq.distributed.utils._TensorPlaceholder"),
    # Called, these two copy their argument, shared parts once for each place; with a parent that is its own child they
    # search for ever: a file may only create empty ones and fill them, and none of their methods is used before their
    # content is copied (plain_options.plain).
    (omegaconf.DictConfig, "omegaconf.dictconfig.DictConfig"),
    (omegaconf.ListConfig, "omegaconf.listconfig.ListConfig"),
    # Holds a value. Called, it checks nothing.
    (omegaconf.AnyNode, "omegaconf.nodes.AnyNode"),
    # Dataclasses that hold values.
    (omegaconf.base.ContainerMetadata, "omegaconf.base.ContainerMetadata"),
    (omegaconf.base.Metadata, "omegaconf.base.Metadata"),
    # Calls its first argument, without arguments, for a missing key: a file may only give it dict, list or int.
    (collections.defaultdict, "collections.defaultdict"),
    # Cannot be called.
    (typing.Any, "typing.Any"),
    # Types of options; called, the first two copy, and int("9" * 10**6, 16) takes time: a file may only mention them.
    (dict, "builtins.dict"),
    (list, "builtins.list"),
    (int, "builtins.int"),
]

#: Name of a storage -> bytes of an element.
STORAGES: Dict[str, int] = {
    f"torch.{kind}Storage": size
    for size, kinds in ((8, "Double Long"), (4, "Float Int"), (2, "Half BFloat16 Short"), (1, "Char Byte Bool"))
    for kind in kinds.split()
}
#: What may stand as a value. A dtype or a storage's type does nothing, nor does a type that is not called.
MENTIONED = {
    "numpy.ndarray", "typing.Any", "builtins.dict", "builtins.list", "builtins.int", *STORAGES,
    *(f"torch.{dtype}" for dtype in ("float64", "float32", "float16", "bfloat16")),
    *(f"torch.{dtype}" for dtype in ("int64", "int32", "int16", "int8", "uint8", "bool")),
}  # fmt: skip
#: What may be created empty, and given attributes by name.
CREATED = {
    "argparse.Namespace", "omegaconf.dictconfig.DictConfig", "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode", "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata",
}  # fmt: skip
NUMPY = {"numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct", "numpy.dtype"}


def is_count(value: Any) -> bool:
    """Return whether it is an integer that an offset or a size can be."""
    return type(value) is int and 0 <= value < 2**48


def _is_size(arguments: Tuple[Any, ...]) -> bool:
    sizes = arguments[0] if len(arguments) == 1 else None
    return type(sizes) is tuple and len(sizes) <= 64 and all(map(is_count, sizes))


def _is_device(arguments: Tuple[Any, ...]) -> bool:
    return len(arguments) in (1, 2) and type(arguments[0]) is str and all(map(is_count, arguments[1:]))


#: What may be called, and whether it may with these arguments; of tensors, see pickle_check.
CALLED: Dict[str, Callable[[Tuple[Any, ...]], bool]] = {
    # Empty: from pairs it would hash whatever stands in them.
    "collections.OrderedDict": lambda arguments: arguments == (),
    # Python's way to write bytes. Any other codec is refused: "hex" doubles a text each time, "idna" takes for ever.
    "_codecs.encode": lambda arguments: len(arguments) == 2 and type(arguments[0]) is str and arguments[1] == "latin1",
    "torch.Size": _is_size,
    "torch.device": _is_device,
    # The values are checked by the guards above, when torch calls them.
    **{name: lambda arguments: True for name in NUMPY},
}
TENSORS = {"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"}
DEFAULT_DICT = "collections.defaultdict"
DEFAULTS = {"builtins.dict", "builtins.list", "builtins.int"}

#: All of them.
NAMES = frozenset({*MENTIONED, *CREATED, *CALLED, *TENSORS, DEFAULT_DICT})
