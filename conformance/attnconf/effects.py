"""Effective coverage: whether each feature of a case changes its answer by enough units to be seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.mistakes import MISTAKES, answer_to
from attnconf.numerics import EFFECTIVE_UNITS, Bounded, change_in_units, lse_units
from attnconf.oracle import Answer, Problem
from attnconf.trial import slice_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.mistakes import Scene

CLAIMED = tuple(mistake for mistake in MISTAKES if mistake.claimed)
_ENDS = 2


def mistake_units(scenes: Iterable[tuple[Scene, Bounded]]) -> dict[str, float]:
    """Return for each claimed mistake that makes a difference in some scene how far it moves the answer, in units.

    The scenes are the requests of one layer. A mistake counts with its largest effect; once it is effective, further
    rows and scenes are not asked.
    """
    found: dict[str, float] = {}
    for scene, expected in scenes:
        if expected.answer.out.numel() == 0:
            continue
        for mistake in CLAIMED:
            if found.get(mistake.name, 0.0) >= EFFECTIVE_UNITS:
                continue
            asked = mistake.apply(scene)
            if asked is not None:
                units = _units(asked, expected)
                found[mistake.name] = max(units, found.get(mistake.name, 0.0))
    return found


def effect(asked: Problem | Answer, expected: Bounded) -> float:
    """Return how far a mistaken kernel's answer lies from the right one, in units: in its worst element.

    Where the mistake is in the answer and not in the question, the LSE counts as well.
    """
    if expected.answer.out.numel() == 0:
        return 0.0
    units = change_in_units(answer_to(asked), expected)
    return max(units, float(lse_units(asked.lse, expected).max())) if isinstance(asked, Answer) else units


def _units(asked: Problem | Answer, expected: Bounded) -> float:
    """Return the effect: of its first and last row alone, where they settle it."""
    if isinstance(asked, Problem) and asked.q.shape[0] > _ENDS:
        ends = slice(0, asked.q.shape[0], asked.q.shape[0] - 1)
        few = replace(asked, q=asked.q[ends], positions=asked.positions[ends])
        units = effect(few, slice_rows(expected, ends))
        if units >= EFFECTIVE_UNITS:
            return units
    return effect(asked, expected)


def effective_features(units: dict[str, float]) -> tuple[str, ...]:
    """Return the features all of whose mistakes would show: the ones that count as covered."""
    features: dict[str, list[float]] = {}
    for mistake in CLAIMED:
        if mistake.name in units:
            features.setdefault(mistake.feature, []).append(units[mistake.name])
    return tuple(sorted(name for name, values in features.items() if min(values) >= EFFECTIVE_UNITS))
