"""Blocks: the order in which two sides are timed, and the times of one such block.

A block times each side twice, in the order ABBA or BAAB. What drifts steadily, such as a clock that sinks while a GPU
warms up, adds the same to both sides of a block and leaves its ratio alone. The order of each block is drawn, so that
nothing of a fixed period falls on one side.
"""

from __future__ import annotations

import math
import random
from typing import Annotated, Literal

from pydantic import Field

from attnconf.values import Value

Order = Literal["ABBA", "BAAB"]
Micros = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
"""Microseconds of one launch."""


class Block(Value):
    """The four times of a block in the order in which they were taken; A is the candidate, B what it is held against.

    Each is the time of one launch in microseconds, as the mean of some launches behind each other.
    """

    order: Order
    micros: tuple[Micros, Micros, Micros, Micros]

    @property
    def log_ratio(self) -> float:
        """The logarithm of B's time over A's, which is A's speed over B's: above 0 the candidate is faster."""
        return self._mean_log("B") - self._mean_log("A")

    def of(self, side: str) -> tuple[float, ...]:
        """Return the two times of ``side``, ``A`` or ``B``."""
        return tuple(time for name, time in zip(self.order, self.micros, strict=True) if name == side)

    def _mean_log(self, side: str) -> float:
        return sum(map(math.log, self.of(side))) / 2


def draw_orders(count: int, key: str) -> tuple[Order, ...]:
    """Return the orders of ``count`` blocks: as many of one kind as of the other, to one, in an order drawn by ``key``.

    The same key gives the same orders, so that a run can be repeated; each process and cell has a key of its own.
    """
    generator = random.Random(key)  # noqa: S311 - no secret
    first: list[Order] = ["ABBA", "BAAB"]
    generator.shuffle(first)
    orders = [first[index % 2] for index in range(count)]
    generator.shuffle(orders)
    return tuple(orders)
