"""The matrix of a receipt: squares of (model, layer kind) by (backend, mode), for every form in which it is drawn."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from attnconf.cases.geometry import unsharded
from attnconf.cases.models import FREE_MODEL
from attnconf.gate.cells import merge_cells
from attnconf.judging.units import units_column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnconf.gate.cells import Cell
    from attnconf.gate.listed import ListedCell

MODES = ("decode", "extend", "mixed", "verify")
Kind = Literal["kernel", "contract", "vacuous", "broken", "not_run", "unsupported", "listed"]
LISTED = ", listed"
"""What readers see behind the name of a backend of which the list speaks, and nothing ran."""
NO_EFFECT = "no feature mattered, so no mistake would have shown: no evidence"
_MARKS: dict[Kind, str] = {"contract": "c", "vacuous": "?"}
Row = tuple[str, str]
"""A model without its shard, and a layer kind."""
Column = tuple[str, str]
"""A backend and a mode."""


@dataclass(frozen=True)
class Square:
    """What one square says: its kind, layers judged and broken, the worst error in units, why nothing was judged.

    In a ``vacuous`` one layers were judged and no feature mattered: it is no evidence, of a kernel or a contract. In a
    ``listed`` one nothing was: ``kernels`` counts those that FlashInfer's list has, and 0 is none.
    """

    kind: Kind
    executed: int
    broken: int
    worst: float | None
    reason: str = ""
    kernels: int = 0

    @property
    def count(self) -> str:
        """How many layers were judged, as text: marked where no kernel ran, or where no feature mattered."""
        if self.kind == "listed":
            return f"{self.kernels} listed" if self.kernels else "none"
        return f"{self.executed}{_MARKS.get(self.kind, '')}"

    @property
    def units(self) -> str:
        """The worst error as text, empty where no number was judged."""
        return units_column(self.worst)


@dataclass(frozen=True)
class Matrix:
    """Rows and columns in their order, and the squares that are not empty."""

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    squares: dict[tuple[Row, Column], Square]


def arrange(cells: Sequence[Cell], listed: Iterable[ListedCell] = ()) -> Matrix:
    """Arrange cells as squares; shards of a model and its dtypes are one row, the free geometry is the last.

    What is ``listed`` has columns of its own, so that nobody takes it for what ran beside it.
    """
    grouped: dict[tuple[Row, Column], list[Cell]] = defaultdict(list)
    for cell in merge_cells(cells, ()):
        grouped[(unsharded(cell.model), cell.layer_kind), (cell.shown_backend, cell.mode)].append(cell)
    squares = {place: _square(members) for place, members in grouped.items()} | _listed_squares(listed)
    rows = tuple(sorted({row for row, _ in squares}, key=lambda row: (row[0] == FREE_MODEL, *row)))
    columns = tuple(sorted({column for _, column in squares}, key=lambda column: (column[0], MODES.index(column[1]))))
    return Matrix(rows, columns, squares)


def _listed_squares(listed: Iterable[ListedCell]) -> dict[tuple[Row, Column], Square]:
    grouped: dict[tuple[Row, Column], list[ListedCell]] = defaultdict(list)
    for one in listed:
        grouped[(one.model, one.layer_kind), (f"{one.backend}{LISTED}", one.mode)].append(one)
    return {
        place: Square(
            "listed", 0, 0, None, next((one.missing for one in some if one.missing), ""), sum(o.kernels for o in some)
        )
        for place, some in grouped.items()
    }


def _square(cells: Sequence[Cell]) -> Square:
    executed, broken = sum(cell.executed for cell in cells), sum(cell.broken for cell in cells)
    worst = max((cell.worst_units for cell in cells if cell.worst_units is not None), default=None)
    if broken:
        return Square("broken", executed, broken, worst)
    if executed and all(cell.is_vacuous for cell in cells if cell.executed):
        return Square("vacuous", executed, 0, worst, NO_EFFECT)
    if executed:
        return Square("contract" if any(cell.contract_only for cell in cells) else "kernel", executed, 0, worst)
    reason = next((reason for reason, _ in count_reasons(cells) if reason), "no reason given")
    return Square("not_run" if any(cell.not_run for cell in cells) else "unsupported", 0, 0, None, reason)


def count_reasons(cells: Iterable[Cell]) -> list[tuple[str, int]]:
    """Return why layers were not judged and how many, the most frequent reason first."""
    counts: dict[str, int] = defaultdict(int)
    for cell in cells:
        for reason, count in cell.reasons.items():
            counts[reason] += count
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
