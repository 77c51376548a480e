"""A simulated clock: times of launches as a GPU's look, with a ratio that is known. It measured nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass

from attnconf.speeds.blocks import Block, draw_orders


@dataclass(frozen=True, kw_only=True)
class SimulatedClock:
    """Times of two sides. ``speedup`` is B's time over A's.

    ``noise`` is the relative spread of one time, ``process_noise`` that of the ratio between processes, ``drift`` by
    how much all times grow over the blocks of a process, and ``spikes`` how many of 100 times something else disturbs.
    """

    speedup: float = 1.0
    noise: float = 0.01
    process_noise: float = 0.004
    drift: float = 0.05
    spikes: int = 2

    def blocks(self, seed: int, *, processes: int = 5, blocks: int = 12, micros: float = 80.0) -> list[list[Block]]:
        """Return the blocks of each process."""
        return [self._process(f"{seed}/{process}", blocks, micros) for process in range(processes)]

    def _process(self, key: str, count: int, micros: float) -> list[Block]:
        draw = random.Random(key)  # noqa: S311 - no secret
        base = {"A": micros, "B": micros * self.speedup * (1 + draw.gauss(0, self.process_noise))}
        found, steps = [], 0
        for order in draw_orders(count, key):
            times = []
            for side in order:
                slow = 1 + self.drift * steps / (4 * count)
                steps += 1
                spike = 1.5 if draw.randrange(100) < self.spikes else 1.0
                times.append(base[side] * slow * spike * (1 + abs(draw.gauss(0, self.noise))))
            found.append(Block(order=order, micros=(times[0], times[1], times[2], times[3])))
        return found
