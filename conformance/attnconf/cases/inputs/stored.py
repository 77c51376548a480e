"""How numbers are stored: cast to a dtype, or packed as NVFP4. The same bits on every device.

A packed row of D numbers is D/2 bytes of numbers of 4 bits and D/16 bytes of block scales (``attnconf.oracle.packed``
reads it). The two lie in pools of their own; what is not paged has them in one row, so that tokens and heads are cut
alike in every format.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnconf.cases.dtypes import BLOCK, NVFP4, QUANTISED

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGEST = 6.0
"""The largest number of 4 bits."""

_MOST = float(torch.finfo(torch.float8_e4m3fn).max)

_BORDERS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
"""Halfway between two magnitudes of 4 bits: 0, 0.5, 1, 1.5, 2, 3, 4, 6."""

_SIGN = 8

_SPREAD = (1.0, 0.25, 0.5, 0.125)
"""Factors of values, none above 1: an answer of 8 bits ends where values of deviation 1 do."""


def stored_dtype(name: str) -> torch.dtype:
    """Return the dtype of the tensors that hold keys or values of the dtype ``name``: bytes for packed ones."""
    dtype: torch.dtype = torch.uint8 if name == NVFP4 else getattr(torch, name)
    return dtype


def largest_stored(name: str) -> float:
    """Return the largest number that the dtype ``name`` has, its block scale included."""
    return _LARGEST * _MOST if name == NVFP4 else torch.finfo(stored_dtype(name)).max


def stored(drafted: torch.Tensor, scale: float, name: str) -> torch.Tensor:
    """Return float32 numbers as they are stored in the dtype ``name``, of which each counts ``scale`` times."""
    drafted = divided(drafted, scale)
    if name in QUANTISED:
        most = largest_stored(name)
        drafted = drafted.clamp(-most, most)
    return packed(drafted) if name == NVFP4 else drafted.to(stored_dtype(name))


def divided(drafted: torch.Tensor, scale: float, by_head: Sequence[float] = ()) -> torch.Tensor:
    """Return float32 numbers [..., heads, width] divided by a scale, and by those of their heads."""
    if by_head:
        inverse = torch.tensor([1.0 / one for one in by_head], dtype=torch.float32)
        drafted = drafted * inverse[:, None].to(drafted.device, non_blocking=True)
    return drafted if scale == 1.0 else drafted * (1.0 / scale)  # a GPU divides by a number so, too


def packed(numbers: torch.Tensor) -> torch.Tensor:
    """Return float32 ``numbers`` [..., D] as rows of NVFP4, [..., 9/16 D] uint8; 16 divides D.

    The largest magnitude of a block becomes 6, with a scale that is rounded to e4m3. The borders between two numbers
    are exact multiples of it, so that no device rounds one otherwise than another.
    """
    blocks = numbers.view(*numbers.shape[:-1], numbers.shape[-1] // BLOCK, BLOCK)
    scales = (blocks.abs().amax(dim=-1) * (1.0 / _LARGEST)).clamp_max(_MOST).to(torch.float8_e4m3fn)
    wide = scales.float()[..., None]
    codes = _SIGN * (blocks < 0).to(torch.uint8)
    for border in _BORDERS:
        codes += blocks.abs() > border * wide
    codes = codes.flatten(-2)
    return torch.cat([codes[..., ::2] | codes[..., 1::2] << 4, scales.view(torch.uint8)], dim=-1)


def block_factors(tokens: int, heads: int, width: int, device: torch.device) -> torch.Tensor:
    """Return a factor for each number of values [tokens, heads, width], the same within a block.

    Neighbours differ in it, whether blocks, heads or tokens: noise alone would give all blocks about the same scale.
    """
    blocks = torch.arange(width, device=device) // BLOCK
    turn = torch.arange(tokens, device=device)[:, None, None] + torch.arange(heads, device=device)[:, None] + blocks
    return torch.tensor(_SPREAD, device=device)[turn % len(_SPREAD)]


def parts_of(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return ``rows`` of keys or values as their pools hold them: as they are, or packed numbers and block scales."""
    if rows.dtype is not torch.uint8:
        return (rows,)
    numbers = rows.shape[-1] // (BLOCK // 2 + 1) * (BLOCK // 2)
    return rows[..., :numbers], rows[..., numbers:].contiguous().view(torch.float8_e4m3fn)


def joined_parts(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return rows of these parts: the other way round."""
    return parts[0] if len(parts) == 1 else torch.cat([part.view(torch.uint8) for part in parts], dim=-1)


def part_dtypes(name: str) -> tuple[torch.dtype, ...]:
    """Return the dtypes of these parts."""
    return (torch.uint8, torch.float8_e4m3fn) if name == NVFP4 else (stored_dtype(name),)


def widths_of(width: int, name: str) -> tuple[int, ...]:
    """Return the elements of each of these parts of a key or value of ``width`` numbers."""
    return (width // 2, width // BLOCK) if name == NVFP4 else (width,)
