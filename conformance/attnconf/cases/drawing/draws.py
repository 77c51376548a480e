"""Draw candidate cases with Hypothesis and keep the one that covers most new pairs of traits.

Chance alone repeats what is common and leaves pairs of rare traits to the end. So the first cases of a campaign are
picked, as in a covering design: from a few candidates the one with most new pairs of traits for its cost. The rest come
as they are drawn.
"""

from __future__ import annotations

import heapq
import math
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis.internal.conjecture import providers

from attnconf.cases.drawing.lengths import shortened
from attnconf.cases.drawing.strategies import cases
from attnconf.cases.drawing.traits import ALONE, cost, pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.space import Space

PICKED = 40
"""How many cases of a campaign are picked: then nearly all pairs are covered."""

CANDIDATES = 8
"""Candidates per pick."""

_TRAIT_IN_PAIRS = 64
"""How many pairs a new trait is worth."""

_DRAW_CONSTANT = "_maybe_draw_constant"


class _FoundError(Exception):
    """Tells Hypothesis that an example fails."""


@dataclass(frozen=True)
class Draws:
    """Up to ``examples`` cases of ``space``: the same space, seed and version of Hypothesis give the same ones."""

    space: Space
    seed: int
    examples: int

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The cases in the order in which they are asked, each once."""
        pool: list[Case] = []

        def passes(case: Case) -> bool:
            pool.append(case)
            return False

        self._search(passes, Phase.generate)
        return tuple(_picked(pool, self.examples, self._candidates))

    def shrink(self, failing: Case, fails: Callable[[Case], bool]) -> None:
        """Ask ``fails`` of cases that are simpler than ``failing``, one of ``cases``, as long as Hypothesis has some.

        Hypothesis draws as before, up to the failing case, and shrinks from there.
        """
        reached = False

        def asked(case: Case) -> bool:
            nonlocal reached
            if case.id == failing.id:
                reached = True
                return True
            return reached and fails(case)

        self._search(asked, Phase.generate, Phase.shrink)

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

    def _search(self, fails: Callable[[Case], bool], *phases: Phase) -> None:
        more = (self._candidates - 1) * min(self.examples, PICKED)

        @hypothesis_seed(self.seed)
        @settings(
            max_examples=max(1, self.examples + more),
            database=None,
            deadline=None,
            phases=phases,
            suppress_health_check=tuple(HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
        )
        @given(cases(self.space))
        def probe(case: Case) -> None:
            if fails(case):
                raise _FoundError

        with own_draws_only():
            try:
                probe()
            except _FoundError:
                return
            except BaseExceptionGroup as group:
                if group.subgroup(_FoundError) is None:
                    raise


@dataclass(frozen=True)
class _Candidate:
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
        rated = [_candidate(case) for case in candidates]
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
    rated = [_candidate(case) for case in cases]
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


def _candidate(case: Case) -> _Candidate:
    return _Candidate(pairs(case), cost(case))


@contextmanager
def own_draws_only() -> Iterator[None]:
    """Keep Hypothesis from mixing in constants of the loaded modules.

    Since 6.131 it takes one value in twenty from the source of the modules that are neither installed nor tests. The
    cases of a seed would then differ between an editable and a wheel installation, between the workers of xdist, and
    between the tests before and after an import. Where that private function is absent, nothing has to be done.
    """
    owner = getattr(providers, "HypothesisProvider", None)
    if not hasattr(owner, _DRAW_CONSTANT):
        yield
        return
    with patch.object(owner, _DRAW_CONSTANT, _none):
        yield


def _none(*_args: object, **_constraints: object) -> None:
    """Draw no constant."""
