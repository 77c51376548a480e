"""Rounds: the blocks of one question in one process, whatever a launch is and whoever holds the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attnconf.speeds.blocks import Block, draw_orders

Timed: TypeAlias = Callable[[], float]
"""A function that launches, waits, and returns the microseconds of one launch."""


def time_blocks(candidate: Timed, baseline: Timed, count: int, key: str) -> tuple[Block, ...]:
    """Time ``count`` blocks of both sides, in orders drawn by ``key``. Times are kept to a nanosecond."""
    sides = {"A": candidate, "B": baseline}
    found = []
    for order in draw_orders(count, key):
        first, second, third, fourth = (round(sides[side](), 3) for side in order)
        found.append(Block(order=order, micros=(first, second, third, fourth)))
    return tuple(found)
