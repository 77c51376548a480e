"""Noise: standard normal numbers for the price of a copy.

Drawing the keys and values of a request of 32,768 tokens takes seconds. So each process draws one block of numbers, and
every tensor is a slice of it from a random start. The block's length is a prime: a larger tensor wraps around at
another offset within its rows, so that its rows all differ. Two tensors may have rows in common; that is harmless for
keys and values, but queries, which are multiplied with them, are drawn afresh.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

_DRAWN = 4_194_301
"""The largest prime below 2^22: 16 MiB."""

_SEED = 0x5EED
"""Fixed, so that every process has the same block of numbers."""


def normal(shape: Sequence[int], rng: torch.Generator) -> torch.Tensor:
    """Return float32 numbers of ``shape``, mean 0 and deviation 1, on the CPU; ``rng`` alone decides them."""
    count = math.prod(shape)
    found = torch.empty(count)
    place = int(torch.randint(0, _DRAWN, (1,), generator=rng))
    done = 0
    while done < count:
        run = _numbers()[place : place + count - done]
        found[done : done + len(run)] = run
        done, place = done + len(run), 0
    return found.view(*shape)


@cache
def _numbers() -> torch.Tensor:
    return torch.randn(_DRAWN, generator=torch.Generator().manual_seed(_SEED))
