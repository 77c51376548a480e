"""Distinct cases: one case on one backend counts once, however many tests, workers or repetitions asked it.

Each test hands over what its cases add to the evidence, and cells are added up where all of them are known.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnconf.gate.cells import Cell, merge_cells, tally

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.judging.result import CaseResult

_FIELDS = tuple(Cell.model_fields)


@dataclass(frozen=True)
class CountedCase:
    """What one case, by its ``id``, adds to the evidence on one backend: a cell for each kind of layer in it."""

    id: str
    backend: str
    cells: tuple[Cell, ...]

    @property
    def is_executed(self) -> bool:
        """Whether any of its layers was judged."""
        return any(cell.executed for cell in self.cells)

    def __or__(self, other: CountedCase) -> CountedCase:
        """Return the case once, with the worst that each of its kinds of layers came to, or else the best evidence."""
        found: dict[tuple[str, ...], Cell] = {}
        for cell in (*self.cells, *other.cells):
            found[cell.key] = max(found.get(cell.key, cell), cell, key=_weight)
        return CountedCase(self.id, self.backend, tuple(found[key] for key in sorted(found)))


class DistinctCases:
    """Cases by id and backend. ``repeated`` counts by backend the results of cases that were there already."""

    def __init__(self, cases: Iterable[CountedCase] = ()) -> None:
        self._found: dict[tuple[str, str], CountedCase] = {}
        self._cells: list[Cell] | None = None
        self.repeated: Counter[str] = Counter()
        self.add(cases)

    def add(self, cases: Iterable[CountedCase]) -> None:
        """Add results; of a case that is there already, the worse one counts."""
        for case in cases:
            key = (case.id, case.backend)
            if key in self._found:
                self.repeated[case.backend] += 1
                case = self._found[key] | case  # noqa: PLW2901 - both are that case
            self._found[key] = case
            self._cells = None

    @property
    def cells(self) -> list[Cell]:
        """The cells of all cases, sorted by key."""
        if self._cells is None:
            self._cells = merge_cells((cell for case in self._found.values() for cell in case.cells), ())
        return self._cells

    @property
    def executed(self) -> int:
        """How many cases were executed, on each backend anew."""
        return sum(case.is_executed for case in self._found.values())


def counted(result: CaseResult) -> CountedCase:
    """Return what ``result`` adds to the evidence."""
    return CountedCase(result.case.id, result.backend, tuple(tally([result])))


def packed(cases: Iterable[CountedCase]) -> dict[str, Any]:
    """Return ``cases`` as JSON data: fields are named once, so that a case takes about 300 bytes."""
    rows = [[case.id, case.backend, [[row[name] for name in _FIELDS] for row in _dumped(case)]] for case in cases]
    return {"fields": list(_FIELDS), "cases": rows}


def unpacked(data: dict[str, Any], source: str) -> list[CountedCase]:
    """Return the cases of what ``packed`` returned. Raises ``InvalidInputError`` for cells that are none."""
    names = data["fields"]
    return [
        CountedCase(case, backend, tuple(Cell.from_data(dict(zip(names, row, strict=True)), source) for row in rows))
        for case, backend, rows in data["cases"]
    ]


def _dumped(case: CountedCase) -> Iterable[dict[str, Any]]:
    return (cell.model_dump(mode="json") for cell in case.cells)


def _weight(cell: Cell) -> tuple[Any, ...]:
    units = -1.0 if cell.worst_units is None else cell.worst_units
    counts = (cell.broken, cell.passed, cell.executed, cell.not_run)
    return (*counts, units, cell.features, cell.histogram, sorted(cell.reasons.items()))
