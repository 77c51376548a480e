"""Guards: bytes before and behind the memory of every input, so that a write that misses it is seen.

They are part of the input's allocation, whose bytes a check compares (``Batch.memory``).
"""

from __future__ import annotations

import math

import torch

GUARD_BYTES = 512
"""On each side; a multiple of what a GPU aligns an allocation to, so that no kernel takes another path for it."""

_GUARD = 0x5A
"""A byte whose repetition is a plausible number in every dtype, and no page id of a pool."""


SMALL_BYTES = {"cpu": 2**16, "cuda": 2**25}
"""Memory up to which all of it is filled like a guard, by its device: one operation costs less than two short ones."""


def between_guards(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return an uninitialised contiguous tensor with guards on both sides, in one allocation."""
    return _inside(_memory(shape, dtype, device), shape, dtype)


def guarded(tensor: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """Return a contiguous copy of ``tensor`` between guards on ``device`` (None: its own), sent there in one copy."""
    shape = tuple(tensor.shape)
    memory = _memory(shape, tensor.dtype, tensor.device)
    _inside(memory, shape, tensor.dtype).copy_(tensor)
    sent = memory if device is None else memory.to(device, non_blocking=True)
    return _inside(sent, shape, tensor.dtype)


def _memory(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return the bytes of a tensor and its guards, [bytes] uint8."""
    inside = math.prod(shape) * dtype.itemsize
    size = inside + 2 * GUARD_BYTES + -inside % GUARD_BYTES
    if size <= SMALL_BYTES[device.type]:
        return torch.full((size,), _GUARD, dtype=torch.uint8, device=device)
    memory = torch.empty(size, dtype=torch.uint8, device=device)
    memory[:GUARD_BYTES].fill_(_GUARD)
    memory[GUARD_BYTES + inside :].fill_(_GUARD)
    return memory


def _inside(memory: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return memory[GUARD_BYTES : GUARD_BYTES + math.prod(shape) * dtype.itemsize].view(dtype).view(shape)
