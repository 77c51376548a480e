"""Speed table: timed questions as lines for a terminal, and as Markdown for a step summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.escape import markdown
from attnconf.report.speed_rows import speed_reports

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from attnconf.gate.speeds.speed_receipt import SpeedReceipt
    from attnconf.report.speed_rows import SpeedReport, SpeedRow


def speed_lines(receipt: SpeedReceipt, name: str = "this measurement") -> list[str]:
    """Return what a receipt says as lines of text."""
    (report,) = speed_reports({name: receipt})
    return report_lines(report)


def report_lines(report: SpeedReport) -> list[str]:
    """Return one report as lines of text: two for each question, then what is left out, then why nothing counts."""
    lines = [f"{report.machine}: {report.how}"]
    for row in report.rows:
        lines.append(f"{row.versus}, {row.what}")
        lines.append(
            f"    {row.cold.verdict}: {row.cold.text} cold{_warm(row)}; {_times(row)}; {row.share_text}{_control(row)}"
        )
    lines += [f"left out: {text}" for text in report.receipt.left_out]
    lines += [f"VOID: {fault}" for fault in report.faults]
    return lines


def _times(row: SpeedRow) -> str:
    return f"{row.micros[0]:.1f} against {row.micros[1]:.1f} us"


def _warm(row: SpeedRow) -> str:
    lack = f" ({row.cold.lack})" if row.cold.lack else ""
    return f"{lack}, {row.warm.ratio:.3f} warm" if row.warm is not None else lack


def _control(row: SpeedRow) -> str:
    return "" if row.control is None else f"; against itself {row.control.text}"


def speed_markdown(reports: Iterable[SpeedReport]) -> Iterator[str]:
    """Yield the parts of a summary about speed: a table for each receipt, what is void first."""
    for report in reports:
        head = f"### Speed on {markdown(report.machine)}\n\n{markdown(report.name)}: {markdown(report.how)}.\n"
        void = [f"- \u274c void: {markdown(fault)}" for fault in report.faults]
        yield "\n".join([head, *void, *([""] if void else [])])
        yield "\n".join(_table(report))
        yield "\n".join([*(f"- left out: {markdown(text)}" for text in report.receipt.left_out), ""])


def _table(report: SpeedReport) -> Iterator[str]:
    if not report.rows:
        yield "Nothing was timed.\n"
        return
    yield "| candidate over baseline | question | ratio of speeds, cold | | warm | us a launch | share of the limit |"
    yield "|---|---|---|---|--:|---|---|"
    for row in report.rows:
        warm = "" if row.warm is None else f"{row.warm.ratio:.3f}"
        verdict = f"**{row.cold.verdict}**" if row.cold.verdict in {"faster", "slower"} else row.cold.verdict
        cells = (
            markdown(row.versus), markdown(row.what), row.cold.text, verdict, warm, _times(row),
            markdown(row.share_text),
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    yield ""
