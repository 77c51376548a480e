"""Bugs: failing cases that share backend, clauses, kernel and diagnosis, told once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.cases.geometry import unsharded
from attnconf.clauses import cite
from attnconf.judging.units import units_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.case import Case
    from attnconf.gate.failed_case import FailedCase


@dataclass(frozen=True)
class Bug:
    """Failing cases that look like one bug, the smallest one first."""

    cases: tuple[FailedCase, ...]

    @property
    def smallest(self) -> FailedCase:
        """The case that tells the bug with the fewest tokens and layers."""
        return self.cases[0]

    @property
    def worst_units(self) -> float | None:
        """The largest error of its cases in units of the bound, None if no number is wrong."""
        return max((one.worst_units for one in self.cases if one.worst_units is not None), default=None)

    @property
    def title(self) -> str:
        """Backend, clauses and diagnosis in words."""
        first = self.smallest
        clauses = ", ".join(cite(clause) for clause in first.clauses)
        return f"{first.shown_backend}: {clauses}" + (f": {first.diagnosis}" if first.diagnosis else "")

    @property
    def where(self) -> str:
        """The models and modes of its cases in words."""
        found: dict[str, dict[str, None]] = {}
        for one in self.cases:
            found.setdefault(unsharded(one.case.model), {})[one.case.mode] = None
        return "; ".join(f"{model} {', '.join(modes)}" for model, modes in found.items())

    @property
    def size(self) -> str:
        """How large the error is, in words; empty if no number is wrong."""
        return "" if self.worst_units is None else f"{units_text(self.worst_units)} \u00d7 the bound"

    def covers(self, backend: str, model: str, mode: str) -> bool:
        """Return whether one of its cases is of ``backend``, ``model`` (without its shard) and ``mode``."""
        return any(
            (one.shown_backend, unsharded(one.case.model), one.case.mode) == (backend, model, mode)
            for one in self.cases
        )


def bugs_of(failures: Iterable[FailedCase]) -> tuple[Bug, ...]:
    """Group ``failures``; what gave no number comes first, then the largest error."""
    grouped: dict[tuple[object, ...], list[FailedCase]] = {}
    for one in failures:
        grouped.setdefault((one.shown_backend, one.clauses, one.kernel, one.diagnosis), []).append(one)
    bugs = [Bug(tuple(sorted(members, key=lambda one: _extent(one.case)))) for members in grouped.values()]
    return tuple(sorted(bugs, key=lambda bug: (-(math.inf if bug.worst_units is None else bug.worst_units), bug.title)))


def _extent(case: Case) -> tuple[int, int, str]:
    """Return what orders cases by how much a reader has to look at."""
    tokens = sum(request.kv_len + request.new_tokens for request in case.requests)
    return tokens, len(case.layers), case.id
