"""Follows a checkpoint's pickle without building anything, and refuses what torch.save does not write.

It knows the instructions of torch's ``weights_only`` reading, keeps marks in the place of objects, and so knows of
every call its arguments, of every tensor its storage, and how large the whole is when shared parts are written out.
"""

import math
import pickletools
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import pickle_names
from .allowed_names import CALLED, CREATED, DEFAULT_DICT, DEFAULTS, NAMES, NUMPY, STORAGES, TENSORS, is_count

#: Instructions of a pickle; a model with Adam has some forty for every tensor.
MOST_INSTRUCTIONS = 3_000_000
#: Bytes that calls make of texts; each makes its own of a text that it shares with others.
MOST_BYTES = 2**26
#: Containers inside containers.
MOST_DEPTH = 100
#: Length of a tensor that has no numbers; what counts its rows would count for ever.
MOST_OF_NOTHING = 2**20
#: Values, where shared ones count in each of their places.
MOST_VALUES = 5_000_000
#: The same of the options, of which fairseq has about a thousand.
MOST_OPTIONS = 100_000


class NotAllowedError(Exception):
    """The pickle holds something that may not be in it; the message names it."""


class BrokenError(Exception):
    """It is no pickle of torch.save, or is damaged; the message says why."""


class Name(NamedTuple):
    """A function or a type."""

    full: str


class Storage(NamedTuple):
    """Where a tensor's numbers are."""

    key: str
    kind: str
    numel: int

    @property
    def nbytes(self) -> int:
        """Bytes of all its numbers."""
        return self.numel * STORAGES[self.kind]


class Made:
    """What a call or a creation returns."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.items: Dict[Any, Any] = {}
        self.state: Any = None
        self.fixed = False  # the hooks of a tensor, which must stay empty


def follow(stream: BinaryIO) -> Tuple[Any, Dict[str, Storage]]:
    """Follow one pickle from the stream's position to its end.

    Returns:
        What it would build, with marks in the place of objects, and the storages by key.

    Raises:
        NotAllowedError: it uses a name or a call that a checkpoint may not contain.
        BrokenError: it is damaged, or has instructions that torch.save does not write.
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
    """Refuse what is nested too deep, contains itself, or is too large where shared parts are written out.

    Visits every part once.

    Raises:
        BrokenError: it is so.
    """
    sizes: Dict[int, Tuple[int, int]] = {}  # of what is finished: values in it, depth
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
    """Yield every container in a value, and the value itself, once; not the numbers and texts."""
    seen, waiting = set(), [value]
    while waiting:
        part = waiting.pop()
        if id(part) not in seen and isinstance(part, (dict, list, tuple, Made)):
            seen.add(id(part))
            yield part
            waiting.extend(_inner(part))


def _inner(value: Any) -> Iterator[Any]:
    """Yield the containers in a container, and its other values as well."""
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple)) and not isinstance(value, (Name, Storage)):
        yield from value
    elif isinstance(value, Made):
        yield from value.items.values()
        # A part of omegaconf's knows what it is in, which is no part of it.
        yield from (part for name, part in (value.state or {}).items() if name != "_parent")


class _Machine:
    """The stack of a pickle."""

    def __init__(self) -> None:
        self.stack: List[Any] = []
        self.marks: List[List[Any]] = []
        self.memo: Dict[int, Any] = {}
        self.storages: Dict[str, Storage] = {}
        self.bytes_made = 0
        self.result: Any = None

    def do(self, name: str, argument: Any) -> None:
        """Follow one instruction."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _VALUES:
            if type(argument) is int and abs(argument) >= 2**80:  # torch's own mark has 77
                raise BrokenError("it has a number of more than 80 bits")
            self.stack.append(argument)
        elif name.endswith("GET"):
            self.stack.append(self.memo[argument])
        elif name.endswith("PUT"):
            self.memo[argument] = self.stack[-1]
        else:
            method = getattr(self, f"_{name.lower()}", None) if name in _METHODS else None
            if method is None:
                raise BrokenError(f"its instruction {name} is none of torch.save's")
            method(argument)

    def _proto(self, argument: int) -> None:
        if argument != 2:
            raise BrokenError(f"it is of protocol {argument}, which is not torch.save's")

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
            raise BrokenError("it takes more from its stack than is there")
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
            raise BrokenError("it appends to what is no list")
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
            raise BrokenError("it sets items of what is no dict")
        for key, value in zip(items[::2], items[1::2]):
            # Hashes of nested tuples take for ever, and those of large integers collide.
            if not (key is None or type(key) in (str, bool, bytes) or (type(key) is int and abs(key) < 2**60)):
                raise BrokenError(f"it has a {_kind(key)} as the key of a dict")
            target[key] = value

    def _binpersid(self, _: Any) -> None:
        pid = self.stack.pop()
        view = pid[5:] if type(pid) is tuple else ("",)
        if view not in ((), (None,)) or len(pid) < 5 or pid[0] != "storage":
            raise BrokenError("it names a storage as torch.save does not")
        _, kind, key, location, numel = pid[:5]
        named = type(key) is str and type(location) is str
        if not named or not isinstance(kind, Name) or kind.full not in STORAGES:
            raise BrokenError("it names a storage as torch.save does not")
        storage = Storage(key, kind.full, numel)
        if not is_count(numel) or self.storages.setdefault(key, storage) != storage:
            raise BrokenError(f"it gives the storage {key!r} two sizes, or an impossible one")
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
            raise BrokenError(f"it makes more than {MOST_BYTES:,} bytes of its texts")
        return text.encode("latin1")

    def _build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        name = target.name if isinstance(target, Made) else ""
        if name in NUMPY:
            return  # the guards take it, or refuse it
        named = type(state) is dict and all(type(key) is str for key in state)
        if name == "collections.OrderedDict":
            named = named and not target.fixed and set(state) <= {"_metadata"}  # else it could hide its methods
        elif name.startswith("omegaconf.") and named and "_metadata" in state:
            # omegaconf sets attributes of it.
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
    """Return whether these are arguments of a tensor that lies in its storage, with hooks that are empty for good."""
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
    # No more numbers than the storage has, although strides of zero would reach none outside it: copies have them all.
    last = offset + sum((length - 1) * step for length, step in zip(size, stride))
    return last < storage.numel and math.prod(size) <= storage.numel


def _without_hooks(hooks: Any) -> bool:
    if not isinstance(hooks, Made) or hooks.name != "collections.OrderedDict" or hooks.items or hooks.state:
        return False
    hooks.fixed = True
    return True


def _kind(value: Any) -> str:
    """Return its name, for an error's line."""
    found: Optional[str] = value.full if isinstance(value, Name) else getattr(value, "name", None)
    return found or type(value).__name__
