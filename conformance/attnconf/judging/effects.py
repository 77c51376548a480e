"""Effective coverage: whether each feature of a case changes its answer by enough units to be seen."""

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


def mistake_units(scenes: Iterable[tuple[Scene, Bounded]]) -> dict[str, float]:
    """Return for each claimed mistake that makes a difference in some scene how far it moves the answer, in units.

    The scenes are the requests of one layer. A mistake counts with its largest effect; once it is effective, further
    rows and scenes are not asked: of a scene its first and last row come first.
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
    """Return the effects of those of ``mistakes`` that make a difference, on some rows: a GPU is waited for once."""
    effects: dict[str, torch.Tensor] = {}
    for mistake in mistakes:
        asked = mistake.apply(scene)
        if asked is not None and part is None:
            effects[mistake.name] = _moved(asked, expected)
        elif isinstance(asked, Problem) and part is not None:  # an answer is all there: no row of it costs more
            few = replace(asked, q=asked.q[part], positions=asked.positions[part])
            effects[mistake.name] = _moved(few, slice_rows(expected, part))
    return dict(zip(effects, torch.stack(list(effects.values())).tolist(), strict=True)) if effects else {}


def effect(asked: Problem | Answer, expected: Bounded) -> float:
    """Return how far a mistaken kernel's answer lies from the right one, in units: in its worst element.

    Where the mistake is in the answer and not in the question, the LSE counts as well.
    """
    return float(_moved(asked, expected)) if expected.answer.out.numel() else 0.0


def _moved(asked: Problem | Answer, expected: Bounded) -> torch.Tensor:
    units = change_in_units(answer_to(asked), expected)
    return torch.maximum(units, lse_units(asked.lse, expected).max()) if isinstance(asked, Answer) else units


def effective_features(units: dict[str, float]) -> tuple[str, ...]:
    """Return the features all of whose mistakes would show: the ones that count as covered."""
    features: dict[str, list[float]] = {}
    for mistake in CLAIMED:
        if mistake.name in units:
            features.setdefault(mistake.feature, []).append(units[mistake.name])
    return tuple(sorted(name for name, values in features.items() if min(values) >= EFFECTIVE_UNITS))
