"""Invariants: what no run can have written. A receipt that breaks one contradicts itself, whoever sealed it.

A digest notices an edit, and not a forger who seals again; these sentences say what he would have to keep right, too.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from attnconf.errors import InvalidInputError
from attnconf.escape import terminal
from attnconf.gate.cells import Cell
from attnconf.gate.receipt import Receipt
from attnconf.judging.units import EDGES, unit_bin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SKEW = dt.timedelta(minutes=10)
"""How far the clock of the machine that ran may be ahead of the one that reads."""

T = TypeVar("T", Receipt, Cell)


@dataclass(frozen=True)
class Invariant(Generic[T]):
    """What holds for every receipt, or every cell, that a run wrote.

    ``sentence`` says of ``it``, the receipt or the cell, what is wrong where it does not hold.
    """

    name: str
    holds: Callable[[T], bool]
    sentence: str


def read_proof(path: Path) -> Receipt:
    """Read a receipt whose run has finished, and that does not contradict itself; else raise ``InvalidInputError``."""
    receipt = Receipt.read(path)
    wrong = [*contradictions(receipt), *cell_contradictions(receipt)]
    if receipt.state == "begun":
        raise InvalidInputError(str(path), given=receipt.ending)
    if wrong:
        raise InvalidInputError(str(path), given=f"contradicts itself: {terminal(wrong[0])}")
    return receipt


def contradictions(receipt: Receipt) -> Iterator[str]:
    """Yield in what ``receipt`` contradicts itself, or the clock, its cells apart."""
    return (one.sentence.format(it=receipt) for one in OF_RECEIPTS if not one.holds(receipt))


def cell_contradictions(receipt: Receipt) -> Iterator[str]:
    """Yield for each cell of ``receipt`` that contradicts itself in what, once."""
    for cell in receipt.cells:
        broken = next((one for one in OF_CELLS if not one.holds(cell)), None)
        if broken is not None:
            where = f"{cell.shown_backend} {cell.model} {cell.layer_kind} {cell.mode}"
            yield f"{where} {broken.sentence.format(it=cell, within=_within(cell))}"


def _executed(receipt: Receipt) -> int:
    return sum(cell.executed for cell in receipt.cells)


def _broken(receipt: Receipt) -> int:
    return sum(cell.broken for cell in receipt.cells)


def _end(receipt: Receipt) -> dt.datetime | None:
    """Return when the run had ended, or None for what is no time."""
    try:
        return dt.datetime.fromisoformat(receipt.started) + dt.timedelta(seconds=receipt.seconds)
    except (ValueError, OverflowError):
        return None


def _has_passed(receipt: Receipt) -> bool:
    end = _end(receipt)
    return end is None or end <= dt.datetime.now(dt.UTC) + SKEW


def _within(cell: Cell) -> int:
    return sum(cell.histogram[: len(EDGES)])


def _worst_bin_is_filled(cell: Cell) -> bool:
    """Whether the largest error stands in the highest bin that counts; a layer that crashed later is in none."""
    highest = max((index for index, count in enumerate(cell.histogram) if count), default=None)
    if cell.worst_units is None or highest is None:
        return highest is None
    worst = unit_bin(cell.worst_units)
    return highest <= worst if cell.refused or cell.crashed or cell.oom else highest == worst


OF_RECEIPTS: tuple[Invariant[Receipt], ...] = (
    Invariant(
        "it ran at a time",
        lambda it: _end(it) is not None,
        "started at {it.started} and took {it.seconds:g} s: there is no such time",
    ),
    Invariant(
        "it ran in the past",
        _has_passed,
        "started at {it.started} and took {it.seconds:g} s: that time has not come",
    ),
    Invariant(
        "green is unbroken",
        lambda it: it.exit_status != 0 or not _broken(it),
        "ended with exit status 0, but layers in it are broken",
    ),
    Invariant(
        "green has no failures",
        lambda it: it.exit_status != 0 or not it.failures,
        "ended with exit status 0, but cases in it failed",
    ),
    Invariant(
        "green breaks no clause of serving",
        lambda it: it.exit_status != 0 or not any(one.broken for one in it.played),
        "ended with exit status 0, but its machine of serving found a clause broken",
    ),
    Invariant(
        "green has no complaints",
        lambda it: it.exit_status != 0 or not it.complaints,
        "ended with exit status 0, but complains: {it.complaints[0]}",
    ),
    Invariant(
        "begun has no end",
        lambda it: it.state != "begun" or it.exit_status is None,
        "has not finished, but ended with exit status {it.exit_status}",
    ),
    Invariant(
        "begun has no evidence",
        lambda it: it.state != "begun" or not (it.cells or it.failures),
        "has not finished, but has evidence",
    ),
    Invariant(
        "a cell is counted once",
        lambda it: len({cell.key for cell in it.cells}) == len(it.cells),
        "counts the layers of one cell in two places",
    ),
    Invariant(
        "running takes time",
        lambda it: it.seconds > 0 or it.platform.simulated or not _executed(it),
        "executed layers in 0 seconds",
    ),
    Invariant(
        "layers are of cases",
        lambda it: it.cases is None or (bool(it.cases) == bool(_executed(it)) and it.cases <= _executed(it)),
        "executed {it.cases} cases, which its layers cannot be of",
    ),
    Invariant(
        "a sealed receipt has histograms",
        lambda it: it.digest is None or all(cell.histogram or not cell.executed for cell in it.cells),
        "executed layers, but a histogram of their errors is empty",
    ),
)

OF_CELLS: tuple[Invariant[Cell], ...] = (
    Invariant(
        "a judged layer has an error",
        lambda it: not it.passed or it.worst_units is not None,
        "claims {it.passed} passed layers, but no number of theirs was judged",
    ),
    Invariant(
        "an error above the bound failed",
        lambda it: not it.passed or it.worst_units is None or it.worst_units <= 1 or it.broken + it.contract_only > 0,
        "claims {it.passed} passed layers and none failed, but an error of {it.worst_units:g} times the bound",
    ),
    Invariant(
        "a passed layer is within the bound",
        lambda it: not it.histogram or _within(it) >= it.passed,
        "claims {it.passed} passed layers, but its histogram has {within} within the bound",
    ),
    Invariant(
        "a histogram counts each judged layer",
        lambda it: not it.histogram or sum(it.histogram) == it.executed,
        "judged {it.executed} layers, but its histogram counts others",
    ),
    Invariant(
        "the worst error stands in the histogram",
        lambda it: not it.histogram or _worst_bin_is_filled(it),
        "has {it.worst_units} as its worst error in units, but its histogram has another one",
    ),
)
