"""Sending: several small tables of the host in one copy, of which each costs a GPU's host some 10 us."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_ALIGNED = 128
"""Numbers of 4 bytes to whose multiples tables are aligned, as a GPU's allocations are: kernels count on it."""


def sent(device: torch.device, *tables: ArrayLike) -> tuple[torch.Tensor, ...]:
    """Return ``tables`` of integers as int32 tensors on ``device``, of which each lies by itself in one memory."""
    arrays: list[NDArray[np.int32]] = [np.asarray(table, dtype=np.int32) for table in tables]
    starts = [0]
    for array in arrays:
        starts.append(starts[-1] + max(1, -(-array.size // _ALIGNED)) * _ALIGNED)
    memory = np.zeros(starts[-1], dtype=np.int32)
    for array, start in zip(arrays, starts, strict=False):
        memory[start : start + array.size] = array.reshape(-1)
    whole = torch.from_numpy(memory).to(device, non_blocking=True)
    return tuple(
        whole[start : start + array.size].view(array.shape) for array, start in zip(arrays, starts, strict=False)
    )
