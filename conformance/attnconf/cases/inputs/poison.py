"""Poison: the contents of dead memory, that is free pages, page tails, the null page and padding between pages."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.noise import scaled_run

if TYPE_CHECKING:
    from attnconf.cases.case import PoisonKind

STALE_SCALE = 4.0
"""Deviation of stale values: plausible, as if an earlier request had left them, but large enough to show."""

_STALE_BLOCK = 2**16
"""Elements of noise that are drawn and then repeated: filling a whole pool would cost more than running a kernel."""


def fill(tensor: torch.Tensor, kind: PoisonKind, rng: torch.Generator) -> None:
    """Overwrite all of ``tensor`` (contiguous) with ``kind``, with the same values on every device."""
    dtype = tensor.dtype
    if kind == "stale":
        block = bits(scaled_run(min(tensor.numel(), _STALE_BLOCK), rng, tensor.device, STALE_SCALE, dtype))
        flat = bits(tensor).view(-1)
        whole = flat.numel() // block.numel() * block.numel()
        flat[:whole].view(-1, block.numel()).copy_(block)
        if whole < flat.numel():
            flat[whole:].copy_(block[: flat.numel() - whole])
        return
    bits(tensor).fill_(_pattern(kind, dtype))


@cache
def _pattern(kind: PoisonKind, dtype: torch.dtype) -> int:
    """Return the bits of the number that fills memory."""
    value = {"zero": 0.0, "huge": torch.finfo(dtype).max, "inf": math.inf, "nan": math.nan}[kind]
    return int(bits(torch.full((1,), value).to(dtype)))


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return ``tensor`` viewed as integers of its width: copies and comparisons then keep NaN payloads."""
    return tensor.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])
