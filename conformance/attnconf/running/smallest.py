"""Smallest: shrink a failure to the simplest case that fails in the same way and still tells what is wrong."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attnconf.judging.result import Outcome, kinds_of_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.draws import Draws
    from attnconf.judging.result import CaseResult, Failure, Kind


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

        found = self._search(case, failure, ask)
        if self.explain is None:
            return found
        explained = self._explain(self.explain, found.case)
        if not explained.is_failure:
            return found
        if self.draws.is_large or found is failure:  # to explain at full length would take minutes
            return explained
        return self._telling(case, kind, explained, ask)

    def _telling(
        self, case: Case, kind: Kind, smallest: CaseResult, fails: Callable[[Case], CaseResult | None]
    ) -> CaseResult:
        """Return ``smallest`` if it tells what ``case`` does, or else the smallest failure found that does."""
        explain = self.explain
        first = smallest if explain is None else self._explain(explain, case)
        known = _most_telling(first, kind)
        if explain is None or known is None:
            return smallest
        story = _story(known, _most_telling(smallest, kind))
        if story.is_told_by(smallest):
            return smallest

        def ask(simpler: Case) -> CaseResult | None:
            explained = None if fails(simpler) is None else self._explain(explain, simpler)
            return explained if explained is not None and story.is_told_by(explained) else None

        return self._search(case, first if story.is_told_by(first) else smallest, ask)

    def _search(self, case: Case, failure: CaseResult, ask: Callable[[Case], CaseResult | None]) -> CaseResult:
        search = _Search(failure, ask, self.seconds)
        self.draws.shrink(case, search.fails)
        return search.first_of(self.draws.shorter)

    def _explain(self, explain: Callable[[Case], CaseResult], case: Case) -> CaseResult:
        if case.id not in self._explained:
            self._explained[case.id] = explain(case)
        return self._explained[case.id]

    def _run(self, case: Case) -> CaseResult:
        if case.id not in self._known:
            self._known[case.id] = self.run(case)
        return self._known[case.id]


class _Search:
    """The smallest ``failure`` so far: ``ask`` returns what comes of a case if it fails in the wanted way."""

    def __init__(self, failure: CaseResult, ask: Callable[[Case], CaseResult | None], seconds: float) -> None:
        self._failure = failure
        self._ask = ask
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._known: dict[str, bool] = {}

    def fails(self, case: Case) -> bool:
        """Return whether ``case`` fails in the wanted way, as far as there is time; the smallest comes last."""
        if case.id not in self._known:
            if time.monotonic() > self._deadline:
                return False
            result = self._ask(case)
            self._known[case.id] = result is not None
            self._failure = result or self._failure
        return self._known[case.id]

    def first_of(self, shorter: Callable[[Case], Iterable[Case]]) -> CaseResult:
        """Return the first of the ``shorter`` cases that fails in the wanted way, or the smallest failure so far."""
        self._deadline = time.monotonic() + self._seconds
        any(self.fails(case) for case in shorter(self._failure.case))
        return self._failure


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
