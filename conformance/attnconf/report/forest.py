"""Forest: ratios of speeds with their intervals as a picture, one line a question, beside the share of the limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.escape import picture
from attnconf.report.figures import figure_class, save
from attnconf.report.speed_rows import scale_of, speed_reports
from attnconf.speeds.verdicts import RESOLUTION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from attnconf.gate.speeds.speed_receipt import SpeedReceipt
    from attnconf.report.speed_rows import SpeedRow

COLOURS = {"faster": "#1f8f5f", "slower": "#c0272d", "no difference": "#566270", "undecided": "#b7791f"}
_SIDES = ("#1565c0", "#c9c9c9")


def draw_forest(receipts: Sequence[SpeedReceipt], path: Path) -> None:
    """Draw every question of ``receipts`` into ``path``. Raises ``AttnconfError`` without one, and as ``save``."""
    make = figure_class(path)
    reports = speed_reports({str(index): one for index, one in enumerate(receipts)})
    rows = [row for report in reports for row in report.rows]
    figure = make(figsize=(14, 1.9 + 0.5 * max(len(rows), 3)), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_ratios(left, rows)
    _draw_shares(right, rows)
    for axes in (left, right):
        axes.set_ylim(len(rows) - 0.4, -0.6)
    title = "; ".join(dict.fromkeys(picture(f"{report.machine}, {report.how}") for report in reports))
    if any(report.faults for report in reports):
        title += "\nVOID: " + picture(next(fault for report in reports for fault in report.faults))
    figure.suptitle(title, fontsize=10, parse_math=False, wrap=True)
    save(figure, path)


def _draw_ratios(axes: Axes, rows: Sequence[SpeedRow]) -> None:
    axes.axvspan(1 - RESOLUTION, 1 + RESOLUTION, color="#eef0f2")
    axes.axvline(1.0, color="#17202a", linewidth=0.8)
    for place, row in enumerate(rows):
        colour = COLOURS[row.cold.verdict]
        axes.plot([row.cold.low, row.cold.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([row.cold.ratio], [place], "s", color=colour, markersize=6)
        if row.warm is not None:
            axes.plot([row.warm.ratio], [place], "o", color=colour, markersize=5, fillstyle="none")
        inward = "right" if row.cold.ratio > 1 else "left"
        axes.text(row.cold.ratio, place - 0.2, f"{row.cold.ratio:.3f}", fontsize=8, color=colour, ha=inward)
    scale = scale_of(rows)
    axes.set_xscale("log")
    axes.set_xlim(scale.least, scale.most)
    axes.minorticks_off()
    ticks = [
        tick
        for tick in (0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0)
        if scale.least <= tick <= scale.most
    ]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    names = [f"{picture(row.versus)}\n{picture(row.what)}" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=7.5, parse_math=False)
    axes.set_xlabel("speed of the candidate over the baseline, cold with its 95 % interval (circle: warm)", fontsize=8)


def _draw_shares(axes: Axes, rows: Sequence[SpeedRow]) -> None:
    for place, row in enumerate(rows):
        for side, share in enumerate(row.share or ()):
            high = place - 0.19 + 0.38 * side
            label = ("candidate", "baseline")[side] if place == 0 else None
            axes.barh(high, 100 * share, height=0.34, color=_SIDES[side], label=label)
            text = f"{100 * share:.0f} %, {row.micros[side]:.0f} us"
            inside = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
            axes.text(100 * share + 1.5, high, text, va="center", fontsize=7.5, bbox=inside)
        if row.share is None:
            axes.text(0, place, " limit unknown", va="center", fontsize=7.5)
    axes.set_yticks([])
    axes.set_xlim(0, 130)
    axes.axvline(100.0, color="#17202a", linewidth=0.8)
    axes.set_xlabel("percent of what the machine can move or compute, cold", fontsize=8)
    if rows and rows[0].share is not None:
        axes.legend(fontsize=7.5, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
