"""What a campaign saw: counts, failures, and how far below their bounds the kernels stayed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from attnconf.judging.units import EDGES, unit_bin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.judging.result import CaseResult

LOOSE = 0.1
"""A kernel whose worst error stays below this share of its bound has a profile that is looser than tenfold."""


@dataclass
class Tightness:
    """How the layers of one kernel under one declared profile lie below the bound: their worst errors in units.

    ``reason`` is the profile's own word on a bound that is far above them.
    """

    units: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def worst(self) -> float:
        """The largest error of all layers."""
        return max(self.units)

    @property
    def median(self) -> float:
        """The median of the layers' worst errors."""
        return median(self.units)

    @property
    def is_loose(self) -> bool:
        """Whether the bound is more than tenfold above every error seen."""
        return self.worst < LOOSE

    @property
    def histogram(self) -> list[int]:
        """The layers counted in the bins of ``EDGES`` and one above them."""
        bins = [0] * (len(EDGES) + 1)
        for units in self.units:
            bins[unit_bin(units)] += 1
        return bins

    def add(self, units: Iterable[float], reason: str) -> None:
        """Add layers."""
        self.units += units
        self.reason = self.reason or reason


@dataclass
class CampaignReport:
    """What a campaign saw: counts of cases and layers, errors in units, and the failures.

    ``lost`` says which explorations ended early, and by what: an error of their process, not a verdict. ``profiles``
    maps a kernel, with the profile declared for it in parentheses, to its errors. ``executed`` counts cases of which
    a layer was judged. ``seconds`` is the time of the cases, ``build_seconds`` that of the builds before the first.
    ``interrupted`` says that somebody ended it: what was done before counts.
    """

    cases: int = 0
    executed: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    profiles: dict[str, Tightness] = field(default_factory=dict)
    failures: list[CaseResult] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    seconds: float = 0.0
    build_seconds: float = 0.0
    interrupted: bool = False

    def count(self, results: Iterable[CaseResult]) -> None:
        """Add results."""
        for result in results:
            self.cases += 1
            self.executed += any(layer.outcome.is_executed for layer in result.layers)
            for layer in result.layers:
                self.outcomes[layer.outcome.value] += 1
                if layer.worst_units is None:
                    continue
                name = f"{layer.kernel} ({layer.profile})"
                self.profiles.setdefault(name, Tightness()).add([layer.worst_units], layer.loose)

    def add(self, other: CampaignReport) -> None:
        """Add another process's findings."""
        self.cases += other.cases
        self.executed += other.executed
        self.outcomes += other.outcomes
        self.failures += other.failures
        self.lost += other.lost
        for name, tightness in other.profiles.items():
            self.profiles.setdefault(name, Tightness()).add(tightness.units, tightness.reason)

    def to_data(self) -> dict[str, object]:
        """Return plain JSON data."""
        return {
            "cases": self.cases,
            "executed": self.executed,
            "seconds": round(self.seconds, 1),
            "build_seconds": round(self.build_seconds, 1),
            "interrupted": self.interrupted,
            "outcomes": dict(sorted(self.outcomes.items())),
            "edges": list(EDGES),
            "kernels": {
                name: {
                    "worst_units": round(found.worst, 4),
                    "median_units": round(found.median, 4),
                    "histogram": found.histogram,
                    "reason": found.reason,
                }
                for name, found in sorted(self.profiles.items())
            },
            "failures": [result.case.to_data() for result in self.failures],
            "lost": self.lost,
        }
