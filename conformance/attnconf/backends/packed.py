"""Keys and values of 4 bits as numbers, for backends in plain PyTorch. It has no code in common with the oracle."""

from __future__ import annotations

import torch

from attnconf.cases.dtypes import BLOCK


def unpacked(pairs: torch.Tensor, block_scales: torch.Tensor) -> torch.Tensor:
    """Return gathered NVFP4 as float32 numbers [tokens, num_kv_heads, width], exactly.

    ``pairs`` [tokens, num_kv_heads, width / 2] uint8 have two numbers a byte, the first one in the low bits, and
    ``block_scales`` [tokens, num_kv_heads, width / 16] float8_e4m3fn one scale for each 16 numbers in a row.
    """
    codes = torch.stack([pairs & 15, pairs >> 4], dim=-1).flatten(-2).int()
    exponent, mantissa = codes >> 1 & 3, (codes & 1).float()
    magnitude = torch.where(exponent > 0, torch.ldexp(1.0 + mantissa / 2, exponent - 1), mantissa / 2)
    numbers = torch.where(codes > 7, -magnitude, magnitude)  # noqa: PLR2004 - the sign bit
    return numbers * block_scales.float().repeat_interleave(BLOCK, dim=-1)
