"""How kernels are interpreted: with a GPU's arithmetic, and without Triton's interpreter doing the same thing twice.

For each operation the interpreter describes the type of every operand anew: its shape as a tuple of constants, their
type, its name, and the numpy dtype out of a table that it writes each time. That is most of what an interpreted kernel
costs. Here such a description is made once for each shape and type, by Triton's own functions, and kept.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Known = dict[Any, Any]

_np_dtypes: Known = {}
_tensors: Known = {}
_blocks: Known = {}
_shapes: Known = {}
"""What Triton made of a type: immutable, so that one description serves all."""

_constants: Known = {}
_MOST_CONSTANTS = 4096
"""Blocks of one number each, by the number and the type: loops count with many, and most of them are gone at once."""

_INTEGERS = frozenset({"int32", "int64"})
_PLAIN = _INTEGERS | {"int1", "int8", "uint8", "int16", "fp32"}
"""Types of which two compute in their own type, whatever the operation."""


@contextlib.contextmanager
def interpreting() -> Iterator[None]:
    """Compute as a GPU does: without numpy's warnings, since checks judge infinities and NaN, and without subnormals.

    Weights far behind the largest one are subnormal in float32, and a CPU takes a hundred times as long for a product
    with one of them. The bound allows for kernels that read them as zero (``_SMALLEST`` in numerics.py).
    """
    flushed = np.float32(2.0**-126) * np.float32(0.5) == 0.0
    torch.set_flush_denormal(True)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(), described_once():
            warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
            yield
    finally:
        torch.set_flush_denormal(bool(flushed))


@contextlib.contextmanager
def described_once() -> Iterator[None]:
    """Let Triton's interpreter describe each type once; a version that lacks one of its functions keeps its own way."""
    from triton.language import core, semantic
    from triton.runtime import interpreter

    places: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (interpreter, "_patch_lang_tensor", _indexed),
        (interpreter, "_get_np_dtype", _np_dtype),
        (core, "_unwrap_if_constexpr", _unwrapped),
        (core.tensor, "__init__", _tensor),
        (core.block_type, "__init__", _block),
        (core.dtype, "__eq__", _equal),
        (semantic.TritonSemantic, "broadcast_impl_value", _broadcast),
        (semantic.TritonSemantic, "binary_op_type_checking_impl", _checked),
        (semantic.TritonSemantic, "binary_op_sanitize_overflow_impl", _asserted),
        (semantic.TritonSemantic, "cast", _cast),
    )
    found = [(place, name, vars(place)[name], made) for place, name, made in places if name in vars(place)]
    try:
        for place, name, original, made in found:
            setattr(place, name, made(original))
        yield
    finally:
        for place, name, original, _ in found:
            setattr(place, name, original)


def _indexed(original: Callable[..., None]) -> Callable[..., None]:
    """Let a loaded number be the end of a loop: Triton 3.6 and older ask numpy for it in a way that 2.4 refuses."""

    def patch(tensor: Any, scope: Any) -> None:  # noqa: ANN401 - Triton's
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    return patch


def _np_dtype(original: Callable[..., Any]) -> Callable[..., Any]:
    def np_dtype(type_: Any) -> Any:  # noqa: ANN401 - Triton's
        known = _np_dtypes.get(type_.name)
        if known is None:
            known = _np_dtypes[type_.name] = original(type_)
        return known

    return np_dtype


def _unwrapped(original: Callable[..., Any]) -> Callable[..., Any]:
    from triton.language.core import constexpr, tensor

    whole = {int, bool, float, str, type(None)}

    def unwrapped(value: Any) -> Any:  # noqa: ANN401 - Triton's
        kind = type(value)
        if kind is constexpr:
            return value.value
        return value if kind in whole or kind is tensor else original(value)

    return unwrapped


def _tensor(original: Callable[..., None]) -> Callable[..., None]:
    def init(self: Any, handle: Any, type: Any) -> None:  # noqa: A002, ANN401 - as Triton names it
        name = type.name if type.is_block() else ""
        known = _tensors.get(name)
        if known is None:
            original(self, handle, type)
            _tensors[name] = {key: value for key, value in vars(self).items() if key not in {"handle", "type", "dtype"}}
            return
        own = vars(self)
        own.update(known)
        own["handle"], own["type"], own["dtype"] = handle, type, type.scalar

    return init


def _block(original: Callable[..., None]) -> Callable[..., None]:
    from triton.language.core import constexpr

    def init(self: Any, element_ty: Any, shape: Any) -> None:  # noqa: ANN401 - Triton's
        sizes = tuple([size.value if type(size) is constexpr else size for size in shape])
        known = _blocks.get((element_ty.name, sizes))
        if known is None:
            original(self, element_ty, shape)
            self.shape = _shapes.setdefault(sizes, self.shape)  # one object, so that equal shapes are the same one
            _blocks[element_ty.name, sizes] = dict(vars(self))
            return
        vars(self).update(known)

    return init


def _equal(original: Callable[..., bool]) -> Callable[..., bool]:
    def equal(self: Any, other: Any) -> bool:  # noqa: ANN401 - Triton's
        return self is other or original(self, other)

    return equal


def _broadcast(original: Callable[..., Any]) -> Callable[..., Any]:
    def broadcast(self: Any, lhs: Any, rhs: Any) -> Any:  # noqa: ANN401 - Triton's
        left, right = lhs.type, rhs.type
        if left.is_block() and right.is_block():
            alike = left.shape is right.shape
        else:
            alike = left.is_block() == right.is_block()
        return (lhs, rhs) if alike else original(self, lhs, rhs)

    return broadcast


def _checked(original: Callable[..., Any]) -> Callable[..., Any]:
    """Let operands of one plain type pass, and a number beside a tensor be made a block of that type once."""
    from triton.language.core import tensor

    def checked(self: Any, lhs: Any, rhs: Any, *more: Any, **options: Any) -> Any:  # noqa: ANN401 - Triton's
        left, right = type(lhs) is tensor, type(rhs) is tensor
        if left and right:
            name, other = lhs.dtype.name, rhs.dtype.name
            if name == other and name in _PLAIN:
                return self.broadcast_impl_value(lhs, rhs)
            if more[:1] == (True,) and other in _INTEGERS and lhs.dtype.is_ptr():
                return self.broadcast_impl_value(lhs, rhs)
            return original(self, lhs, rhs, *more, **options)
        block, number = (lhs, rhs) if left else (rhs, lhs)
        name = block.dtype.name if left or right else ""
        if not (type(number) is int and name in _PLAIN) and not (type(number) is float and number and name == "fp32"):
            return original(self, lhs, rhs, *more, **options)
        key = (number, block.type.name, more, *options.values())  # as an operand of & it may be promoted
        known = _constants.get(key)
        if known is not None:
            return (block, known) if left else (known, block)
        found = original(self, lhs, rhs, *more, **options)
        made = found[1 if left else 0]
        if made.dtype.name == name:
            if len(_constants) >= _MOST_CONSTANTS:
                _constants.clear()
            made.handle.data.setflags(write=False)
            _constants[key] = made
        return found

    return checked


def _asserted(original: Callable[..., None]) -> Callable[..., None]:
    """Do not work out whether integers overflow where nobody is told: the assertion exists under ``debug`` alone."""

    def asserted(self: Any, *operands: Any) -> None:  # noqa: ANN401 - Triton's
        if self.builder.options.debug:
            original(self, *operands)

    return asserted


def _cast(original: Callable[..., Any]) -> Callable[..., Any]:
    def cast(self: Any, value: Any, to: Any, *more: Any, **options: Any) -> Any:  # noqa: ANN401 - Triton's
        return value if value.dtype is to else original(self, value, to, *more, **options)

    return cast
