"""Agenda: all cases of a session's profile in one order, the most telling ones first."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from attnconf.cases.drawing.draws import by_variety
from attnconf.cases.drawing.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.families import Family
    from attnconf.judging.result import CaseResult
    from attnconf.running.session import Session

_A_PROBE_IN = 6


@dataclass(frozen=True)
class Asked:
    """One case of the suite: of a family and model, or, without a family, a probe of what is declared unsupported."""

    case: Case
    family: Family | None
    model: str = ""

    def of(self, session: Session, backend: str, *, explain: bool = True) -> CaseResult:
        """Ask one backend of ``session`` whether it is right; the result is no evidence of what mattered."""
        if self.family is None:
            return session.probe(self.case, backend)
        return session.ask(self.case, backend, explain=explain, count_effects=False)


def agenda(session: Session) -> tuple[Asked, ...]:
    """Return what the suite asks of each backend: first what brings most pairs of traits together for its cost.

    One question in six is a probe, until they are used up.
    """
    profile = session.profile
    drawn = [
        Asked(case, family, model)
        for family in FAMILIES
        for model in profile.targets(family)
        for case in session.drawn.cases(family, model)
    ]
    ordered = (drawn[index] for index in by_variety([asked.case for asked in drawn]))
    return tuple(_with_probes(ordered, (Asked(case, None) for case in session.drawn.refusals.cases)))


def _with_probes(cases: Iterator[Asked], probes: Iterator[Asked]) -> Iterator[Asked]:
    for turn, asked in enumerate(cases, start=1):
        yield asked
        if turn % (_A_PROBE_IN - 1) == 0:
            yield from islice(probes, 1)
    yield from probes
