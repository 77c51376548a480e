"""The result of a race as a picture: mutants caught, by cases and by CPU seconds, a line a side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ci.benchmarks.peerstyles.page import LABELS, OWN

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

# Okabe and Ito's colours that are told apart on white and by the colour-blind.
_COLOURS = {
    "flashinfer": "#0072b2",
    "vllm": "#d55e00",
    "sglang": "#009e73",
    "tensorrt_llm": "#cc79a7",
    "smoke": "#767676",
    "gate": "#000000",
}
_WIDTH = 8.8
_DOTS = 200


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw ``result`` into ``path``, on white: GitHub shows it so in light and in dark."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, 4.3), dpi=_DOTS, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _curves(left, result, 0, result["cases"])
    _curves(right, result, 1, result["seconds"])
    left.set_xlabel("cases asked of each mutant")
    right.set_xlabel("CPU seconds spent on each mutant")
    left.set_ylabel("mutants caught")
    total = len(result["mutants"])
    figure.suptitle(f"{total} known-wrong attention backends: who notices, after how much", fontsize=12)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, metadata={"Software": None})


def _curves(axes: Axes, result: dict[str, Any], which: int, most: float) -> None:
    total = len(result["mutants"])
    start = 1.0 if which == 0 else most / 100
    ends: list[tuple[int, int]] = []
    for side, label in LABELS.items():
        costs = sorted(
            mutant["found"][side][which]
            for mutant in result["mutants"]
            if mutant["found"][side] is not None and mutant["found"][side][which] <= most
        )
        before = sum(cost <= start for cost in costs)
        steps = [(start, before), *[(cost, before + i) for i, cost in enumerate(costs[before:], start=1)]]
        steps.append((most, len(costs)))
        axes.step(
            [x for x, _ in steps],
            [y for _, y in steps],
            where="post",
            color=_COLOURS[side],
            linewidth=2.6 if side in OWN else 1.7,
            label=label,
        )
        ends.append((len(costs), len(ends)))
    axes.axhline(total, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(start, most)
    axes.set_ylim(0, total * 1.04)
    ticks = [tick for tick in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 40, 50, 100) if start <= tick <= most]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(visible=True, color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    for place in ("top", "right"):
        axes.spines[place].set_visible(False)
    colours = list(_COLOURS.values())
    for (count, index), y in zip(
        sorted(ends), _apart([count for count, _ in sorted(ends)], total * 0.045), strict=True
    ):
        axes.annotate(
            str(count), (most, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9,
            color=colours[index], annotation_clip=False,
        )  # fmt: skip


def _apart(heights: list[int], least: float) -> list[float]:
    """Move ascending heights of labels up until they do not overlap."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + least) if placed else float(height))
    return placed
