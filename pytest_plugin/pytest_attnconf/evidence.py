"""Evidence on the controller: what the tests recorded, what was lost with a process, and what that proves."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from pytest_attnconf.options import flag
from pytest_attnconf.outcomes import (
    ASKED,
    CELLS,
    COUNTED,
    FAILURES,
    FAMILY,
    OUTCOME,
    PLAYED,
    SECONDS,
    add_junit_properties,
)
from pytest_attnconf.suite_tests import MACHINE, SuiteTest

if TYPE_CHECKING:
    import pytest

    from attnconf.cases.drawing.families import Family
    from attnconf.gate.asked import Asked
    from attnconf.gate.cells import Cell
    from attnconf.gate.distinct import DistinctCases
    from attnconf.gate.failed_case import FailedCase
    from attnconf.gate.played import PlayedStories
    from attnconf.gate.provider import Provider
    from attnconf.gate.verdict import Verdict
    from attnconf.policy.policy import Policy
    from attnconf.running.record import Record
    from pytest_attnconf.state import State


class RunEvidence:
    """What the tests of one run recorded so far: distinct cases, also by the family of drawn ones, and failing cases.

    ``distinct`` is None until a test recorded any: only then is the library imported.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.distinct: DistinctCases | None = None
        self.families: dict[str, DistinctCases] = {}
        self.failures: list[FailedCase] = []
        self.seconds: dict[str, float] = {}
        self.asked: dict[str, Asked] = {}
        self.played: dict[tuple[str, str], PlayedStories] = {}
        self.tests = 0

    @property
    def cells(self) -> list[Cell]:
        """The cells of all tests, in which a case counts once."""
        return [] if self.distinct is None else self.distinct.cells

    @property
    def cases(self) -> int:
        """How many distinct cases were executed, on each backend anew."""
        return 0 if self.distinct is None else self.distinct.executed

    @property
    def repeated(self) -> dict[str, int]:
        """How many results of each backend were of a case that had been asked before."""
        return {} if self.distinct is None else dict(sorted(self.distinct.repeated.items()))

    @property
    def executed(self) -> int:
        """How many layers were judged."""
        return sum(cell.executed for cell in self.cells)

    @property
    def broken(self) -> int:
        """How many of them break a clause."""
        return sum(cell.broken for cell in self.cells)

    def add(self, report: pytest.TestReport) -> bool:
        """Add the evidence of a report; return whether there was any.

        A test of the suite that failed without evidence died with its process, or of a fault of its own: its cases
        count as crashed, for a receipt must not look as if they had never been asked.
        """
        recorded = any(name == COUNTED for name, _ in report.user_properties)
        if not recorded and not (report.failed and self.state.is_asked_for):
            return False
        from attnconf.gate.distinct import DistinctCases, unpacked
        from attnconf.gate.failed_case import FailedCase

        cases = [case for data in _recorded(report, COUNTED) for case in unpacked(data, COUNTED)]
        kept = [FailedCase.from_data(data, FAILURES) for found in _recorded(report, FAILURES) for data in found]
        self.failures += [one for one in kept if one not in self.failures]
        if not recorded and (lost := _lost(self.state, report)) is not None:
            cases = list(lost.counted)
            data = json.dumps([cell.model_dump(mode="json") for cell in lost.cells])
            add_junit_properties(self.state.config, report, {CELLS: data, OUTCOME: lost.outcome.value})
        self.distinct = self.distinct or DistinctCases()
        self.distinct.add(cases)
        for family in (str(value) for name, value in report.user_properties if name == FAMILY):
            self.families.setdefault(family, DistinctCases()).add(cases)
        self.tests += 1
        for text in (str(value) for name, value in report.user_properties if name == SECONDS):
            for backend, seconds in json.loads(text).items():
                self.seconds[backend] = self.seconds.get(backend, 0.0) + seconds
        for data in _recorded(report, ASKED):
            self._add_asked(data)
        for data in _recorded(report, PLAYED):
            self._add_played(data)
        return True

    def _add_played(self, data: dict[str, Any]) -> None:
        from attnconf.gate.played import PlayedStories

        one = PlayedStories.from_data(data, PLAYED)
        known = self.played.get(one.key)
        self.played[one.key] = one if known is None or known.broken is None else known

    def _add_asked(self, data: dict[str, Any]) -> None:
        from attnconf.gate.asked import Asked

        for name, found in data.items():
            one = Asked.from_data(found, ASKED)
            self.asked[name] = self.asked[name] + one if name in self.asked else one

    @property
    def executed_of(self) -> dict[str, int]:
        """How many layers of drawn cases each backend executed, or failed to."""
        count: Counter[str] = Counter()
        for found in self.families.values():
            for cell in found.cells:
                count[cell.backend] += cell.executed
        return dict(count)

    def unseen(self) -> list[str]:
        """Say what the families that ran were about, and never mattered: with a policy or without."""
        from attnconf.gate.coverage import unseen_features

        return [
            sentence
            for family, found in sorted(self.families.items())
            for sentence in unseen_features(cast("Family", family), found.cells)
        ]

    def came_without(self) -> dict[str, tuple[str, ...]]:
        """Return what the drawn cases came without, for each backend that such cases judged and that promises less."""
        drawn = {cell.backend for found in self.families.values() for cell in found.cells if cell.executed}
        if not drawn:
            return {}
        from attnconf.backends.demands import not_promised

        session = self.state.session
        working = [session.declaration(name) for name in self.state.backends if session.why_not(name) is None]
        found = {backend.name: not_promised(backend.promises) for backend in working if backend.name in drawn}
        return {name: words for name, words in sorted(found.items()) if words}

    @property
    def providers(self) -> dict[str, Provider]:
        """Who provided the backends that this run is about, and those that its tests judged."""
        return self.state.providers(cell.backend for cell in self.cells)

    def foreign(self) -> list[str]:
        """Say what of the evidence that the plan asks for is not of the planned commit."""
        from attnconf.gate.verify import provider_faults

        plan = self.state.plan
        asked = () if plan is None else plan.job_named(self.state.option("job")).backends
        return list(provider_faults(self.cells, self.providers, asked)) if asked else []

    def unproven(self, suite: bool) -> list[str]:  # noqa: FBT001 - whether the suite was on the command line
        """Say why nothing is proven at all, or else of which backend named by ``--attnconf-backend``."""
        from attnconf.wording import counted

        if not self.executed and (self.cells or suite):
            return ["nothing was executed: no backend judged a single case, so nothing is proven"]
        if self.executed and all(cell.is_vacuous for cell in self.cells if cell.executed):
            return [f"no feature mattered in any of the {counted(self.executed, 'layer')} judged, so nothing is proven"]
        # of those that a plan's job asks, its cells say what must be proven
        planned = () if self.state.plan is None else self.state.plan.job_named(self.state.option("job")).backends
        named = [name for name in dict.fromkeys(self.state.option("backend")) if name not in planned]
        return [sentence for name in named if (sentence := self._idle(name))]

    def _idle(self, name: str) -> str:
        from attnconf.wording import counted

        own = [cell for cell in self.cells if cell.backend == name or cell.backend.startswith(f"{name}[")]
        executed = sum(cell.executed for cell in own)
        if any(cell.broken or (cell.passed and not cell.is_vacuous) for cell in own):
            return ""
        claim = f"{flag('backend')} names {name}, but"
        if not executed:
            from attnconf.report.matrix import count_reasons

            reasons = [reason for reason, _ in count_reasons(own)]
            why = self.state.session.why_not(name) or next(iter(reasons), "no test asked it")
            return f"{claim} it judged nothing: {why}"
        layers = counted(executed, "layer")
        if sum(cell.contract_only for cell in own) == executed:
            return f"{claim} only its documented contract was executed ({layers}), which proves no kernel"
        return f"{claim} no feature mattered in any of the {layers} that were judged, which proves nothing"

    def hidden(self) -> list[str]:
        """Say which backends broke a clause in a run in which no test failed."""
        from attnconf.wording import counted

        broken: Counter[str] = Counter()
        for cell in self.cells:
            broken[cell.shown_backend] += cell.broken
        hides = "broken, but no test failed: a mark, a plugin or an except hides it"
        return [
            f"{counted(count, 'layer')} of {name} {'is' if count == 1 else 'are'} {hides}"
            for name, count in sorted(broken.items())
            if count
        ]

    def policy_verdict(self, policy: Policy) -> Verdict:
        """Hold the evidence against ``policy``, as far as the job of a plan asks when the run is one."""
        from attnconf.gate.verdict import narrowed, reach_verdict
        from attnconf.policy.resolution import resolve_all

        state = self.state
        backends = {name: state.session.why_not(name) for name in state.session.registry.names}
        platform = state.policy_platform
        providers = {name: (provider,) for name, provider in self.providers.items()}
        resolutions = resolve_all(policy, platform)
        verdict = reach_verdict(policy, resolutions, self.cells, platform, backends, providers=providers)
        if state.plan is None:
            return verdict
        return narrowed(verdict, state.plan.job_named(state.option("job")).cells)


def _recorded(report: pytest.TestReport, wanted: str) -> list[Any]:
    return [json.loads(str(text)) for name, text in report.user_properties if name == wanted]


def _lost(state: State, report: pytest.TestReport) -> Record | None:
    """Count the cases of a test of the suite that ended without a verdict; None where they cannot be counted."""
    test = SuiteTest.of_nodeid(report.nodeid, state.backends)
    if test is None:
        return None
    from attnconf.judging.result import Outcome
    from attnconf.running.record import Unexecuted

    reason = f"{report.nodeid.rpartition('::')[2]} ended without a verdict: {_last_line(report)}"
    lost = Unexecuted(state.session, test.backend, Outcome.CRASHED, reason)
    try:
        if test.vector:
            return lost.case(state.replayed[test.vector])
        if test.family == MACHINE:
            return lost.stories(test.model)
        return lost.family(cast("Family", test.drawn), test.model)
    except Exception:  # noqa: BLE001 - counting may fail for the same reason as the test, which fails the run
        return None


def _last_line(report: pytest.TestReport) -> str:
    return (report.longreprtext.strip().splitlines() or ["no message"])[-1]
