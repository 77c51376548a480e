"""The matrix of a receipt as a picture: what ran, how far off it was, and what did not run and why."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from attnconf.errors import AttnconfError
from attnconf.escape import picture
from attnconf.report.figures import figure_class, save
from attnconf.report.matrix import arrange
from attnconf.wording import clipped, counted, cut

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from attnconf.gate.receipt import Receipt
    from attnconf.report.matrix import Matrix, Square

MOST_TILES = 20_000
_MOST_NOTES = 26
_LONGEST_NOTE = 150
_LONGEST_NAME = 24
Colour = tuple[float, float, float, float]
_FAILED = "#c62828"
_GREY = "#e3e3e3"
_FAINT = "#f6f6f6"
_LISTED = "#b9c6d3"
_CONTRACT = "//"
_CONTRACT_LINES = "#ffffff"
_GREY_LINES = "#9a9a9a"


@dataclass(frozen=True)
class Tile:
    """One square: a text, a second smaller one, a face colour, a hatch, and whether the text is white."""

    text: str
    small: str = ""
    face: str | Colour = _FAINT
    hatch: str = ""
    white: bool = False


def draw(receipt: Receipt, path: Path) -> None:
    """Draw ``receipt`` into ``path``, a PNG, SVG or PDF. Raises ``AttnconfError``."""
    make = figure_class(path)
    matrix = arrange(receipt.cells, receipt.listed)
    if len(matrix.rows) * len(matrix.columns) > MOST_TILES:
        raise AttnconfError(f"{len(matrix.rows)} rows and {len(matrix.columns)} columns are too many for a picture")
    tiles, notes = _tiles(matrix)
    height = 2.3 + 0.34 * len(matrix.rows) + 0.17 * len(notes)
    figure = make(figsize=(max(9.0, 3.4 + 0.62 * len(matrix.columns)), height), dpi=130)
    bottom = (0.62 + 0.17 * len(notes)) / height
    _draw_tiles(figure.add_axes((0.19, bottom, 0.79, 1 - bottom - 1.35 / height)), matrix, tiles)
    for line, (text, size) in enumerate(_titles(receipt)):
        figure.text(0.015, 1 - (0.28 + 0.22 * line) / height, text, fontsize=size, parse_math=False, va="baseline")
    _draw_legend(figure, height, bottom, listed=bool(receipt.listed))
    for line, note in enumerate(notes):
        place = bottom - (0.58 + 0.17 * line) / height
        figure.text(0.02, place, note, fontsize=7, parse_math=False, family="monospace", color="#333333")
    save(figure, path)


def _tiles(matrix: Matrix) -> tuple[dict[tuple[int, int], Tile], tuple[str, ...]]:
    """Return the tiles at (row, column), and the notes that they refer to."""
    notes: dict[str, str] = {}
    tiles = {
        (matrix.rows.index(row), matrix.columns.index(column)): _tile(square, notes)
        for (row, column), square in matrix.squares.items()
    }
    return tiles, tuple(f"{mark}  {reason}" for reason, mark in notes.items())


def _tile(square: Square, notes: dict[str, str]) -> Tile:
    if square.kind == "listed":
        return Tile(square.count.removesuffix(" listed"), "listed", _LISTED if square.kernels else _FAINT)
    return _judged_tile(square, notes)


def _judged_tile(square: Square, notes: dict[str, str]) -> Tile:
    if square.kind == "broken":
        return Tile(f"{square.broken} BAD", square.units, _FAILED, white=True)
    if square.kind == "not_run":
        return Tile(_note(square.reason, notes), face=_GREY, hatch="xxx")
    if square.kind == "unsupported":
        return Tile(_note(square.reason, notes))
    worst = square.worst or 0.0
    if square.kind == "vacuous":
        return Tile(square.count, square.units)
    if square.kind == "contract":
        return Tile(square.count, square.units, _shade(worst, "Blues"), hatch=_CONTRACT)
    return Tile(square.count, square.units, _shade(worst, "Greens"))


def _note(reason: str, notes: dict[str, str]) -> str:
    """Return the mark of the reason why nothing was executed."""
    reason = cut(picture(reason), _LONGEST_NOTE)
    if reason not in notes and len(notes) >= _MOST_NOTES:
        reason = "another reason: see the receipt"
        return notes.setdefault(reason, "*")
    return notes.setdefault(reason, chr(ord("a") + len(notes)))


def _shade(units: float, name: str) -> Colour:
    from matplotlib import colormaps

    red, green, blue, alpha = colormaps[name](0.10 + 0.45 * min(units, 1.0))
    return float(red), float(green), float(blue), float(alpha)


def _titles(receipt: Receipt) -> list[tuple[str, float]]:
    where = receipt.platform
    device = f"{where.device}, SM {where.sm}, CUDA {where.cuda}" if where.sm else "no GPU"
    device = f"SIMULATED, proves nothing: {device}" if where.simulated else device
    versions = {"torch": where.torch, "triton": where.triton, "flashinfer": where.flashinfer}
    stack = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    executed = sum(cell.executed for cell in receipt.cells)
    contract = sum(cell.contract_only for cell in receipt.cells)
    broken = sum(cell.broken for cell in receipt.cells)
    policy = f", policy {receipt.policy.name}" if receipt.policy else ""
    commit = (
        f", commit {receipt.git_sha[:12]}{'-dirty' * receipt.git_sha.endswith('-dirty')}" if receipt.git_sha else ""
    )
    return [
        (
            f"{counted(executed - contract, 'layer')} judged on kernels, {contract} by contract only, {broken} broken",
            13,
        ),
        (picture(f"{device}; {stack}"), 8.5),
        (
            picture(f"profile {receipt.profile}, seed {receipt.seed}{policy}{commit}; attnconf {receipt.attnconf}"),
            8.5,
        ),
    ]


def _draw_tiles(axes: Axes, matrix: Matrix, tiles: dict[tuple[int, int], Tile]) -> None:
    from matplotlib.patches import Rectangle

    for (row, column), tile in tiles.items():
        options: dict[str, Any] = {"linewidth": 0, "hatch": tile.hatch or None}
        options["edgecolor"] = _CONTRACT_LINES if tile.hatch == _CONTRACT else _GREY_LINES
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=tile.face, **options))
        color = "white" if tile.white else "black"
        box = {"facecolor": tile.face, "edgecolor": "none", "pad": 0.8} if tile.hatch else None
        both: dict[str, Any] = {"ha": "center", "va": "center", "color": color}
        middle = row + (0.36 if tile.small else 0.5)
        axes.text(
            column + 0.5, middle, tile.text, fontsize=8, fontweight="bold" if tile.white else None, bbox=box, **both
        )
        if tile.small:
            axes.text(column + 0.5, row + 0.74, tile.small, fontsize=6, bbox=box, **both)
    _draw_grid(axes, matrix)


def _draw_grid(axes: Axes, matrix: Matrix) -> None:
    rows, columns = len(matrix.rows), len(matrix.columns)
    axes.set_xlim(0, max(columns, 1))
    axes.set_ylim(max(rows, 1), 0)
    labels = [f"{_name(model)}  {kind}" for model, kind in matrix.rows]
    axes.set_yticks([row + 0.5 for row in range(rows)], labels, fontsize=8, parse_math=False)
    axes.set_xticks([column + 0.5 for column in range(columns)], [mode for _, mode in matrix.columns], fontsize=7)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    axes.hlines(range(rows + 1), 0, columns, color="white", linewidth=1)
    axes.vlines(range(columns + 1), 0, rows, color="white", linewidth=1)
    borders = [row for row in range(1, rows) if matrix.rows[row][0] != matrix.rows[row - 1][0]]
    axes.hlines(borders, 0, columns, color="#555555", linewidth=0.7)
    starts = [i for i in range(columns) if i == 0 or matrix.columns[i][0] != matrix.columns[i - 1][0]]
    axes.vlines([*starts, columns], 0, rows, color="#555555", linewidth=1)
    for start, end in pairwise([*starts, columns]):
        place = ((start + end) / 2 / columns, 1.0)
        axes.annotate(
            _name(matrix.columns[start][0]),
            place,
            (0, 17),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            fontsize=9,
            fontweight="bold",
            parse_math=False,
        )


def _name(text: str) -> str:
    return clipped(picture(text), _LONGEST_NAME)


def _draw_legend(figure: Figure, height: float, bottom: float, *, listed: bool) -> None:
    from matplotlib.patches import Patch

    keys = {
        "kernel evidence: layers judged, worst error in units": Patch(facecolor=_shade(0.5, "Greens")),
        "contract evidence only (c)": Patch(facecolor=_shade(0.5, "Blues"), hatch=_CONTRACT, edgecolor=_CONTRACT_LINES),
        "no feature mattered (?)": Patch(facecolor=_FAINT, edgecolor="#bbbbbb"),
        "broken": Patch(facecolor=_FAILED),
        "not run": Patch(facecolor=_GREY, hatch="xxx", edgecolor=_GREY_LINES),
        "unsupported": Patch(facecolor=_FAINT, edgecolor="#bbbbbb"),
    }
    if listed:
        keys["listed, not run"] = Patch(facecolor=_LISTED)
    figure.legend(
        list(keys.values()),
        list(keys),
        loc="upper left",
        bbox_to_anchor=(0.015, bottom - 0.10 / height),
        ncols=len(keys),
        fontsize=7.5,
        frameon=False,
        columnspacing=1.2,
    )
