"""Guards: bytes before and behind the memory of every input, so that a write that misses it is seen.

They are part of the input's allocation, whose bytes a check compares (``Batch.memory``).
"""

from __future__ import annotations

import torch

GUARD_BYTES = 512
"""On each side; a multiple of what a GPU aligns an allocation to, so that no kernel takes another path for it."""

_GUARD = 0x5A
"""A byte whose repetition is a plausible number in every dtype, and no page id of a pool."""


def between_guards(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return an uninitialised contiguous tensor with guards on both sides, in one allocation."""
    count = 1
    for size in shape:
        count *= size
    width = dtype.itemsize
    memory = torch.empty(
        count * width + 2 * GUARD_BYTES + -count * width % GUARD_BYTES, dtype=torch.uint8, device=device
    )
    memory[:GUARD_BYTES] = _GUARD
    memory[GUARD_BYTES + count * width :] = _GUARD
    return memory[GUARD_BYTES : GUARD_BYTES + count * width].view(dtype).view(shape)


def guarded(tensor: torch.Tensor) -> torch.Tensor:
    """Return a contiguous copy of ``tensor`` between guards, on its own device."""
    copy = between_guards(tuple(tensor.shape), tensor.dtype, tensor.device)
    copy.copy_(tensor)
    return copy
