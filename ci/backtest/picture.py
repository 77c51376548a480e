"""The result of a backtest as a picture: a bar a bug, the cases and CPU seconds that it took; misses are on top."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ci.backtest.outcome import joined
from ci.backtest.page import headline

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ci.backtest.outcome import Backtest, Outcome
    from ci.backtest.table import Table

# Okabe and Ito's colours that are told apart on white and by the colour-blind.
_FOUND, _MISSED = "#009e73", "#d55e00"
_WIDTH = 8.8
_HEIGHT = 0.24
_DOTS = 200


def draw(table: Table, results: Sequence[Backtest], path: Path) -> None:
    """Draw ``results`` into ``path``, on white: GitHub shows it so in light and in dark."""
    from matplotlib.figure import Figure

    known = {entry.id for entry in table.entries}
    ran = [one for one in joined(results).values() if one.verdict in {"missed", "found"} and one.id in known]
    ran.sort(key=lambda one: (one.verdict == "missed", _cost(one)[0]))  # barh draws the first one at the bottom
    figure = Figure(figsize=(_WIDTH, 1.2 + _HEIGHT * len(ran)), dpi=_DOTS, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [one.id for one in ran]
    colours = [_MISSED if one.verdict == "missed" else _FOUND for one in ran]
    for axes, which, label in ((left, 0, "cases until it was found"), (right, 1, "CPU seconds until it was found")):
        axes.barh(names, [max(0.1, _cost(one)[which]) for one in ran], color=colours)
        axes.set_xlabel(f"{label} (missed: asked in vain)", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(headline(table, *results).partition(";")[0], fontsize=10)
    figure.savefig(path, metadata={"Software": None})


def _cost(one: Outcome) -> tuple[float, float]:
    if one.find is not None:
        return one.find.cases, one.find.seconds
    return (0.0, 0.0) if one.broken is None else (one.broken.cases, one.broken.seconds)
