"""Draw candidate cases and keep the one that covers most new pairs of traits.

Chance alone repeats what is common and leaves pairs of rare traits to the end. So the first cases of a campaign are
picked, as in a covering design: from a few candidates the one with most new pairs of traits for its cost. The rest come
as they are drawn.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from attnconf.cases.drawing.choices import Choices
from attnconf.cases.drawing.counter import counted
from attnconf.cases.drawing.lengths import shortened
from attnconf.cases.drawing.record import recorded, repeated
from attnconf.cases.drawing.shrinking import shrink
from attnconf.cases.drawing.traits import ALONE, cost, pairs
from attnconf.cases.drawing.whole_case import draw_case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.choices import Source
    from attnconf.cases.drawing.record import Record
    from attnconf.cases.drawing.space import Space

PICKED = 40
"""How many cases of a campaign are picked: then nearly all pairs are covered."""

CANDIDATES = 8
"""Candidates per pick."""

_TRAIT_IN_PAIRS = 64
"""How many pairs a new trait is worth."""


@dataclass(frozen=True)
class Draws:
    """Up to ``examples`` cases of ``space``: the same space and seed give the same ones, wherever they are drawn."""

    space: Space
    seed: int
    examples: int

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The cases in the order in which they are asked, each once."""
        candidates = [candidate.case for candidate in self._pool]
        return tuple(_picked(candidates, self.examples, self._candidates))

    def shrink(self, failing: Case, fails: Callable[[Case], bool]) -> None:
        """Ask ``fails`` of cases that are simpler than ``failing``, one of ``cases``: the last to fail is simplest."""

        def ask(record: Record) -> Record | None:
            simpler = self._drawn(repeated(record))
            return simpler.record if fails(simpler.case) else None

        shrink(next(one.record for one in self._pool if one.case.id == failing.id), ask)

    def shorter(self, failing: Case) -> Iterator[Case]:
        """Return shorter cases than a ``failing`` one, the shortest first, that ``shrink`` cannot reach."""
        return shortened(failing) if self.is_long else iter(())

    @property
    def is_long(self) -> bool:
        """Whether each case has a request of ``space.long_kv_len`` keys."""
        return self.space.long_kv_len > 0

    @property
    def _candidates(self) -> int:
        return 1 if self.is_long else CANDIDATES  # what is long is meant to cost

    @cached_property
    def _pool(self) -> tuple[_Drawn, ...]:
        """The candidates, in the order in which they are drawn."""
        more = (self._candidates - 1) * min(self.examples, PICKED)
        return tuple(self._drawn(counted(self.seed, number)) for number in range(self.examples + more))

    def _drawn(self, source: Source) -> _Drawn:
        record: Record = {}
        return _Drawn(draw_case(Choices(recorded(source, record)), self.space), record)


@dataclass(frozen=True)
class _Drawn:
    """A case, and the choices that give it."""

    case: Case
    record: Record


@dataclass(frozen=True)
class _Rated:
    """The pairs of traits that a case covers, as bits, and its cost."""

    pairs: int
    cost: float

    def gain(self, covered: int) -> float:
        """Return how many pairs are new beside those ``covered``, for the cost; a new trait counts as many pairs.

        The root of the cost is a compromise: between most pairs in so many cases, and most pairs in so much time.
        """
        new = self.pairs & ~covered
        return (new.bit_count() + _TRAIT_IN_PAIRS * (new & ALONE).bit_count()) / math.sqrt(self.cost)


def _picked(pool: Sequence[Case], examples: int, several: int) -> Iterator[Case]:
    """Yield up to ``examples`` cases of ``pool``: the first ones each the best of ``several`` candidates."""
    fresh = list({case.id: case for case in pool}.values())
    passed_over: list[Case] = []
    covered = 0
    for _ in range(min(examples, PICKED)):
        candidates, fresh = fresh[:several], fresh[several:]
        if not candidates:
            break
        rated = [_rated(case) for case in candidates]
        best = max(range(len(rated)), key=lambda index: rated[index].gain(covered))
        covered |= rated[best].pairs
        yield candidates.pop(best)
        examples -= 1
        passed_over += candidates
    yield from islice([*fresh, *passed_over], examples)


def by_variety(cases: Sequence[Case]) -> list[int]:
    """Return the indices of ``cases``, ordered so that the first ones cover most pairs of traits for their cost.

    Where no case brings a new pair, all pairs count as new again.
    """
    rated = [_rated(case) for case in cases]
    order: list[int] = []
    left = list(range(len(cases)))
    while left:
        covered = 0
        waiting = [(-rated[index].gain(covered), index) for index in left]
        heapq.heapify(waiting)
        left = []
        while waiting:
            _, index = heapq.heappop(waiting)
            gain = rated[index].gain(covered)
            if gain == 0:
                left.append(index)
            elif waiting and gain < -waiting[0][0]:
                heapq.heappush(waiting, (-gain, index))  # gains only fall: another's may be larger now
            else:
                order.append(index)
                covered |= rated[index].pairs
    return order


def _rated(case: Case) -> _Rated:
    return _Rated(pairs(case), cost(case))
