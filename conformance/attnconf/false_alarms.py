"""Campaigns over many processes: false alarms of right backends, and the tightness of declared profiles."""

from __future__ import annotations

import multiprocessing
import time
from bisect import bisect_right
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attnconf.profiles import Profile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.result import CaseResult
    from attnconf.spaces import Family

EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper edges of the histogram's bins, in units of the bound; what lies above the last one broke the contract."""

MAX_KV_LEN = 400


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one process explores."""

    backend: str
    family: Family
    model: str
    examples: int
    seed: int


@dataclass
class CampaignReport:
    """What a campaign saw: counts of cases and layers, errors in units by kernel, and the failures.

    ``histograms`` maps a kernel to its layers' worst errors, counted in the bins of ``EDGES`` and one above them.
    """

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    histograms: dict[str, list[int]] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    failures: list[CaseResult] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, results: Iterable[CaseResult]) -> None:
        """Add results."""
        for result in results:
            self.cases += 1
            for layer in result.layers:
                self.outcomes[layer.outcome.value] += 1
                if layer.worst_units is None:
                    continue
                bins = self.histograms.setdefault(layer.kernel, [0] * (len(EDGES) + 1))
                bins[min(bisect_right(EDGES, layer.worst_units), len(EDGES))] += 1
                self.worst[layer.kernel] = max(layer.worst_units, self.worst.get(layer.kernel, 0.0))

    def add(self, other: CampaignReport) -> None:
        """Add another process's findings."""
        self.cases += other.cases
        self.outcomes += other.outcomes
        self.failures += other.failures
        for kernel, bins in other.histograms.items():
            own = self.histograms.setdefault(kernel, [0] * (len(EDGES) + 1))
            self.histograms[kernel] = [a + b for a, b in zip(own, bins, strict=True)]
            self.worst[kernel] = max(other.worst[kernel], self.worst.get(kernel, 0.0))

    def to_data(self) -> dict[str, object]:
        """Return plain JSON data."""
        return {
            "cases": self.cases,
            "seconds": round(self.seconds, 1),
            "outcomes": dict(sorted(self.outcomes.items())),
            "edges": list(EDGES),
            "kernels": {
                kernel: {"worst_units": round(self.worst[kernel], 4), "histogram": bins}
                for kernel, bins in sorted(self.histograms.items())
            },
            "failures": [result.case.to_data() for result in self.failures],
        }


def search(share: Share, processes: int) -> CampaignReport:
    """Explore ``share`` with several processes, each drawing cases of its own; stop none of them for a failure."""
    started = time.perf_counter()
    parts = [
        Share(
            backend=share.backend,
            family=share.family,
            model=share.model,
            examples=-(-share.examples // processes),
            seed=share.seed * 1_000 + index,
        )
        for index in range(processes)
    ]
    found = CampaignReport()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(explore_share, parts):
            found.add(part)
    found.seconds = time.perf_counter() - started
    return found


def explore_share(share: Share) -> CampaignReport:
    """Explore one process's share. Raises ``BackendUnavailableError`` when the backend does not work here."""
    from attnconf.platforms import detect
    from attnconf.session import Session

    profile = Profile(
        name="campaign", models=(share.model,), examples={share.family: share.examples}, max_kv_len=MAX_KV_LEN
    )
    session = Session(platform=detect(), profile=profile, seed=share.seed, isolate=False)
    session.backend(share.backend)
    explored = session.explore(share.family, share.model, share.backend)
    found = CampaignReport()
    found.count(explored.results)
    if explored.failure is not None:
        found.failures.append(explored.failure)
    return found
