"""Run Triton's interpreter in a third of the time: what it looks up at every call is looked up once."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

#: Whether this version of Triton has all functions that are replaced; others are left as they are.
IS_KNOWN = all(hasattr(interpreter, name) for name in ("_LangPatchScope", "_patch_lang", "_get_np_dtype", "ReduceOps"))
_replaced: set = set()


def use() -> None:
    """Interpret in this way from now on."""
    if IS_KNOWN:
        interpreter._patch_lang = patch_lang
        interpreter._get_np_dtype = numpy_type_once
        interpreter.ReduceOps.apply_impl = reduce_at_once


def own_way() -> list[tuple[Any, str, Any]]:
    """Return (owner, name, function) of the interpreter's own functions, for a test that compares both."""
    names = (("_patch_lang", replace), ("_get_np_dtype", numpy_type))
    return [*((interpreter, *pair) for pair in names), (interpreter.ReduceOps, "apply_impl", reduce)]


def patch_lang(function: Callable) -> Any:
    """Replace the language's functions that a kernel calls, but not again in the functions that it calls.

    The interpreter replaces them at every call without effect: they remain replaced until the kernel has ended.
    """
    languages = _languages(function)
    if languages in _replaced:
        return interpreter._LangPatchScope()
    scope = replace(function)
    _replaced.add(languages)
    restore = scope.restore

    def restored() -> None:
        _replaced.clear()
        restore()

    scope.restore = restored
    return scope


@functools.cache
def _languages(function: Callable) -> frozenset:
    return frozenset(x for x in function.__globals__.values() if inspect.ismodule(x) and x in (tl, tl.core))


def numpy_type_once(kind: Any) -> np.dtype:
    """Return NumPy's type for a Triton type; the interpreter makes a list of all types at every call."""
    kind = kind.element_ty if isinstance(kind, tl.block_type) else kind
    return _numpy_type_of_number(kind) if type(kind) is tl.dtype else numpy_type(kind)


@functools.cache
def _numpy_type_of_number(kind: tl.dtype) -> np.dtype:
    return numpy_type(kind)


def reduce_at_once(self: Any, input: tuple) -> Any:
    """Reduce by NumPy also for xor, which the interpreter does number by number."""
    if self.combine_fn is tl.standard._xor_combine and len(input) == 1:
        data = np.bitwise_xor.reduce(input[0].handle.data, axis=self.axis, keepdims=self.keep_dims)
        return self.to_tensor(data, input[0].dtype)
    return reduce(self, input)


if IS_KNOWN:
    replace, numpy_type, reduce = interpreter._patch_lang, interpreter._get_np_dtype, interpreter.ReduceOps.apply_impl
