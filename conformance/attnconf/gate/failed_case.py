"""Failed case: what a receipt keeps of the smallest failing case of a test."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from attnconf.backends.protocol import EvidenceKind, shown_name
from attnconf.cases.case import Case
from attnconf.clauses import Clause
from attnconf.judging.units import Units
from attnconf.values import Value

if TYPE_CHECKING:
    from attnconf.judging.result import CaseResult


class FailedCase(Value):
    """A case that ``backend``, or its contract, fails, with the numbers of the ``clauses`` that it breaks.

    ``worst_units`` is the largest error of a failing layer in units of the bound, None if no number is wrong. ``text``
    says in lines what is wrong, ``replay`` is the command that repeats it where it was found. ``kernel`` is the one
    that ran, ``diagnosis`` the kind of bug in words, or what ended the layer; both are empty in older files.
    """

    backend: str
    evidence: EvidenceKind = "kernel"
    case: Case
    clauses: tuple[Annotated[int, Field(ge=1, le=max(Clause))], ...]
    worst_units: Units
    text: str
    replay: str
    kernel: str = ""
    diagnosis: str = ""

    @property
    def shown_backend(self) -> str:
        """The backend as a reader sees it."""
        return shown_name(self.backend, self.evidence)

    @property
    def key(self) -> tuple[str, ...]:
        """What orders failed cases."""
        return (self.shown_backend, self.case.model, self.case.mode, self.case.id)


def failed_case(result: CaseResult, *, text: str, replay: str) -> FailedCase:
    """Return what is kept of ``result``, in which a layer failed."""
    failing = [layer for layer in result.layers if layer.outcome.is_failure]
    units = [failure.units for layer in failing for failure in layer.failures if failure.units is not None]
    diagnoses = [*(failure.diagnosis for failure in result.failures), *(layer.error for layer in failing)]
    return FailedCase(
        backend=result.backend,
        evidence=result.evidence,
        case=result.case,
        clauses=tuple(sorted({failure.clause for failure in result.failures} or {Clause.REFUSAL})),
        worst_units=max((math.inf if math.isnan(one) else one for one in units), default=None),
        text=text,
        replay=replay,
        kernel=next((layer.kernel for layer in failing if layer.kernel), ""),
        diagnosis=next(filter(None, diagnoses), ""),
    )
