"""Changes: what is new, gone, worse or slower in one set of receipts, held against an older one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.cases.geometry import unsharded
from attnconf.gate.cells import merge_cells
from attnconf.judging.units import units_column
from attnconf.report.bugs import bugs_of
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from attnconf.gate.cells import Cell
    from attnconf.gate.receipt import Receipt
    from attnconf.report.bugs import Bug

Place = tuple[str, str, str, str]
"""Backend, model without its shard, layer kind, mode."""

_LEAST_WORSE = 0.05
"""Units by which a worst error must grow to be named: below that, another machine's rounding does it."""

_SAME_DTYPES = {"q_dtype": "bfloat16", "kv_dtype": "bfloat16", "out_dtype": None}
"""Cells of one place are added up, whatever their dtypes."""

_LEAST_SLOWER = 1.25
"""Ratio of seconds a layer from which a backend is named: shared runners differ by less without a reason."""


@dataclass(frozen=True)
class Changes:
    """What differs, as sentences under headings; nothing where the two say the same."""

    found: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def lines(self) -> list[str]:
        """All of it as lines of text."""
        if not self.found:
            return ["against the older receipts: nothing new, gone, worse or slower"]
        return [f"{heading}: {text}" for heading, texts in self.found for text in texts]


def changes(new: Sequence[Receipt], old: Sequence[Receipt]) -> Changes:
    """Compare ``new`` receipts with ``old`` ones, cell by cell and bug by bug."""
    now, before = _places(new), _places(old)
    found = {
        "new bug": list(_bugs(new, old)),
        "bug gone": list(_bugs(old, new)),
        "newly broken": [f"{_text(place)}: {now[place].broken} broken" for place in now if _breaks(now, before, place)],
        "mended": [
            f"{_text(place)}: none broken of {now[place].executed}" for place in now if _breaks(before, now, place)
        ],
        "gone": [
            f"{_text(place)}: {counted(cell.executed, 'layer')} judged before, none now"
            for place, cell in before.items()
            if cell.executed and not _executed(now, place)
        ],
        "new": [
            f"{_text(place)}: {counted(cell.executed, 'layer')} judged, none before"
            for place, cell in now.items()
            if cell.executed and not _executed(before, place)
        ],
        "worse": list(_worse(now, before)),
        "slower": list(_slower(new, old)),
    }
    return Changes(tuple((heading, tuple(texts)) for heading, texts in found.items() if texts))


def _places(receipts: Iterable[Receipt]) -> dict[Place, Cell]:
    """Return one cell for each place, its dtypes and shards added up."""
    found: dict[Place, list[Cell]] = {}
    for cell in merge_cells((cell for receipt in receipts for cell in receipt.cells), ()):
        place = (cell.shown_backend, unsharded(cell.model), cell.layer_kind, cell.mode)
        found.setdefault(place, []).append(cell.model_copy(update=_SAME_DTYPES))
    return {place: merge_cells(_alike(cells), ())[0] for place, cells in found.items()}


def _alike(cells: Iterable[Cell]) -> list[Cell]:
    return [cell.model_copy(update={"model": unsharded(cell.model)}) for cell in cells]


def _executed(cells: Mapping[Place, Cell], place: Place) -> int:
    return cells[place].executed if place in cells else 0


def _breaks(now: Mapping[Place, Cell], before: Mapping[Place, Cell], place: Place) -> bool:
    """Return whether ``place`` is broken in ``now`` and was judged without a fault in ``before``."""
    return place in now and now[place].broken > 0 and _executed(before, place) > 0 and not before[place].broken


def _bugs(some: Sequence[Receipt], others: Sequence[Receipt]) -> Iterator[str]:
    """Yield the bugs of ``some`` receipts whose like the ``others`` do not have."""
    known = {_likeness(one) for receipt in others for one in bugs_of(receipt.failures)}
    for bug in bugs_of(failed for receipt in some for failed in receipt.failures):
        if _likeness(bug) not in known:
            yield f"{bug.title}: {bug.where}" + (f", {bug.size}" if bug.size else "")


def _likeness(bug: Bug) -> tuple[str, tuple[int, ...], str]:
    first = bug.smallest
    return first.shown_backend, first.clauses, first.diagnosis


def _worse(now: Mapping[Place, Cell], before: Mapping[Place, Cell]) -> Iterator[str]:
    """Yield the places whose worst error grew, by how much it did; what is broken is told as that."""
    grown = []
    for place, cell in now.items():
        was = before[place].worst_units if place in before else None
        if was is not None and cell.worst_units is not None and not cell.broken:
            growth = cell.worst_units - was
            if growth >= _LEAST_WORSE and math.isfinite(was):
                text = f"{_text(place)}: {units_column(was)} units before, {units_column(cell.worst_units)} now"
                grown.append((-growth, text))
    yield from (text for _, text in sorted(grown))


def _slower(new: Iterable[Receipt], old: Iterable[Receipt]) -> Iterator[str]:
    """Yield the backends whose layers took longer, on the same machines alone: seconds a layer that was judged."""
    now, before = _pace(new), _pace(old)
    for key, pace in sorted(now.items()):
        if key in before and pace >= _LEAST_SLOWER * before[key]:
            backend, machine = key
            yield f"{backend} on {machine}: {before[key]:.3g} s a layer before, {pace:.3g} s now"


def _pace(receipts: Iterable[Receipt]) -> dict[tuple[str, str], float]:
    seconds: dict[tuple[str, str], float] = {}
    layers: dict[tuple[str, str], int] = {}
    for receipt in receipts:
        for backend, took in receipt.backend_seconds.items():
            key = (backend, receipt.platform.machine)
            seconds[key] = seconds.get(key, 0.0) + took
            layers[key] = layers.get(key, 0) + sum(cell.executed for cell in receipt.cells if cell.backend == backend)
    return {key: took / layers[key] for key, took in seconds.items() if layers[key]}


def _text(place: Place) -> str:
    return " ".join(place)
