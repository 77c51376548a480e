"""A campaign's outcome as text: cases, outcomes, and how the errors lie under the bound, kernel by kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.clauses import cite
from attnconf.false_alarms import EDGES

if TYPE_CHECKING:
    from attnconf.false_alarms import CampaignReport
    from attnconf.result import CaseResult

_LOOSE = 0.1
"""A kernel whose worst error stays below this share of its bound has a profile that is looser than tenfold."""


def campaign_lines(report: CampaignReport, backend: str) -> list[str]:
    """Return the lines to print: a row a kernel, its layers by the worst error in units of the bound."""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(report.outcomes.items()))
    speed = report.cases / report.seconds if report.seconds else 0.0
    lines = [f"{backend}: {report.cases} cases in {report.seconds:.0f} s ({speed:.1f} a second); layers: {outcomes}"]
    if report.histograms:
        lines.append(_row("kernel", "worst", [f"<{edge:g}" for edge in EDGES] + [">1"]))
    for kernel, bins in sorted(report.histograms.items()):
        loose = "  profile looser than tenfold" if report.worst[kernel] < _LOOSE else ""
        lines.append(_row(kernel, f"{report.worst[kernel]:.3f}", [str(count) for count in bins]) + loose)
    for result in report.failures:
        lines += [f"FAILED: {why} {result.case!r}" for why in dict.fromkeys(failure_reasons(result))]
    return lines


def failure_reasons(result: CaseResult) -> list[str]:
    """Return what each failing layer of ``result`` ended in, on one line each."""
    reasons = []
    for layer in result.layers:
        if layer.outcome.is_failure:
            found = [f"{cite(failure.clause)}, check {failure.check}: {failure.summary}" for failure in layer.failures]
            reasons.append(f"{layer.outcome.value}: {'; '.join(found) or layer.reason}:")
    return reasons


def _row(kernel: str, worst: str, bins: list[str]) -> str:
    return f"{kernel:<44} {worst:>7} " + " ".join(f"{text:>7}" for text in bins)
