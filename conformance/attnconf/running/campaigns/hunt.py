"""Hunt a mutant with the suite's own cases and checks, until its clause fails."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from attnconf.cases.drawing.profiles import profile_named
from attnconf.clauses import Clause
from attnconf.judging.result import CaseResult, LayerResult, Outcome
from attnconf.mutants.registry import mutant_named
from attnconf.platforms import detect
from attnconf.running.agenda import agenda
from attnconf.running.explore import explore
from attnconf.running.processes.watched import watched
from attnconf.running.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.case import Case
    from attnconf.mutants.mutant import Mutant
    from attnconf.running.agenda import AgendaItem

SHRINK_SECONDS = 10.0
"""Longest time for shrinking the case of one mutant."""

_ENDED = (Outcome.REFUSED, Outcome.CRASHED, Outcome.OOM)
"""Outcomes that break clause 20 without a failure of a check."""

_hunters: dict[Orders, Hunter] = {}
"""The hunters of this process, by their orders."""


@dataclass(frozen=True, kw_only=True)
class Orders:
    """How to hunt: the suite's profile, its models (all without ``models``), the seed, and whether to shrink."""

    profile: str
    models: tuple[str, ...] = ()
    seed: int = 0
    shrink: bool = False


@dataclass(frozen=True, kw_only=True)
class Catch:
    """The result of one hunt.

    ``caught``: the mutant's own clause failed, by ``check``, in the last of ``cases`` cases. ``first`` is the clause
    that failed first, if any. ``case`` is the failing case, shrunk if the orders say so. ``not_run`` says why there was
    no hunt, and ``lost`` how the process of one died.
    """

    id: str
    bug: str
    clause: Clause
    caught: bool = False
    check: str = ""
    first: int | None = None
    cases: int = 0
    seconds: float = 0.0
    case: Case | None = None
    not_run: str = ""
    lost: str = ""


@dataclass
class Hunter:
    """The hunts of one process, which share its session and the drawn cases."""

    orders: Orders
    session: Session = field(init=False)
    _agenda: tuple[AgendaItem, ...] = ()

    def __post_init__(self) -> None:
        profile = profile_named(self.orders.profile)
        self.session = Session(
            platform=detect(),
            profile=profile.of(self.orders.models) if self.orders.models else profile,
            seed=self.orders.seed,
        )

    def hunt(self, mutant: Mutant) -> Catch:
        """Run the profile's cases on one mutant until its clause fails."""
        blank = Catch(id=mutant.id, bug=mutant.bug, clause=mutant.clause)
        if mutant.needs_gpu and self.session.platform.sm is None:
            return replace(blank, not_run="its clause is judged on a GPU only")
        self.session.registry.register(mutant.id, mutant.make_named)
        reason = self.session.why_not(mutant.id)
        if reason is not None:
            return replace(blank, not_run=reason)
        self._agenda = self._agenda or agenda(self.session)
        first, cases, seconds = None, 0, 0.0
        for item in self._agenda:
            started = time.perf_counter()
            with watched(item.case, self.session.case_seconds):
                result = item.run(self.session, mutant.id, explain=False)
            if result.is_failure:
                with watched(item.case, self.session.case_seconds):
                    result = item.run(self.session, mutant.id)
            seconds += time.perf_counter() - started
            cases += 1
            broken = broken_clauses(result)
            first = first if first is not None else first_clause(result)
            if mutant.clause in broken:
                case = self._smallest(item, mutant, result.case) if self.orders.shrink else result.case
                caught = replace(blank, caught=True, check=broken[mutant.clause], first=first)
                return replace(caught, cases=cases, seconds=seconds, case=case)
        return replace(blank, first=first, cases=cases, seconds=seconds)

    def _smallest(self, item: AgendaItem, mutant: Mutant, caught: Case) -> Case:
        """Shrink the ``caught`` case, as the suite does, as long as the mutant's own clause fails."""
        run = self._only(mutant, lambda case: replace(item, case=case).run(self.session, mutant.id))
        every = (
            run if item.family is None else self._only(mutant, lambda case: self.session.ask(case, mutant.id, "all"))
        )
        known = CaseResult(case=item.case, backend=mutant.id, evidence="kernel", layers=())

        def first(case: Case) -> CaseResult:
            return run(case) if case.id == item.case.id else replace(known, case=case)

        drawn = self.session.drawn
        draws = (drawn.refusals,) if item.family is None else drawn.draws(item.family, item.model)
        found = explore(draws, first, rerun=every, explain=every, shrink_seconds=SHRINK_SECONDS)
        return caught if found.failure is None else found.failure.case

    def _only(self, mutant: Mutant, run: Callable[[Case], CaseResult]) -> Callable[[Case], CaseResult]:
        def judged(case: Case) -> CaseResult:
            result = run(case)
            return replace(result, layers=tuple(_by_clause(layer, mutant.clause) for layer in result.layers))

        return judged


def first_clause(result: CaseResult) -> int | None:
    """Return the clause that ``result`` cites first, or None if it breaks none."""
    if result.failures:
        return result.failures[0].clause
    return next(iter(broken_clauses(result)), None)


def broken_clauses(result: CaseResult) -> dict[int, str]:
    """Return the clauses that ``result`` breaks, each with the check or the outcome that shows it.

    An undeclared refusal, a crash and running out of memory break clause 20.
    """
    broken = {failure.clause: failure.check for failure in reversed(result.failures)}
    ended = [layer.outcome.value for layer in result.layers if layer.outcome in _ENDED]
    return broken | {Clause.REFUSAL: ended[0]} if ended else broken


def _by_clause(layer: LayerResult, clause: Clause) -> LayerResult:
    """Return ``layer`` with the failures of ``clause`` only."""
    if layer.outcome in _ENDED:
        return layer if clause is Clause.REFUSAL else replace(layer, outcome=Outcome.PASSED)
    failures = tuple(failure for failure in layer.failures if failure.clause == clause)
    outcome = Outcome.PASSED if layer.outcome is Outcome.FAILED and not failures else layer.outcome
    return replace(layer, outcome=outcome, failures=failures)


def hunt_named(orders: Orders, name: str) -> Catch:
    """Hunt one mutant in this process. The session and the drawn cases stay for the next one."""
    if orders not in _hunters:
        _hunters[orders] = Hunter(orders)
    return _hunters[orders].hunt(mutant_named(name))
