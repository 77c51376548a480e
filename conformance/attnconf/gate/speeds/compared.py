"""Compared: one speed receipt held against an older one, backend by backend and question by question.

Times of two runs share no block, so their difference has no interval of its own. What is named must be larger than both
runs' intervals and than what clocks and leases do on their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from attnconf.gate.speeds.cell import SpeedCell
    from attnconf.gate.speeds.speed_receipt import SpeedReceipt

_LEAST = 0.02
"""How far intervals must lie apart, as a part of the ratio, for a change to be named."""

_LEAST_TIME = 0.10
"""How much longer a launch must take on the same device: two machines of one kind differ by less."""


def speed_changes(new: Iterable[SpeedReceipt], old: Iterable[SpeedReceipt]) -> dict[str, list[str]]:
    """Return under headings what is slower, faster, new and gone in ``new`` receipts; on the same devices alone."""
    now, before = _places(new), _places(old)
    both = [(place, now[place], before[place]) for place in now if place in before]
    found = {
        "slower": [*_ratios(both, worse=True), *_times(both)],
        "faster": list(_ratios(both, worse=False)),
        "newly timed": [f"{cell.versus}, {cell.text}" for place, cell in now.items() if place not in before],
        "no longer timed": [f"{cell.versus}, {cell.text}" for place, cell in before.items() if place not in now],
    }
    return {heading: texts for heading, texts in found.items() if texts}


_Place = tuple[str, ...]


def _places(receipts: Iterable[SpeedReceipt]) -> dict[_Place, SpeedCell]:
    return {(one.platform.machine, *cell.place): cell for one in receipts for cell in one.cells}


def _ratios(both: list[tuple[_Place, SpeedCell, SpeedCell]], *, worse: bool) -> Iterator[str]:
    """Yield where the candidate lost or gained against the baseline."""
    for _, cell, was in both:
        found, earlier = cell.estimate(), was.estimate()
        if found is None or earlier is None or found.lack or earlier.lack:
            continue
        apart = found.high < earlier.low * (1 - _LEAST) if worse else found.low > earlier.high * (1 + _LEAST)
        if apart:
            yield f"{cell.versus}, {cell.text}: ratio {earlier.ratio:.3f} before, {found.ratio:.3f} now"


def _times(both: list[tuple[_Place, SpeedCell, SpeedCell]]) -> Iterator[str]:
    """Yield which backend takes longer than it did, each once a question: a ratio hides it where both do."""
    seen = set()
    for _, cell, was in both:
        for letter, side in (("A", cell.candidate), ("B", cell.baseline)):
            now, before = cell.micros(letter), was.micros(letter)  # type: ignore[arg-type]
            if now is None or before is None or (side.shown, cell.text) in seen:
                continue
            seen.add((side.shown, cell.text))
            if now > before * (1 + _LEAST_TIME):
                yield f"{side.shown}, {cell.text}: {before:.1f} us a launch before, {now:.1f} us now"
