"""Effective coverage: whether each feature of a case changes its answer by enough units to be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.mistakes import MISTAKES
from attnconf.numerics import EFFECTIVE_UNITS, Bounded, change_in_units
from attnconf.oracle import attend

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.mistakes import Scene


def mistake_units(scenes: Iterable[tuple[Scene, Bounded]]) -> dict[str, float]:
    """Return for each mistake that makes a difference in some scene how far it moves the answer, in units.

    The scenes are the requests of one layer. A mistake counts with its largest effect; once it is effective, further
    scenes are not asked.
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
                units = change_in_units(attend(question), expected)
                found[mistake.name] = max(units, found.get(mistake.name, 0.0))
    return found


def effective_features(units: dict[str, float]) -> tuple[str, ...]:
    """Return the features all of whose mistakes would show: the ones that count as covered."""
    features: dict[str, list[float]] = {}
    for mistake in MISTAKES:
        if mistake.name in units:
            features.setdefault(mistake.feature, []).append(units[mistake.name])
    return tuple(sorted(name for name, values in features.items() if min(values) >= EFFECTIVE_UNITS))
