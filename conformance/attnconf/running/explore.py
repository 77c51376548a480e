"""Explore: run drawn cases in their order, and shrink the first failure to a small case."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attnconf.running.smallest import Shrinking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.draws import Draws
    from attnconf.judging.result import CaseResult

SHRINK_SECONDS = 60.0
"""How long a failure may be shrunk: a small case is a courtesy, and a gate cannot wait for the smallest."""


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
    smallest one at the end, if the others only tell right from wrong; where that one cannot tell what the first failure
    tells, the smallest one that can is found instead.
    """
    found = Exploration()
    for draws, case in ((one, case) for one in campaigns for case in one.cases):
        result = run(case)
        found.results.append(result)
        if result.is_failure:
            found.failure = Shrinking(draws, rerun or run, explain, shrink_seconds).smallest(case, result)
            break
    return found
