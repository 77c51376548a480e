"""The result of a case on a backend: typed outcomes and failures, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnconf.backends.protocol import EvidenceKind
    from attnconf.cases.case import Case


RAISED = (Exception, SystemExit)
"""Exceptions of a backend that become typed outcomes."""


class Outcome(StrEnum):
    """How one layer of one case ended on one backend. There is no skip."""

    PASSED = "passed"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"
    REFUSED = "refused"
    CRASHED = "crashed"
    OOM = "oom"
    NOT_RUN = "not_run"
    CONTRACT_ONLY = "contract_only"

    @property
    def is_failure(self) -> bool:
        """Whether this outcome fails a test: a wrong answer, an undeclared refusal, a crash, out of memory."""
        return self in {Outcome.FAILED, Outcome.REFUSED, Outcome.CRASHED, Outcome.OOM}

    @property
    def is_executed(self) -> bool:
        """Whether the backend computed an answer that was judged."""
        return self in {Outcome.PASSED, Outcome.FAILED, Outcome.CONTRACT_ONLY}


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of a wrong element, and the page and slot of the key that is suspected."""

    request: int
    token: int
    head: int
    dim: int
    layer: int
    page: int | None = None
    slot: int | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One broken clause.

    ``units`` is the error in units of the a-priori bound, None for a bitwise clause. ``keys`` says which keys seem to
    have been read or lost, ``suspicion`` what explains the numbers. ``diagnosis`` is the kind alone, the same words for
    every case: failures that share it are taken for one bug. ``mistakes`` names the known mistakes each of which gives
    all of the numbers.
    """

    clause: int
    check: str
    summary: str
    layer: int
    units: float | None = None
    place: Place | None = None
    keys: str = ""
    suspicion: str = ""
    diagnosis: str = ""
    mistakes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reason:
    """Why something was not judged, in one sentence; ``unbuilt`` names the kernel module that is not built."""

    text: str
    unbuilt: str = ""


@dataclass(frozen=True, kw_only=True)
class LayerResult:
    """One layer of one case on one backend.

    ``reason`` says on one line why it was not judged. The same as data: ``error`` is the type of the exception, or the
    end of the process, that ended it, and ``unbuilt`` the kernel module that is not built. ``profile`` is the numerics
    profile of its bound in words, and ``loose`` why that bound may be loose. ``effective`` names the features whose
    absence would have moved this layer's answer by at least ten units.
    """

    layer: int
    outcome: Outcome
    reason: str = ""
    error: str = ""
    unbuilt: str = ""
    kernel: str = ""
    worst_units: float | None = None
    profile: str = ""
    loose: str = ""
    effective: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """One case on one backend, layer by layer: ``runs`` is how often a layer of it was run, for all checks together."""

    case: Case
    backend: str
    evidence: EvidenceKind
    layers: tuple[LayerResult, ...]
    seconds: float = 0.0
    runs: int = 0
    checks: tuple[str, ...] = field(default=())

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Every failure of every layer."""
        return tuple(failure for layer in self.layers for failure in layer.failures)

    @property
    def is_failure(self) -> bool:
        """Whether any layer ended in a failing outcome."""
        return any(layer.outcome.is_failure for layer in self.layers)


Kind = tuple[str, str]
"""An outcome, and the check that failed or the exception that was raised."""


def kinds_of_failure(result: CaseResult) -> frozenset[Kind]:
    """Return what is wrong with ``result``, without the numbers: two failures of one kind are taken for one bug."""
    kinds: set[Kind] = set()
    for layer in result.layers:
        if layer.outcome is Outcome.FAILED:
            kinds |= {(layer.outcome.value, failure.check) for failure in layer.failures}
        elif layer.outcome.is_failure:
            kinds.add((layer.outcome.value, layer.error))
    return frozenset(kinds)
