"""The suite against one release: its own cases in its order, with the checks that the suite gives each."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.backends.builds import BUILD_BUDGET
from attnconf.cases.case import Case
from attnconf.cases.drawing.draws import by_variety
from attnconf.cases.drawing.families import FAMILIES
from attnconf.cases.drawing.profiles import profile_named
from attnconf.platforms import detect
from attnconf.running.campaigns.hunt import broken_clauses
from attnconf.running.session import Session
from attnconf.running.smallest import Shrinking
from ci.backtest.outcome import Find, Side

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.drawing.draws import Draws
    from attnconf.judging.checks.catalogue import CheckSelection
    from attnconf.judging.result import CaseResult, Failure
    from ci.backtest.table import Entry

SHRINK_SECONDS = 10.0
_PASSES: tuple[CheckSelection, ...] = ("base", "rotated")
_NAME = "release"


@dataclass
class Hunter:
    """The suite's cases for one entry, on the release that is unpacked in ``folder``.

    On a GPU the release's kernel modules are those that ``attnconf build`` has built before; nothing is built here.
    """

    entry: Entry
    folder: Path
    profile: str
    seed: int = 0
    session: Session = field(init=False)

    def __post_init__(self) -> None:
        profile = profile_named(self.profile).of(self.entry.models)
        budget = BUILD_BUDGET if self.entry.machine == "cpu" else 0.0  # a compiler would use up the side's time
        self.session = Session(platform=detect(), profile=profile, seed=self.seed, isolate=False, build_budget=budget)
        if self.entry.machine == "cpu":
            module, _, function = self.entry.adapter.partition(":")
            make = getattr(importlib.import_module(f"ci.backtest.adapters.{module}"), function or "make")
            backend = make(self.folder, _NAME)
            self.session.registry.register(_NAME, lambda _: backend)

    @property
    def name(self) -> str:
        """The backend that is asked: the adapter's, or an installed one over the release's library."""
        return _NAME if self.entry.machine == "cpu" else self.entry.adapter

    def hunt(self, side: Side, seconds: float, *, until_found: bool) -> tuple[Side, Find | None]:
        """Ask cases for ``seconds`` of CPU time; ``until_found`` ends at the first that breaks the entry's clause.

        First each case's own run is judged, and then the cases are asked again with the checks that run the release
        again, of which the suite gives each case some: they take most of the time, and most faults show without them.
        """
        asked = self.asked()
        started = time.process_time()
        seen: dict[str, CaseResult] = {}
        broken: dict[str, set[str]] = {}
        find = None
        for checks, (draws, case) in product(_PASSES, asked):
            if find is not None or time.process_time() - started > seconds:
                break
            result = self._judged(case, checks)
            if case.id not in seen or result.is_failure:
                seen[case.id] = result
            for clause in broken_clauses(result):
                broken.setdefault(str(int(clause)), set()).add(case.id)
            if until_found and self.breaks(result):
                find = self._find(draws, case, result, len(seen), time.process_time() - started)
        counts = {
            "drawn": len(asked),
            "cases": len(seen),
            "layers": sum(layer.outcome.is_executed for result in seen.values() for layer in result.layers),
            "failing": sum(result.is_failure for result in seen.values()),
            "broken": {clause: len(cases) for clause, cases in sorted(broken.items())},
            "seconds": round(time.process_time() - started, 1),
        }
        return side.model_copy(update=counts), find

    def passes(self, case: dict[str, object]) -> bool:
        """Return whether the release passes ``case``, with every check.

        One that is known to have another fault may break other clauses than those of the entry.
        """
        result = self.session.ask(Case.from_data(case, "found"), self.name, "all", count_effects=False)
        right = not self.breaks(result) if self.entry.known else not result.is_failure
        return right and any(layer.outcome.is_executed for layer in result.layers)

    def breaks(self, result: CaseResult) -> bool:
        """Return whether ``result`` breaks a clause of the entry."""
        return bool(set(self.entry.clauses) & {int(clause) for clause in broken_clauses(result)})

    def asked(self) -> list[tuple[Draws, Case]]:
        """Return the profile's cases, the release's own ones included, with their draws, in an order for limited time.

        The first ones cover most pairs of traits for their cost, in the layers that the release executes. Those of
        which it executes no layer are left out.
        """
        drawn = list(self._cases())
        executed = self.session.executed(self.name, [case for _, case in drawn])
        order = by_variety([case for _, case in drawn], executed, in_time=True)
        return [drawn[index] for index in order if executed[index]]

    def _cases(self) -> Iterator[tuple[Draws, Case]]:
        for family in FAMILIES:
            if family not in self.entry.families:
                continue
            for model in self.session.profile.targets(family):
                for draws in self.session.selection(self.name, family, model).draws:
                    yield from ((draws, case) for case in draws.cases)

    def _judged(self, case: Case, checks: CheckSelection) -> CaseResult:
        """Judge a case; a failing one is judged once more, to say which clause explains it."""
        result = self.session.ask(case, self.name, checks, explain=False, count_effects=False)
        return self.session.ask(case, self.name, checks, count_effects=False) if result.is_failure else result

    def _find(self, draws: Draws, drawn: Case, result: CaseResult, cases: int, seconds: float) -> Find:
        """Shrink the find as the suite does, as long as a clause of the entry fails."""

        def explained(case: Case) -> CaseResult:
            return self.session.ask(case, self.name, "all", count_effects=False)

        smallest = Shrinking(draws, explained, explained, SHRINK_SECONDS).smallest(drawn, result)
        failure = self._failure(smallest) or self._failure(result)
        return Find(
            clause=failure.clause if failure else self.entry.clauses[0],
            check=failure.check if failure else "refusal",
            units=_finite(failure.units) if failure else None,
            summary=failure.summary if failure else _reason(result),
            diagnosis=(failure.suspicion or failure.diagnosis) if failure else "",
            cases=cases,
            seconds=round(seconds, 1),
            first=result.case.to_data(),
            case=smallest.case.to_data(),
        )

    def _failure(self, result: CaseResult) -> Failure | None:
        return next((one for one in result.failures if one.clause in self.entry.clauses), None)


def _reason(result: CaseResult) -> str:
    return next((layer.reason for layer in result.layers if layer.outcome.is_failure), "")


def _finite(units: float | None) -> float | None:
    return units if units is None or units < float("inf") else None
