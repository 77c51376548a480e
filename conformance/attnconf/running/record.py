"""Record: what one test adds to a run's evidence, whether its cases were executed or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attnconf.gate.asked import Asked
from attnconf.gate.distinct import CountedCase, DistinctCases, counted
from attnconf.judging.result import CaseResult, LayerResult, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.backends.protocol import EvidenceKind
    from attnconf.cases.case import Case
    from attnconf.cases.drawing.families import Family
    from attnconf.gate.cells import Cell
    from attnconf.gate.failed_case import FailedCase
    from attnconf.gate.played import PlayedStories
    from attnconf.running.own_cases import Selection
    from attnconf.running.session import Session

_KERNEL: EvidenceKind = "kernel"
_ORDER = (
    Outcome.FAILED,
    Outcome.CRASHED,
    Outcome.OOM,
    Outcome.REFUSED,
    Outcome.PASSED,
    Outcome.CONTRACT_ONLY,
    Outcome.NOT_RUN,
    Outcome.UNSUPPORTED,
)
"""Outcomes, the one that stands for a test first: the worst failure, else the best evidence, else why not."""


@dataclass(frozen=True)
class Record:
    """What each case of one test adds to the evidence, the one outcome that stands for the test, and failures.

    ``family`` is that of which the cases were drawn, None for recorded cases and those of your own. ``seconds`` is the
    wall time that the cases of each backend took, ``asked`` what the profile counts for each, and ``played`` what was
    played of the machine of serving.
    """

    counted: tuple[CountedCase, ...]
    outcome: Outcome
    failures: tuple[FailedCase, ...] = ()
    family: Family | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    asked: dict[str, Asked] = field(default_factory=dict)
    played: PlayedStories | None = None

    @property
    def cells(self) -> list[Cell]:
        """The cells of the test alone."""
        return DistinctCases(self.counted).cells

    @property
    def cases(self) -> int:
        """How many cases of the test were executed."""
        return DistinctCases(self.counted).executed


def asked_of(selection: Selection) -> Asked:
    """Return what ``selection`` asks of its backend."""
    return Asked(layers=selection.asked, own=selection.own, unreached=selection.unreached)


def recorded(results: Sequence[CaseResult]) -> Record:
    """Count ``results``."""
    outcomes = {layer.outcome for result in results for layer in result.layers}
    seconds: dict[str, float] = {}
    for result in results:
        seconds[result.backend] = seconds.get(result.backend, 0.0) + result.seconds
    return Record(tuple(map(counted, results)), _overall(outcomes), seconds=seconds)


def _overall(outcomes: set[Outcome]) -> Outcome:
    """Return the one of ``outcomes`` that stands for a test."""
    return next((outcome for outcome in _ORDER if outcome in outcomes), Outcome.NOT_RUN)


@dataclass(frozen=True)
class Unexecuted:
    """Cases that ``backend`` was to be asked and was not: it is missing, or the process ended before the verdict."""

    session: Session
    backend: str
    outcome: Outcome
    reason: str

    def family(self, family: Family, model: str) -> Record:
        """Count the cases that the session would draw of ``family`` for ``model``; none of them is run."""
        return recorded([self._ended(case) for case in self.session.drawn.cases(family, model)])

    def stories(self, model: str) -> Record:
        """Count the batches that the machine of serving would play for ``model``."""
        return recorded([self._ended(batch.case) for batch in self.session.stories(model).batches])

    def case(self, case: Case) -> Record:
        """Count one case."""
        return recorded([self._ended(case)])

    def _ended(self, case: Case) -> CaseResult:
        name, evidence = self.backend, _KERNEL
        if self.outcome is Outcome.CRASHED and self.session.why_not(name) is None:
            died = self.session.declaration(name)  # it may be a contract reading; what did not run is a kernel
            name, evidence = died.name, died.evidence
        layers = tuple(LayerResult(layer=i, outcome=self.outcome, reason=self.reason) for i in range(len(case.layers)))
        return CaseResult(case=case, backend=name, evidence=evidence, layers=layers)
