"""Explore a space of cases with Hypothesis, deterministically, and shrink the first failure to a small case."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, seed, settings

if TYPE_CHECKING:
    from collections.abc import Callable

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


def explore(
    drawn: SearchStrategy[Case], run: Callable[[Case], CaseResult], *, examples: int, campaign_seed: int, shrink_seconds: float = SHRINK_SECONDS
) -> Exploration:
    """Run up to ``examples`` distinct cases of ``drawn``; stop at the first failure and shrink it.

    The same strategy, seed and versions give the same cases. While shrinking, only the same kind of failure counts.
    """
    found = Exploration()
    known: dict[str, bool] = {}
    deadline: list[float] = []

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
        if case.id not in known:
            known[case.id] = _fails(case, run, found, deadline)
        if known[case.id]:
            raise _FoundError

    def _first_deadline() -> None:
        deadline.append(time.monotonic() + shrink_seconds)

    def _fails(case: Case, run: Callable[[Case], CaseResult], found: Exploration, deadline: list[float]) -> bool:
        if deadline and time.monotonic() > deadline[0]:
            return False
        result = run(case)
        if found.failure is None:
            found.results.append(result)
            if result.is_failure:
                found.failure = result
                _first_deadline()
            return result.is_failure
        same = kind_of_failure(result) == kind_of_failure(found.failure)
        if same:
            found.failure = result
        return same

    try:
        probe()
    except _FoundError:
        return found
    except BaseExceptionGroup as group:
        if group.subgroup(_FoundError) is None:
            raise
    return found


def kind_of_failure(result: CaseResult) -> frozenset[tuple[str, str]]:
    """Return what makes two failures the same kind: the worst layer's outcome and its first broken check."""
    kinds = {(layer.outcome.value, layer.failures[0].check if layer.failures else "") for layer in result.layers if layer.outcome.is_failure}
    return frozenset(sorted(kinds)[:1])
