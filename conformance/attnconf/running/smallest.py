"""Smallest: shrink a failure to the simplest case that fails in the same way and still tells what is wrong."""

from __future__ import annotations

import math
import time
from bisect import bisect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attnconf.judging.result import Outcome, kinds_of_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.draws import Drawn, Draws
    from attnconf.judging.result import CaseResult, Failure, Kind


EXPLANATIONS = 96
"""How many cases may be explained in search of a small one that tells what the first one told. Each takes dozens of
answers; a count, unlike a time, gives the same case on every machine."""


@dataclass(frozen=True)
class Shrinking:
    """How a failure of ``draws`` is shrunk: ``run`` tells right from wrong, ``explain`` says what is wrong, too.

    Each search takes up to ``seconds``: that for the smallest case that fails and, where this one cannot tell what the
    first one tells, that for the smallest one which can. Each case is run once, and once explained.
    """

    draws: Draws
    run: Callable[[Case], CaseResult]
    explain: Callable[[Case], CaseResult] | None
    seconds: float
    _known: dict[str, CaseResult] = field(default_factory=dict, init=False, repr=False)
    _explained: dict[str, CaseResult] = field(default_factory=dict, init=False, repr=False)

    def smallest(self, case: Case, failure: CaseResult) -> CaseResult:
        """Return the smallest failure found of the kind of ``failure``, which is that of the drawn ``case``."""
        kind = min(kinds_of_failure(failure))
        self._known[case.id] = failure

        def ask(simpler: Case) -> CaseResult | None:
            result = self._run(simpler)
            return result if kind in kinds_of_failure(result) else None

        search = _Search(ask, self.seconds)
        descent = self.draws.shrink(self.draws.candidate(case), search.fails)
        smallest = self._known[descent[-1].case.id]
        found = search.first_of(self.draws.shorter(smallest.case)) or smallest
        if self.explain is None:
            return found
        explained = self._explain(self.explain, found.case)
        if not explained.is_failure:
            return found
        if self.draws.is_large or found is failure:  # to explain at full length would take minutes
            return explained
        return self._telling(descent, kind, explained, ask)

    def _telling(
        self, descent: list[Drawn], kind: Kind, smallest: CaseResult, fails: Callable[[Case], CaseResult | None]
    ) -> CaseResult:
        """Return ``smallest`` if it tells what the first case of the ``descent`` does, or else the smallest that does.

        That one is sought from the simplest case of the descent that tells it.
        """
        explain = self.explain
        first = smallest if explain is None else self._explain(explain, descent[0].case)
        known = _most_telling(first, kind)
        if explain is None or known is None:
            return smallest
        story = _story(known, _most_telling(smallest, kind))
        if story.is_told_by(smallest):
            return smallest
        allowed = len(self._explained) + EXPLANATIONS

        def ask(simpler: Case) -> CaseResult | None:
            if fails(simpler) is None or (len(self._explained) >= allowed and simpler.id not in self._explained):
                return None
            explained = self._explain(explain, simpler)
            return explained if story.is_told_by(explained) else None

        start = descent[0]
        if story.is_told_by(first):
            start = descent[bisect(range(1, len(descent)), 0, key=lambda at: int(ask(descent[at].case) is None))]
        found = self.draws.shrink(start, _Search(ask, self.seconds).fails)[-1]
        told = self._explained.get(found.case.id, smallest)
        return told if story.is_told_by(told) else smallest

    def _explain(self, explain: Callable[[Case], CaseResult], case: Case) -> CaseResult:
        if case.id not in self._explained:
            self._explained[case.id] = explain(case)
        return self._explained[case.id]

    def _run(self, case: Case) -> CaseResult:
        if case.id not in self._known:
            self._known[case.id] = self.run(case)
        return self._known[case.id]


class _Search:
    """A search that has ``seconds``: ``ask`` returns what comes of a case if it fails in the wanted way."""

    def __init__(self, ask: Callable[[Case], CaseResult | None], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._known: dict[str, CaseResult | None] = {}

    def fails(self, case: Case) -> bool:
        """Return whether ``case`` fails in the wanted way, as far as there is time."""
        if case.id not in self._known:
            if time.monotonic() > self._deadline:
                return False
            self._known[case.id] = self._ask(case)
        return self._known[case.id] is not None

    def first_of(self, shorter: Iterable[Case]) -> CaseResult | None:
        """Return what comes of the first of the ``shorter`` cases that fails in the wanted way, or None."""
        self._deadline = time.monotonic() + self._seconds
        return next((self._known[case.id] for case in shorter if self.fails(case)), None)


@dataclass(frozen=True)
class _Story:
    """What a failure of ``check`` shall tell: up to ``most`` of these ``mistakes``, or only the ``clause``."""

    check: str
    clause: int
    mistakes: frozenset[str]
    most: int

    def is_told_by(self, result: CaseResult) -> bool:
        """Return whether a failure of ``result`` tells this much, and nothing else."""
        return any(
            1 <= len(failure.mistakes) <= self.most and self.mistakes.issuperset(failure.mistakes)
            if self.mistakes
            else not failure.mistakes and failure.clause == self.clause
            for failure in result.failures
            if failure.check == self.check
        )


def _story(first: Failure, smallest: Failure | None) -> _Story:
    """Return what shall be told where the ``first`` and the ``smallest`` case failed so.

    Few keys fit more mistakes than many do, so what the first case refutes is no explanation. Where nothing explains
    the first one (what it read was poison, or two features meet), a single mistake is one.
    """
    if first.mistakes or smallest is None:
        return _Story(first.check, first.clause, frozenset(first.mistakes), len(first.mistakes))
    return _Story(first.check, first.clause, frozenset(smallest.mistakes), 1)


def _most_telling(result: CaseResult, kind: Kind) -> Failure | None:
    """Return the failure of this ``kind`` that is explained by fewest known mistakes; None where none is of it."""
    found = [failure for failure in result.failures if (Outcome.FAILED.value, failure.check) == kind]
    return min(found, key=lambda failure: len(failure.mistakes) or math.inf, default=None)
