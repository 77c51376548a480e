"""Agenda: all cases of a session's profile in one order; those that cover most pairs of traits come first."""

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
"""One item in six is a probe."""


@dataclass(frozen=True)
class AgendaItem:
    """One case of the suite: of a family and model, or, without a family, a probe of what is declared unsupported."""

    case: Case
    family: Family | None
    model: str = ""

    def run(self, session: Session, backend: str, *, explain: bool = True) -> CaseResult:
        """Run the case, or the probe, on one backend of ``session``; no effects are counted."""
        if self.family is None:
            return session.probe(self.case, backend)
        return session.ask(self.case, backend, explain=explain, count_effects=False)


def agenda(session: Session) -> tuple[AgendaItem, ...]:
    """Return what the suite asks of each backend: first the cases that cover most pairs of traits for their cost.

    One item in six is a probe, until they are used up.
    """
    profile = session.profile
    drawn = [
        AgendaItem(case, family, model)
        for family in FAMILIES
        for model in profile.targets(family)
        for case in session.drawn.cases(family, model)
    ]
    ordered = (drawn[index] for index in by_variety([item.case for item in drawn]))
    return tuple(_with_probes(ordered, (AgendaItem(case, None) for case in session.drawn.refusals.cases)))


def _with_probes(cases: Iterator[AgendaItem], probes: Iterator[AgendaItem]) -> Iterator[AgendaItem]:
    for turn, item in enumerate(cases, start=1):
        yield item
        if turn % (_A_PROBE_IN - 1) == 0:
            yield from islice(probes, 1)
    yield from probes
