"""Draw candidate cases and keep the one that covers most new pairs of traits.

Chance alone repeats what is common and leaves pairs of rare traits to the end. So the first cases of a campaign are
picked, as in a covering design: from a few candidates the one with most new pairs of traits for its cost. The rest come
as they are drawn.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING

from attnconf.cases.drawing.choices import Choices
from attnconf.cases.drawing.counter import counted
from attnconf.cases.drawing.lengths import shortened
from attnconf.cases.drawing.record import recorded, repeated
from attnconf.cases.drawing.serving import Load, lessened
from attnconf.cases.drawing.shrinking import shrink
from attnconf.cases.drawing.traits import ALONE, cost, pairs
from attnconf.cases.drawing.whole_case import draw_case

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.choices import Source
    from attnconf.cases.drawing.extremes import Card
    from attnconf.cases.drawing.record import Record
    from attnconf.cases.drawing.space import Space

PICKED = 40
"""How many cases of a campaign are picked: then nearly all pairs are covered."""

CANDIDATES = 8
"""Candidates per pick."""

_TRAIT_IN_PAIRS = 64
"""How many pairs a new trait is worth."""

_COMPROMISE = 0.5
"""The power of a case's cost that counts."""


@dataclass(frozen=True)
class Draws:
    """Up to ``examples`` cases of ``space``: the same space and seed give the same ones, wherever they are drawn."""

    space: Space
    seed: int
    examples: int

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The cases in the order in which they are asked, each once."""
        candidates = [candidate.case for candidate in self.pool]
        cards = list({case.id: case for case in candidates[: self._cards]}.values())
        others = [case for case in candidates if case not in cards]
        return (*cards, *_picked(others, self.examples - len(cards), self._candidates, cards))

    def candidate(self, case: Case) -> Drawn:
        """Return the candidate whose case is ``case``, one of ``cases``."""
        return next(one for one in self.pool if one.case.id == case.id)

    def shrink(self, failing: Drawn, fails: Callable[[Case], bool]) -> list[Drawn]:
        """Return cases that fail, each simpler than the one before: ``failing`` first, the simplest found last."""

        def ask(record: Record) -> Record | None:
            simpler = self.drawn(repeated(record), failing.card)
            return simpler.record if fails(simpler.case) else None

        descent = shrink(failing.record, ask)[1:]
        return [failing, *(self.drawn(repeated(record), failing.card) for record in descent)]

    def shorter(self, failing: Case) -> Iterator[Case]:
        """Return shorter cases than a ``failing`` one, the shortest first, that ``shrink`` cannot reach."""
        return chain(lessened(failing) if self._serves else (), shortened(failing) if self.is_large else ())

    @property
    def is_large(self) -> bool:
        """Whether each case is long, with a request of ``space.long_kv_len`` keys, or one of a serving load."""
        return self.space.long_kv_len > 0 or self._serves

    @property
    def _serves(self) -> bool:
        return any(isinstance(card, Load) for card in self.space.deck)

    @property
    def _candidates(self) -> int:
        return 1 if self.is_large else CANDIDATES  # what is long is meant to cost

    @cached_property
    def pool(self) -> tuple[Drawn, ...]:
        """The candidates, in the order of their numbers."""
        more = (self._candidates - 1) * min(self.examples - self._cards, PICKED)
        cards = (*self.space.deck[: self._cards], *repeat(None, self.examples - self._cards + more))
        return tuple(self.drawn(counted(self.seed, number), card) for number, card in enumerate(cards))

    @property
    def _cards(self) -> int:
        """How many cases are those of a card: the first ones, in its order."""
        return min(len(self.space.deck), self.examples)

    def drawn(self, source: Source, card: Card | Load | None = None) -> Drawn:
        """Return the case that the choices of ``source`` give."""
        record: Record = {}
        return Drawn(draw_case(Choices(recorded(source, record)), self.space, card), record, card)


@dataclass(frozen=True)
class Drawn:
    """A case, the choices that give it, and the card for which it was drawn."""

    case: Case
    record: Record
    card: Card | Load | None


@dataclass(frozen=True)
class _Rated:
    """The pairs of traits that a case covers, as bits, and what counts of its cost."""

    pairs: int
    price: float

    def gain(self, covered: int) -> float:
        """Return how many pairs are new beside those ``covered``, for the price; a new trait counts as many pairs."""
        new = self.pairs & ~covered
        return (new.bit_count() + _TRAIT_IN_PAIRS * (new & ALONE).bit_count()) / self.price


def _picked(pool: Sequence[Case], examples: int, several: int, before: Sequence[Case]) -> Iterator[Case]:
    """Yield up to ``examples`` cases of ``pool``: each of the first is the best of ``several``, given ``before``."""
    fresh = list({case.id: case for case in pool}.values())
    passed_over: list[Case] = []
    covered = 0
    for case in before:
        covered |= pairs(case)
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


def by_variety(
    cases: Sequence[Case], executed: Sequence[Collection[int]] | None = None, *, in_time: bool = False
) -> list[int]:
    """Return the indices of ``cases``, ordered so that the first ones cover most pairs of traits for their cost.

    ``executed`` are the layers of each case that a backend executes: only their pairs count. Where no case brings a new
    pair, all pairs count as new again; those that bring none at all come last. The root of the cost counts, which is a
    compromise between most pairs in so many cases and most in so much time; ``in_time``, all of it does.
    """
    of_all: Sequence[Collection[int] | None] = [None] * len(cases) if executed is None else executed
    power = 1.0 if in_time else _COMPROMISE
    rated = [_rated(case, layers, power) for case, layers in zip(cases, of_all, strict=True)]
    order: list[int] = []
    left = [index for index, one in enumerate(rated) if one.pairs]
    without = [index for index, one in enumerate(rated) if not one.pairs]
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
    return order + without


def _rated(case: Case, layers: Collection[int] | None = None, power: float = _COMPROMISE) -> _Rated:
    return _Rated(pairs(case, layers), cost(case) ** power)
