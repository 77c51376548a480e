"""Effective coverage: whether each feature of a case changes its answer by enough units to be seen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.mistakes import MISTAKES
from attnconf.numerics import EFFECTIVE_UNITS, Bounded, change_in_units
from attnconf.oracle import attend
from attnconf.trial import slice_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.mistakes import Scene
    from attnconf.oracle import Problem

_ENDS = 2


def mistake_units(scenes: Iterable[tuple[Scene, Bounded]]) -> dict[str, float]:
    """Return for each mistake that makes a difference in some scene how far it moves the answer, in units.

    The scenes are the requests of one layer. A mistake counts with its largest effect; once it is effective, further
    rows and scenes are not asked.
    """
    found: dict[str, float] = {}
    for scene, expected in scenes:
        if expected.answer.out.numel() == 0:
            continue
        for mistake in MISTAKES:
            if found.get(mistake.name, 0.0) >= EFFECTIVE_UNITS:
                continue
            question = mistake.apply(scene)
            if question is not None:
                units = _units(question, expected)
                found[mistake.name] = max(units, found.get(mistake.name, 0.0))
    return found


def _units(question: Problem, expected: Bounded) -> float:
    """Return how far ``question`` moves the answer: its first and last row alone, where they settle it."""
    rows = question.q.shape[0]
    if rows > _ENDS:
        ends = slice(0, rows, rows - 1)
        few = replace(question, q=question.q[ends], positions=question.positions[ends])
        units = change_in_units(attend(few), slice_rows(expected, ends))
        if units >= EFFECTIVE_UNITS:
            return units
    return change_in_units(attend(question), expected)


def effective_features(units: dict[str, float]) -> tuple[str, ...]:
    """Return the features all of whose mistakes would show: the ones that count as covered."""
    features: dict[str, list[float]] = {}
    for mistake in MISTAKES:
        if mistake.name in units:
            features.setdefault(mistake.feature, []).append(units[mistake.name])
    return tuple(sorted(name for name, values in features.items() if min(values) >= EFFECTIVE_UNITS))
