"""Poison: the contents of dead memory, that is free pages, page tails, the null page and padding between pages."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import torch

from attnconf.cases.dtypes import BLOCK
from attnconf.cases.inputs.noise import normal, scaled_run
from attnconf.cases.inputs.stored import packed, parts_of

if TYPE_CHECKING:
    from attnconf.cases.case import PoisonKind

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The integers in whose place numbers of so many bytes are copied and compared."""

STALE_SCALE = 4.0
"""Deviation of stale values: plausible, as if an earlier request had left them, but large enough to show."""

_STALE_BLOCK = 2**16
"""Elements of noise that are drawn and then repeated: filling a whole pool would cost more than running a kernel."""

_PAIR_OF_SIXES = 0x77
"""A byte of two numbers of 4 bits, the largest ones: there is no infinity, and NaN is in block scales alone."""


def fill(tensor: torch.Tensor, kind: PoisonKind, rng: torch.Generator, part: int | None = None) -> None:
    """Overwrite all of ``tensor`` (contiguous) with ``kind``, with the same values on every device.

    With a ``part`` it is that part of packed rows: their numbers, 0, or the scales of their blocks, 1.
    """
    dtype = tensor.dtype
    if kind == "stale":
        block = _stale(tensor, rng, part)
        flat = bits(tensor).view(-1)
        whole = flat.numel() // block.numel() * block.numel()
        flat[:whole].view(-1, block.numel()).copy_(block)
        if whole < flat.numel():
            flat[whole:].copy_(block[: flat.numel() - whole])
        return
    bits(tensor).fill_(_pattern(kind, dtype))


def _stale(tensor: torch.Tensor, rng: torch.Generator, part: int | None) -> torch.Tensor:
    """Return the bits of plausible numbers, as many as ``tensor`` has or a block of them, [n]."""
    numbers = tensor.numel() * (1 if part is None else BLOCK if part else 2)
    count = min(numbers, _STALE_BLOCK)
    if part is None:
        return bits(scaled_run(count, rng, tensor.device, STALE_SCALE, tensor.dtype))
    rows = packed(STALE_SCALE * normal((-(-count // BLOCK), BLOCK), rng, tensor.device))
    return bits(parts_of(rows)[part].contiguous()).flatten()[: tensor.numel()]


@cache
def _pattern(kind: PoisonKind, dtype: torch.dtype) -> int:
    """Return the bits of the number that fills memory."""
    if dtype is torch.uint8:
        return 0 if kind == "zero" else _PAIR_OF_SIXES
    value = {"zero": 0.0, "huge": torch.finfo(dtype).max, "inf": math.inf, "nan": math.nan}[kind]
    return int(bits(torch.full((1,), value).to(dtype)))


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return ``tensor`` viewed as integers of its width: copies and comparisons then keep NaN payloads."""
    integers = _INTEGERS[tensor.element_size()]
    return tensor if tensor.dtype is integers else tensor.view(integers)
