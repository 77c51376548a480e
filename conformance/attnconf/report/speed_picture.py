"""The cost of judging as a picture: each kind of case beside its floor, and the ladders of tokens and requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.report.figures import figure_class, save

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from attnconf.speeds.measured import Measured

_TERMS = (("kernels", "#2e7d32"), ("answers", "#1565c0"), ("inputs", "#f9a825"))
_WALL = "#c9c9c9"


def draw_speed(found: Sequence[Measured], ladders: Sequence[Measured], title: str, path: Path) -> None:
    """Draw measurements, and ``ladders`` of one kind of case in growing sizes, into ``path``. Raises ``AttnconfError``.

    A ladder's wall time stands over its query tokens or requests, both axes logarithmic: a line of slope one is linear.
    """
    make = figure_class(path)
    columns = 2 if ladders else 1
    figure = make(figsize=(8.5 * columns, 1.6 + 0.55 * max(len(found), 5)), dpi=130, layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    _draw_kinds(axes[0], found)
    if ladders:
        _draw_ladders(axes[1], ladders)
    figure.suptitle(title, fontsize=11, parse_math=False)
    save(figure, path)


def _draw_kinds(axes: Axes, found: Sequence[Measured]) -> None:
    for row, one in enumerate(found):
        axes.barh(row, one.wall, color=_WALL, height=0.8, label="wall" if row == 0 else None)
        start = 0.0
        for term, colour in _TERMS:
            seconds = getattr(one, term)
            axes.barh(row, seconds, left=start, color=colour, height=0.4, label=f"floor: {term}" if row == 0 else None)
            start += seconds
        factor = "" if one.factor is None else f"  {one.factor:.1f} x the floor"
        axes.text(one.wall, row, f" {one.wall:.3g} s{factor}", va="center", fontsize=8, parse_math=False)
    names = [f"{one.kind}\n{one.model}, {one.backend}" for one in found]
    axes.set_yticks(range(len(found)), names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.35)
    axes.set_xlabel("seconds a case, warm, judged with every check of its turn")
    axes.legend(fontsize=8, loc="lower right")


def _draw_ladders(axes: Axes, ladders: Sequence[Measured]) -> None:
    by_name: dict[str, list[Measured]] = {}
    for one in ladders:
        by_name.setdefault(f"{one.model}, {one.ladder}", []).append(one)
    for name, steps in by_name.items():
        axes.plot([one.size for one in steps], [one.wall for one in steps], marker="o", label=name)
        last = steps[-1]
        axes.plot(
            [one.size for one in steps], [last.wall * one.size / last.size for one in steps], ":", color="#888888"
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("query tokens (a prefill) or requests (a decode); dotted: linear in them")
    axes.set_ylabel("seconds a case, warm")
    axes.legend(fontsize=8)
