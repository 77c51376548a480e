"""Noise: standard normal numbers for the price of a copy.

To draw the keys and values of a request of 32,768 tokens takes seconds. So numbers are drawn once a process, and every
tensor is a run of them from a place of its own. Their count is a prime: a tensor that needs more of them starts over at
another offset within its rows, so that no two of its rows are equal. Two tensors may have rows in common: they are for
keys and values, not for the queries that are multiplied with these.
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


def normal(shape: Sequence[int], rng: torch.Generator) -> torch.Tensor:
    """Return float32 numbers of ``shape``, mean 0 and deviation 1, on the CPU: the same ones for the same ``rng``."""
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
