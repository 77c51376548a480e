"""Noise: standard normal numbers for the price of a copy, with the same bits on every machine and device.

Drawing the keys and values of a request of 32,768 tokens takes seconds. So each process makes two tables of numbers,
one for queries and one for the rest, and every tensor is a run of one of them from a random start. A table's length is
a prime: a larger tensor meets it again at another offset within its rows, so that its rows all differ. Keys may have
rows in common; queries, which are multiplied with them, have a table of their own: a key that shared a query's numbers
would get all its attention.

The numbers come from integers alone, since logarithms and cosines differ from one machine's library to another's: eight
fields of 16 bits from a counter, mixed (splitmix64, Steele, Lea and Flood, OOPSLA 2014), are added up. Their sum is
normal but for its tails, which end at 4.9 deviations (Irwin and Hall). They are multiples of 2^-10, so that a sum of
thousands of them is exact in float32, in any order.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

Stream = Literal["keys", "queries"]

_MADE = 262_139
"""The numbers of a table: the largest prime below 2^18, 1 MiB."""

_STREAMS: dict[Stream, int] = {"keys": 1, "queries": 2}

_GRID = 2.0**10
"""The numbers are multiples of one over this."""

_FIELDS, _FIELD_BITS = 4, 16
"""Fields of a mixed counter; two counters make a number."""

_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""The constants of splitmix64."""

_CPU = torch.device("cpu")


def normal(
    shape: Sequence[int], rng: torch.Generator, device: torch.device = _CPU, *, stream: Stream = "keys"
) -> torch.Tensor:
    """Return float32 numbers of ``shape`` on ``device``, mean 0 and deviation 1; ``rng`` alone decides them."""
    return repeated(_numbers(stream, device), math.prod(shape), int(torch.randint(0, _MADE, (1,), generator=rng))).view(
        *shape
    )


def scaled_run(
    count: int, rng: torch.Generator, device: torch.device, scale: float, dtype: torch.dtype
) -> torch.Tensor:
    """Return ``count`` numbers as those of ``normal``, ``scale`` times, in ``dtype``: a view, which nobody writes."""
    if count > _MADE:
        return (scale * normal((count,), rng, device)).to(dtype)
    start = int(torch.randint(0, _MADE, (1,), generator=rng))
    return _scaled(scale, dtype, device)[start : start + count]


@cache
def _scaled(scale: float, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return the numbers for keys twice, so that a run from any place is a part."""
    return (scale * _numbers("keys", device).repeat(2)).to(dtype)


def repeated(block: torch.Tensor, count: int, place: int = 0) -> torch.Tensor:
    """Return ``count`` numbers of ``block`` [n] from ``place`` on, beginning again at its end, in a new tensor."""
    length = block.shape[0]
    if place + count <= length:
        return block[place : place + count].clone()
    turned = torch.cat([block[place:], block[:place]]) if place else block
    found = block.new_empty(count)
    whole = count // length * length
    found[:whole].view(-1, length).copy_(turned)
    found[whole:].copy_(turned[: count - whole])
    return found


@cache
def _numbers(stream: Stream, device: torch.device) -> torch.Tensor:
    counter = 2 * _FIELDS * _MADE * _STREAMS[stream] + torch.arange(2 * _MADE, device=device)
    mixed = _mix(counter)
    total = sum((mixed >> (_FIELD_BITS * field)) & (2**_FIELD_BITS - 1) for field in range(_FIELDS))
    fields = total[:_MADE] + total[_MADE:]
    highest = 2**_FIELD_BITS - 1
    deviation = math.sqrt(2 * _FIELDS * (2.0 ** (2 * _FIELD_BITS) - 1.0) / 12.0)
    centred = fields.double() - _FIELDS * highest
    found: torch.Tensor = ((centred * (_GRID / deviation)).round() / _GRID).float()
    return found


def _mix(counter: torch.Tensor) -> torch.Tensor:
    """Return splitmix64 of int64 numbers, which wrap around."""
    mixed = counter * _signed(_GOLDEN)
    mixed = (mixed ^ _shifted(mixed, 30)) * _signed(_MIX_1)
    mixed = (mixed ^ _shifted(mixed, 27)) * _signed(_MIX_2)
    return torch.bitwise_xor(mixed, _shifted(mixed, 31))


def _shifted(numbers: torch.Tensor, count: int) -> torch.Tensor:
    """Return ``numbers`` shifted right by ``count`` bits, zeros coming in at the left."""
    kept: torch.Tensor = (numbers >> count) & (2 ** (64 - count) - 1)
    return kept


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
