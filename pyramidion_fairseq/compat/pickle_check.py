"""Follows a checkpoint's pickle without building objects, and refuses what torch.save does not write.

It executes the instructions that torch's ``weights_only`` supports, with placeholders instead of objects. This gives
the arguments of every call, the storage of every tensor, and the size of the content with shared parts counted
repeatedly.
"""

import math
import pickletools
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import pickle_names
from .allowed_names import CALLED, CREATED, DEFAULT_DICT, DEFAULTS, NAMES, NUMPY, STORAGES, TENSORS, is_count

#: Maximum number of instructions; a model with Adam's state has about forty per tensor.
MOST_INSTRUCTIONS = 3_000_000
#: Maximum bytes that calls encode; calls that share a string each make a copy.
MOST_BYTES = 2**26
#: Maximum depth of nested containers.
MOST_DEPTH = 100
#: Maximum size of a dimension of an empty tensor; a loop over its rows would otherwise take for ever.
MOST_OF_NOTHING = 2**20
#: Maximum number of values; shared values are counted each time they occur.
MOST_VALUES = 5_000_000
#: Maximum number of values in the options; fairseq has about a thousand.
MOST_OPTIONS = 100_000


class NotAllowedError(Exception):
    """The pickle contains something that is not allowed; the message names it."""


class BrokenError(Exception):
    """The file is damaged, or was not written by torch.save; the message says why."""


class Name(NamedTuple):
    """Full name of a function or a type."""

    full: str


class Storage(NamedTuple):
    """A storage of tensors: its key in the file, its type, and its number of elements."""

    key: str
    kind: str
    numel: int

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.numel * STORAGES[self.kind]


class Made:
    """Placeholder for the object that a call or a creation returns."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.items: Dict[Any, Any] = {}
        self.state: Any = None
        self.fixed = False  # the hooks of a tensor, which must remain empty


def follow(stream: BinaryIO) -> Tuple[Any, Dict[str, Storage]]:
    """Follow one pickle from the stream's position to its end.

    Returns:
        The content, with placeholders instead of objects, and the storages by key.

    Raises:
        NotAllowedError: the pickle uses a name or a call that is not allowed.
        BrokenError: the pickle is damaged, or has instructions that torch.save does not write.
    """
    machine = _Machine()
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MOST_INSTRUCTIONS:
                raise BrokenError(f"it has more than {MOST_INSTRUCTIONS:,} instructions")
            machine.do(instruction.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise BrokenError(f"{type(error).__name__}: {error}") from None
    check_size(machine.result, MOST_VALUES, "values")
    return machine.result, machine.storages


def check_size(value: Any, most: int, what: str) -> None:
    """Refuse a value that is nested too deeply, contains itself, or is too large with shared parts counted repeatedly.

    Every part is visited once.

    Raises:
        BrokenError: the value is refused; the message says why.
    """
    sizes: Dict[int, Tuple[int, int]] = {}  # of finished parts: number of values, depth
    begun = set()
    waiting: List[Any] = [value]
    while waiting:
        part = waiting[-1]
        if id(part) in sizes:
            waiting.pop()
            continue
        inner = list(_inner(part))
        if id(part) not in begun:
            begun.add(id(part))
            for other in inner:
                if id(other) in begun and id(other) not in sizes:
                    raise BrokenError(f"it has {what} that contain themselves")
            waiting.extend(other for other in inner if id(other) not in sizes)
            continue
        waiting.pop()
        weight = 1 + (len(part) // 100 if isinstance(part, (str, bytes)) else 0)
        total = weight + sum(sizes.get(id(other), (1, 0))[0] for other in inner)
        depth = 1 + max((sizes.get(id(other), (1, 0))[1] for other in inner), default=0)
        if total > most or depth > MOST_DEPTH:
            raise BrokenError(f"it has more than {most:,} {what}, or they are nested more than {MOST_DEPTH} deep")
        sizes[id(part)] = total, depth


def parts(value: Any) -> Iterator[Any]:
    """Yield each container in a value once, including the value itself."""
    seen, waiting = set(), [value]
    while waiting:
        part = waiting.pop()
        if id(part) not in seen and isinstance(part, (dict, list, tuple, Made)):
            seen.add(id(part))
            yield part
            waiting.extend(_inner(part))


def _inner(value: Any) -> Iterator[Any]:
    """Yield the direct values of a container."""
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple)) and not isinstance(value, (Name, Storage)):
        yield from value
    elif isinstance(value, Made):
        yield from value.items.values()
        # An omegaconf object refers to its parent, which is not part of it.
        yield from (part for name, part in (value.state or {}).items() if name != "_parent")


class _Machine:
    """The stack machine that executes a pickle's instructions."""

    def __init__(self) -> None:
        self.stack: List[Any] = []
        self.marks: List[List[Any]] = []
        self.memo: Dict[int, Any] = {}
        self.storages: Dict[str, Storage] = {}
        self.bytes_made = 0
        self.result: Any = None

    def do(self, name: str, argument: Any) -> None:
        """Execute one instruction."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _VALUES:
            if type(argument) is int and abs(argument) >= 2**80:  # torch's magic number has 77
                raise BrokenError("it contains an integer of more than 80 bits")
            self.stack.append(argument)
        elif name.endswith("GET"):
            self.stack.append(self.memo[argument])
        elif name.endswith("PUT"):
            self.memo[argument] = self.stack[-1]
        else:
            method = getattr(self, f"_{name.lower()}", None) if name in _METHODS else None
            if method is None:
                raise BrokenError(f"torch.save does not write its instruction {name}")
            method(argument)

    def _proto(self, argument: int) -> None:
        if argument != 2:
            raise BrokenError(f"its pickle protocol is {argument}, not 2 as written by torch.save")

    def _stop(self, _: Any) -> None:
        self.result = self.stack.pop()

    def _global(self, argument: str) -> None:
        name = pickle_names.modern(argument.replace(" ", "."))
        if name not in NAMES:
            raise NotAllowedError(name)
        self.stack.append(Name(name))

    def _mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _pop_mark(self) -> List[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _tuple(self, _: Any) -> None:
        items = tuple(self._pop_mark())
        self.stack.append(items)

    def _last(self, count: int) -> None:
        if len(self.stack) < count:
            raise BrokenError("it pops from an empty stack")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _tuple1(self, _: Any) -> None:
        self._last(1)

    def _tuple2(self, _: Any) -> None:
        self._last(2)

    def _tuple3(self, _: Any) -> None:
        self._last(3)

    def _append(self, _: Any) -> None:
        self._add_to_list([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._add_to_list(self._pop_mark())

    def _add_to_list(self, items: List[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise BrokenError("it appends to something that is not a list")
        self.stack[-1].extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def _setitems(self, _: Any) -> None:
        self._set_items(self._pop_mark())

    def _set_items(self, items: List[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Made) and target.name == "collections.OrderedDict" and not target.fixed:
            target = target.items
        if type(target) is not dict or len(items) % 2:
            raise BrokenError("it sets items of something that is not a dict")
        for key, value in zip(items[::2], items[1::2]):
            # Hashing nested tuples can take for ever, and hashes of large integers collide.
            if not (key is None or type(key) in (str, bool, bytes) or (type(key) is int and abs(key) < 2**60)):
                raise BrokenError(f"it has a {_kind(key)} as a key of a dict")
            target[key] = value

    def _binpersid(self, _: Any) -> None:
        pid = self.stack.pop()
        view = pid[5:] if type(pid) is tuple else ("",)
        if view not in ((), (None,)) or len(pid) < 5 or pid[0] != "storage":
            raise BrokenError("it refers to a storage in a way that torch.save does not write")
        _, kind, key, location, numel = pid[:5]
        named = type(key) is str and type(location) is str
        if not named or not isinstance(kind, Name) or kind.full not in STORAGES:
            raise BrokenError("it refers to a storage in a way that torch.save does not write")
        storage = Storage(key, kind.full, numel)
        if not is_count(numel) or self.storages.setdefault(key, storage) != storage:
            raise BrokenError(f"the storage {key!r} has two sizes, or an invalid one")
        self.stack.append(storage)

    def _newobj(self, _: Any) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, Name) or kind.full not in CREATED or arguments != ():
            raise NotAllowedError(f"a new {_kind(kind)}")
        self.stack.append(Made(kind.full))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        full = function.full if isinstance(function, Name) else ""
        if type(arguments) is not tuple:
            allowed = False
        elif full in TENSORS:
            allowed = _is_tensor(full, arguments)
        elif full == DEFAULT_DICT:
            allowed = len(arguments) == 1 and isinstance(arguments[0], Name) and arguments[0].full in DEFAULTS
        else:
            allowed = full in CALLED and CALLED[full](arguments)
        if not allowed:
            raise NotAllowedError(f"a call of {_kind(function)} that torch.save does not write")
        self.stack.append(self._encoded(arguments[0]) if full == "_codecs.encode" else Made(full))

    def _encoded(self, text: str) -> bytes:
        self.bytes_made += len(text)
        if self.bytes_made > MOST_BYTES:
            raise BrokenError(f"it encodes more than {MOST_BYTES:,} bytes of strings")
        return text.encode("latin1")

    def _build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        name = target.name if isinstance(target, Made) else ""
        if name in NUMPY:
            return  # checked by the replacements in allowed_names
        named = type(state) is dict and all(type(key) is str for key in state)
        if name == "collections.OrderedDict":
            # Other attributes could shadow its methods.
            named = named and not target.fixed and set(state) <= {"_metadata"}
        elif name.startswith("omegaconf.") and named and "_metadata" in state:
            # omegaconf sets attributes of the metadata.
            metadata = state["_metadata"]
            named = isinstance(metadata, Made) and metadata.name.startswith("omegaconf.base.")
        if not named or name not in (*CREATED, "collections.OrderedDict") or target.state is not None:
            raise NotAllowedError(f"a state for {_kind(target)} that torch.save does not write")
        target.state = state


_CONSTANTS: Dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple,
}  # fmt: skip
_VALUES = {"BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1", "BINUNICODE"}
_METHODS = {
    "PROTO", "STOP", "GLOBAL", "MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM",
    "SETITEMS", "BINPERSID", "NEWOBJ", "REDUCE", "BUILD",
}  # fmt: skip


def _is_tensor(name: str, arguments: Tuple[Any, ...]) -> bool:
    """Return whether these are arguments of a tensor within its storage; its hooks are fixed to be empty."""
    if name == "torch._utils._rebuild_parameter":
        if len(arguments) != 3 or not isinstance(arguments[0], Made) or arguments[0].name not in TENSORS:
            return False
        return type(arguments[1]) is bool and _without_hooks(arguments[2])
    if len(arguments) not in (6, 7) or (len(arguments) == 7 and arguments[6] not in (None, {})):
        return False
    storage, offset, size, stride, requires_grad, hooks = arguments[:6]
    if not isinstance(storage, Storage) or type(requires_grad) is not bool or not _without_hooks(hooks):
        return False
    if type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride) or len(size) > 64:
        return False
    if not is_count(offset) or not all(map(is_count, (*size, *stride))):
        return False
    if not all(size):
        return max(size) <= MOST_OF_NOTHING
    # A tensor may not have more elements than its storage, even with strides of zero, because a copy would expand it.
    last = offset + sum((length - 1) * step for length, step in zip(size, stride))
    return last < storage.numel and math.prod(size) <= storage.numel


def _without_hooks(hooks: Any) -> bool:
    if not isinstance(hooks, Made) or hooks.name != "collections.OrderedDict" or hooks.items or hooks.state:
        return False
    hooks.fixed = True
    return True


def _kind(value: Any) -> str:
    """Return the name of a value's type or function, for error messages."""
    found: Optional[str] = value.full if isinstance(value, Name) else getattr(value, "name", None)
    return found or type(value).__name__
