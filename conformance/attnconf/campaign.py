"""Explore a space of cases with Hypothesis, deterministically, and shrink the first failure to a small case."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, seed, settings

from attnconf.result import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hypothesis.strategies import SearchStrategy

    from attnconf.case import Case
    from attnconf.result import CaseResult

SHRINK_SECONDS = 60.0
"""How long a failure may be shrunk: a small case is a courtesy, and a gate cannot wait for the smallest."""


@dataclass
class Exploration:
    """What a campaign saw: every result of its generated cases, and the smallest failing one, if any."""

    results: list[CaseResult] = field(default_factory=list)
    failure: CaseResult | None = None


class _FoundError(Exception):
    """Tells Hypothesis that an example fails."""


def explore(  # noqa: PLR0913 - each is a decision of the caller's
    drawn: SearchStrategy[Case],
    run: Callable[[Case], CaseResult],
    *,
    examples: int,
    campaign_seed: int,
    shrink_seconds: float = SHRINK_SECONDS,
    rerun: Callable[[Case], CaseResult] | None = None,
    smaller: Callable[[Case], Iterable[Case]] = lambda _: (),
) -> Exploration:
    """Run up to ``examples`` cases of ``drawn``, each distinct one once; stop at the first failure and shrink it.

    The same strategy, seed and versions give the same cases. While shrinking, only the same kind of failure counts, and
    ``rerun`` is asked instead of ``run``: where ``run`` rotates over the checks by case, a smaller case might not get
    the check that failed. ``smaller`` returns smaller cases than a failing one, the smallest first, that the strategy
    does not draw.
    """
    search = _Search(run, rerun or run, smaller, shrink_seconds)

    @seed(campaign_seed)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=tuple(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(drawn)
    def probe(case: Case) -> None:
        if search.fails(case):
            raise _FoundError

    try:
        probe()
    except _FoundError:
        search.try_smaller()
    except BaseExceptionGroup as group:
        if group.subgroup(_FoundError) is None:
            raise
    return search.found


@dataclass
class _Search:
    """What an exploration knows while it runs: each case's failure or None, and the kind that is being shrunk."""

    run: Callable[[Case], CaseResult]
    rerun: Callable[[Case], CaseResult]
    smaller: Callable[[Case], Iterable[Case]]
    shrink_seconds: float
    found: Exploration = field(default_factory=Exploration)
    known: dict[str, CaseResult | None] = field(default_factory=dict)
    kind: Kind | None = None
    deadline: float = 0.0

    def fails(self, case: Case) -> bool:
        if case.id not in self.known:
            self.known[case.id] = self._first(case) if self.kind is None else self._smaller(case, self.kind)
        result = self.known[case.id]
        if result is None:
            return False
        self.found.failure = result  # Hypothesis asks for the smallest case last
        return True

    def try_smaller(self) -> None:
        """Replace the failure by that of the first smaller case which fails in the same way."""
        failure, kind = self.found.failure, self.kind
        if failure is None or kind is None:
            return
        self.deadline = time.monotonic() + self.shrink_seconds
        found = (self._smaller(case, kind) for case in self.smaller(failure.case))
        self.found.failure = next((result for result in found if result is not None), failure)

    def _first(self, case: Case) -> CaseResult | None:
        result = self.run(case)
        self.found.results.append(result)
        if not result.is_failure:
            return None
        self.deadline = time.monotonic() + self.shrink_seconds
        self.kind = min(kinds_of_failure(result))
        return result

    def _smaller(self, case: Case, kind: Kind) -> CaseResult | None:
        if time.monotonic() > self.deadline:
            return None
        result = self.rerun(case)
        return result if kind in kinds_of_failure(result) else None


Kind = tuple[str, str]
"""An outcome, and the check that failed or the exception that was raised."""


def kinds_of_failure(result: CaseResult) -> frozenset[Kind]:
    """Return what is wrong with ``result``, without the numbers: two failures of one kind are taken for one bug."""
    kinds: set[Kind] = set()
    for layer in result.layers:
        if layer.outcome is Outcome.FAILED:
            kinds |= {(layer.outcome.value, failure.check) for failure in layer.failures}
        elif layer.outcome.is_failure:
            error = layer.reason.removeprefix("in ").split(": ")
            kinds.add((layer.outcome.value, next((part for part in error if part.endswith(_RAISED)), error[0])))
    return frozenset(kinds)


_RAISED = ("Error", "Exception", "Exit")
