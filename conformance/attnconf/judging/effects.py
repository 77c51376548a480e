"""Effective coverage: whether each feature of a case changes its answer by enough units to show."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.judging.mistakes import MISTAKES, answer_to
from attnconf.judging.trial import slice_rows
from attnconf.numerics import EFFECTIVE_UNITS, Bounded, change_in_units, lse_units
from attnconf.oracle import Answer, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.judging.mistakes import Mistake, Scene

CLAIMED = tuple(mistake for mistake in MISTAKES if mistake.claimed)
_ENDS = 2
"""Rows that are tried first in a scene: the first and the last."""


def mistake_units(scenes: Iterable[tuple[Scene, Bounded]]) -> dict[str, float]:
    """Return by how many units each claimed mistake moves the answer, for the mistakes that make a difference.

    The scenes are the requests of one layer. A mistake counts with its largest effect. The first and the last row of a
    scene are tried first; once a mistake is effective, it is not tried on other rows and scenes.
    """
    found: dict[str, float] = {}
    for scene, expected in scenes:
        rows = expected.answer.out.shape[0]
        if rows == 0:
            continue
        passes = (slice(0, rows, rows - 1), None) if rows > _ENDS else (None,)
        for part in passes:
            waiting = [mistake for mistake in CLAIMED if found.get(mistake.name, 0.0) < EFFECTIVE_UNITS]
            for name, units in _units(waiting, scene, expected, part).items():
                found[name] = max(units, found.get(name, 0.0))
    return found


def _units(mistakes: Iterable[Mistake], scene: Scene, expected: Bounded, part: slice | None) -> dict[str, float]:
    """Return the effects of the ``mistakes`` that make a difference, on some rows; waits once for a GPU."""
    effects: dict[str, torch.Tensor] = {}
    for mistake in mistakes:
        mistaken = mistake.apply(scene)
        if mistaken is not None and part is None:
            effects[mistake.name] = _moved(mistaken, expected)
        elif isinstance(mistaken, Problem) and part is not None:  # an answer has all rows already
            few = replace(mistaken, q=mistaken.q[part], positions=mistaken.positions[part])
            effects[mistake.name] = _moved(few, slice_rows(expected, part))
    return dict(zip(effects, torch.stack(list(effects.values())).tolist(), strict=True)) if effects else {}


def effect(mistaken: Problem | Answer, expected: Bounded) -> float:
    """Return the largest error of a mistaken kernel's answer, in units.

    The LSE counts, too, where the mistake is in the answer and not in the question.
    """
    return float(_moved(mistaken, expected)) if expected.answer.out.numel() else 0.0


def _moved(mistaken: Problem | Answer, expected: Bounded) -> torch.Tensor:
    units = change_in_units(answer_to(mistaken), expected)
    if not isinstance(mistaken, Answer):
        return units
    return torch.maximum(units, lse_units(mistaken.lse, expected).max())


def effective_features(units: dict[str, float]) -> tuple[str, ...]:
    """Return the covered features: those whose mistakes would all show."""
    features: dict[str, list[float]] = {}
    for mistake in CLAIMED:
        if mistake.name in units:
            features.setdefault(mistake.feature, []).append(units[mistake.name])
    return tuple(sorted(name for name, values in features.items() if min(values) >= EFFECTIVE_UNITS))
