"""Stored numbers as they count: of any dtype, and of NVFP4, whose rows of bytes are read here.

A row of NVFP4 is first its numbers, two in a byte, the one of the lower place in the low four bits: a sign, and a place
in the list of magnitudes (e2m1: OCP Microscaling Formats 1.0, section 5.3.3). Behind them come the scales of its blocks
of 16 numbers, in e4m3. A number counts as often as the scale of its block.
"""

from __future__ import annotations

from functools import lru_cache

import torch

_BLOCK = 16
_BYTES = _BLOCK // 2 + 1
"""Numbers of a block, and bytes of it with its scale."""

_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def is_packed(stored: torch.Tensor) -> bool:
    """Return whether ``stored`` [..., bytes] are rows of NVFP4."""
    return stored.dtype is torch.uint8


def width_of(stored: torch.Tensor) -> int:
    """Return how many numbers a row of ``stored`` has."""
    return stored.shape[-1] // _BYTES * _BLOCK if is_packed(stored) else stored.shape[-1]


def numbers(stored: torch.Tensor) -> torch.Tensor:
    """Return ``stored`` [..., row] as numbers [..., D] in float64, exactly."""
    if not is_packed(stored):
        return stored.double()
    count = width_of(stored)
    found = _pairs(stored.device)[stored[..., : count // 2].int()].view(*stored.shape[:-1], count // _BLOCK, _BLOCK)
    scales = stored[..., count // 2 :].contiguous().view(torch.float8_e4m3fn).double()
    return found.mul_(scales[..., None]).flatten(-2)


def scaled(stored: torch.Tensor, scale: float | tuple[float, ...]) -> torch.Tensor:
    """Return ``stored`` in float64, ``scale`` times, or [..., heads, width] by the scales of its heads."""
    found = numbers(stored)
    if isinstance(scale, tuple):
        return found * found.new_tensor(scale)[:, None]
    return found if scale == 1.0 else found * scale


@lru_cache(maxsize=16)
def _pairs(device: torch.device) -> torch.Tensor:
    """Return the two numbers of each byte, [256, 2] float64. Nobody writes to it."""
    signed = [*_MAGNITUDES, *(-one for one in _MAGNITUDES)]
    return torch.tensor([(signed[byte & 15], signed[byte >> 4]) for byte in range(256)], dtype=torch.float64).to(device)
