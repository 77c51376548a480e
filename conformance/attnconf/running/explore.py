"""Explore: run drawn cases in their order, and shrink the first failure to a small case."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attnconf.judging.result import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.draws import Draws
    from attnconf.judging.result import CaseResult

SHRINK_SECONDS = 60.0
"""How long a failure may be shrunk: a small case is a courtesy, and a gate cannot wait for the smallest."""

Kind = tuple[str, str]
"""An outcome, and the check that failed or the exception that was raised."""

_RAISED = ("Error", "Exception", "Exit")


@dataclass
class Exploration:
    """The result of every case that was run, and the smallest failing one, if any."""

    results: list[CaseResult] = field(default_factory=list)
    failure: CaseResult | None = None


def explore(
    campaigns: Iterable[Draws],
    run: Callable[[Case], CaseResult],
    *,
    rerun: Callable[[Case], CaseResult] | None = None,
    explain: Callable[[Case], CaseResult] | None = None,
    shrink_seconds: float = SHRINK_SECONDS,
) -> Exploration:
    """Run the cases of ``campaigns``, one after the other; stop at the first failure and shrink it.

    While shrinking, only the same kind of failure counts, and ``rerun`` is asked instead of ``run``: where ``run``
    rotates over the checks by case, a smaller case might not get the check that failed. ``explain`` is asked for the
    smallest one at the end, if the others only tell right from wrong.
    """
    found = Exploration()
    for draws, case in ((one, case) for one in campaigns for case in one.cases):
        result = run(case)
        found.results.append(result)
        if result.is_failure:
            shrinking = _Shrinking(rerun or run, result, shrink_seconds)
            draws.shrink(case, shrinking.fails)
            found.failure = shrinking.smallest(draws.shorter)
            if explain is not None:
                explained = explain(found.failure.case)
                found.failure = explained if explained.is_failure else found.failure
            break
    return found


class _Shrinking:
    """The search for a smaller case that fails as ``failure`` does; each case is run once."""

    def __init__(self, run: Callable[[Case], CaseResult], failure: CaseResult, seconds: float) -> None:
        self._failure = failure
        self._run = run
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._kind = min(kinds_of_failure(failure))
        self._known: dict[str, CaseResult | None] = {failure.case.id: failure}

    def fails(self, case: Case) -> bool:
        """Return whether ``case`` fails in the same way. Hypothesis asks for the smallest one last."""
        result = self._ask(case)
        if result is not None:
            self._failure = result
        return result is not None

    def smallest(self, shorter: Callable[[Case], Iterable[Case]]) -> CaseResult:
        """Return the first of the ``shorter`` cases that fails in the same way, or the smallest failure so far."""
        self._deadline = time.monotonic() + self._seconds
        found = (self._ask(case) for case in shorter(self._failure.case))
        return next((result for result in found if result is not None), self._failure)

    def _ask(self, case: Case) -> CaseResult | None:
        """Return the failure of ``case``, or None if it does not fail in this way, or no time is left."""
        if case.id not in self._known:
            if time.monotonic() > self._deadline:
                return None
            result = self._run(case)
            self._known[case.id] = result if self._kind in kinds_of_failure(result) else None
        return self._known[case.id]


def kinds_of_failure(result: CaseResult) -> frozenset[Kind]:
    """Return what is wrong with ``result``, without the numbers: two failures of one kind are taken for one bug."""
    kinds: set[Kind] = set()
    for layer in result.layers:
        if layer.outcome is Outcome.FAILED:
            kinds |= {(layer.outcome.value, failure.check) for failure in layer.failures}
        elif layer.outcome.is_failure:
            kinds.add((layer.outcome.value, layer.error))
    return frozenset(kinds)
