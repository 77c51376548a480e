# INTEGRATOR: read /tmp/w/h-pow/AAA-INTEGRATOR-READ-THIS.md before going on.
"""Draws: the cases of a campaign in order. Each is, of several, the one that brings most new traits together.

Chance alone repeats what is common and leaves pairs of rare traits to the end. So the first cases of a campaign are
picked, as in a covering design: of some candidates, the one with most pairs of traits that did not meet yet, for what
it costs. Then they come as they are drawn.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.choices import Choices, Drawn
from attnconf.strategies import draw_case
from attnconf.traits import cost, pairs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnconf.case import Case
    from attnconf.strategies import Space

PICKED = 40
"""How many cases of a campaign are picked: then nearly all pairs have met."""

CANDIDATES = 24
"""Of how many cases one is picked."""


@dataclass(frozen=True)
class DrawnCase:
    """A case, and the choices that make it in its space."""

    case: Case
    taken: dict[str, int]


@dataclass(frozen=True)
class Worth:
    """The pairs of traits that a case brings together, as bits, and what it costs."""

    pairs: int
    cost: float

    def gain(self, met: int) -> float:
        """Return how many pairs are new beside those ``met``, for the cost.

        The root lies between two aims: most pairs in so many cases, whatever they cost, and most in so much time.
        """
        return (self.pairs & ~met).bit_count() / math.sqrt(self.cost)


def draw_cases(space: Space, seed: int, examples: int) -> Iterator[DrawnCase]:
    """Draw up to ``examples`` cases of ``space``, each distinct one once: more of them begin with the same ones."""
    met, seen = 0, set[str]()
    for turn in range(examples):
        several = turn < PICKED and not space.long_kv_len  # what is long is meant to cost
        drawn = (_draw(space, f"{seed}/{turn}/{candidate}") for candidate in range(CANDIDATES if several else 1))
        fresh = [one for one in drawn if one.case.id not in seen]
        if not fresh:
            continue
        picked = fresh[0]
        if several:
            worths = [_worth(one.case) for one in fresh]
            best = max(range(len(fresh)), key=lambda index: worths[index].gain(met))
            picked, met = fresh[best], met | worths[best].pairs
        seen.add(picked.case.id)
        yield picked


def by_variety(cases: Sequence[Case]) -> list[int]:
    """Return the indices of ``cases`` so that the first ones bring most pairs of traits together for what they cost.

    Where no case brings a new pair, all pairs count as new again.
    """
    worths = [_worth(case) for case in cases]
    order: list[int] = []
    left = list(range(len(cases)))
    while left:
        met = 0
        waiting = [(-worths[index].gain(met), index) for index in left]
        heapq.heapify(waiting)
        left = []
        while waiting:
            _, index = heapq.heappop(waiting)
            gain = worths[index].gain(met)
            if gain == 0:
                left.append(index)
            elif waiting and gain < -waiting[0][0]:
                heapq.heappush(waiting, (-gain, index))  # gains only fall: another's may be larger now
            else:
                order.append(index)
                met |= worths[index].pairs
    return order


def _worth(case: Case) -> Worth:
    return Worth(pairs(case), cost(case))


def _draw(space: Space, seed: str) -> DrawnCase:
    source = Drawn(seed)
    return DrawnCase(draw_case(space, Choices(source)), source.taken)
