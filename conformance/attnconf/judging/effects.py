"""Effective coverage: whether each feature of a case changes its answer by enough units to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.witnesses import probed_rows
from attnconf.judging.mistakes import MISTAKES, answers_to
from attnconf.judging.some_rows import ALL, Part, last_heads
from attnconf.numerics import EFFECTIVE_UNITS, Bounded, changes_in_units, lse_units
from attnconf.oracle import Answer, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.case import Case
    from attnconf.judging.mistakes import Scene

CLAIMED = tuple(mistake for mistake in MISTAKES if mistake.claimed)

MOST_SCENES = 8
"""Requests of a layer in which mistakes are looked for. A large batch repeats itself; effects are lower limits."""

MOST_BYTES = 2**29
"""Bytes of mistaken keys and values, or answers, that are made at once, if they are more than those of one mistake."""

_ENDS = 2
"""Rows that are tried first in a scene: the first and the last."""


def mistake_units(scenes: Iterable[tuple[Scene, Bounded]]) -> dict[str, float]:
    """Return by how many units each claimed mistake moves the answer, for the mistakes that make a difference.

    The scenes are requests of one layer. A mistake counts with its largest effect. The first and the last row of a
    scene are tried first, on the heads of its last KV heads, where 19 of 20 mistakes show; then all heads of the rows
    that have probes. Once a mistake is effective, it is not tried on others.
    """
    found: dict[str, float] = {}
    for scene, expected in scenes:
        rows = expected.answer.out.shape[0]
        if rows == 0:
            continue
        ends = [0, rows - 1] if rows > _ENDS else list(range(rows))
        probed = sorted({*probed_rows(scene.case, scene.layer, scene.request), *ends})
        waiting = [mistake for mistake in CLAIMED if found.get(mistake.name, 0.0) < EFFECTIVE_UNITS]
        last = last_heads(scene.problem)
        parts = [Part(tuple(ends), last), Part(tuple(probed), ALL)]
        each = max(1, scene.problem.k.nbytes + scene.problem.v.nbytes)
        at_once = max(1, MOST_BYTES // each)
        for start in range(0, len(waiting), at_once):
            several = waiting[start : start + at_once]
            made = {mistake.name: mistaken for mistake in several if (mistaken := mistake.apply(scene)) is not None}
            for part in parts if last.query or probed != ends else parts[1:]:
                for name, units in _units(made, scene.problem, expected, part).items():
                    found[name] = max(units, found.get(name, 0.0))
                    if found[name] >= EFFECTIVE_UNITS:
                        del made[name]
    return found


def scenes_to_try(case: Case) -> list[int]:
    """Return the requests of ``case`` in which mistakes are looked for, small ones first, at most ``MOST_SCENES``.

    Small ones first: a mistake that shows in one of them is not tried on the others.
    """

    def size(request: int) -> tuple[int, int]:
        one = case.requests[request]
        return one.kv_len * one.new_tokens, request

    order = sorted(range(len(case.requests)), key=size)
    if len(order) <= MOST_SCENES:
        return order
    kinds: dict[tuple[object, ...], int] = {}
    for index in order:
        one = case.requests[index]
        tail = one.kv_len % case.paging.page_size > 0
        kinds.setdefault((one.shared_pages > 0, tail, one.new_tokens > 1, one.prefix_len > 0), index)
    spread = [order[step * (len(order) - 1) // (MOST_SCENES - 1)] for step in range(MOST_SCENES)]
    return sorted(list(dict.fromkeys([*kinds.values(), *reversed(spread)]))[:MOST_SCENES], key=size)


def _units(mistaken: dict[str, Problem | Answer], right: Problem, expected: Bounded, part: Part) -> dict[str, float]:
    """Return the effect of each mistake on a part of the answer to the ``right`` question; waits once for a GPU."""
    if not mistaken:
        return {}
    answers = [answer.out for answer in answers_to(part.of_mistakes(list(mistaken.values()), right))]
    within = part.of_bounded(expected)
    at_once = max(1, MOST_BYTES // max(1, answers[0].nbytes))
    effects = [
        changes_in_units(torch.stack(answers[start : start + at_once]), within)
        for start in range(0, len(answers), at_once)
    ]
    return dict(zip(mistaken, torch.cat(effects).tolist(), strict=True))


def effect(mistaken: Problem | Answer, expected: Bounded) -> float:
    """Return the largest error of a mistaken kernel's answer, in units.

    The LSE counts, too, where the mistake is in the answer and not in the question.
    """
    if not expected.answer.out.numel():
        return 0.0
    (answer,) = answers_to([mistaken])
    units = changes_in_units(answer.out[None], expected)[0]
    if isinstance(mistaken, Answer):
        units = torch.maximum(units, lse_units(answer.lse, expected).max())
    return float(units)


def effective_features(units: dict[str, float]) -> tuple[str, ...]:
    """Return the covered features: those whose mistakes would all show."""
    features: dict[str, list[float]] = {}
    for mistake in CLAIMED:
        if mistake.name in units:
            features.setdefault(mistake.feature, []).append(units[mistake.name])
    return tuple(sorted(name for name, values in features.items() if min(values) >= EFFECTIVE_UNITS))
