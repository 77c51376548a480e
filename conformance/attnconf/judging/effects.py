"""Effective coverage: whether each feature of a case changes its answer by enough units to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.witnesses import probed_rows
from attnconf.judging.mistakes import MISTAKES, answers_to
from attnconf.numerics import EFFECTIVE_UNITS, Bounded, change_in_units, lse_units, rows_of
from attnconf.oracle import Answer, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.case import Case
    from attnconf.judging.mistakes import Scene

CLAIMED = tuple(mistake for mistake in MISTAKES if mistake.claimed)

MOST_SCENES = 8
"""Requests of a layer in which mistakes are looked for. A large batch repeats itself; effects are lower limits."""

MOST_BYTES = 2**29
"""Bytes of mistaken keys and values that are made at once, if they are more than those of one mistake."""

_ENDS = 2
"""Rows that are tried first in a scene: the first and the last."""


def mistake_units(scenes: Iterable[tuple[Scene, Bounded]]) -> dict[str, float]:
    """Return by how many units each claimed mistake moves the answer, for the mistakes that make a difference.

    The scenes are requests of one layer. A mistake counts with its largest effect. The first and the last row of a
    scene are tried first, then those that have probes; once a mistake is effective, it is not tried on other rows and
    scenes.
    """
    found: dict[str, float] = {}
    for scene, expected in scenes:
        rows = expected.answer.out.shape[0]
        if rows == 0:
            continue
        ends = [0, rows - 1] if rows > _ENDS else list(range(rows))
        probed = sorted({*probed_rows(scene.case, scene.layer, scene.request), *ends})
        waiting = [mistake for mistake in CLAIMED if found.get(mistake.name, 0.0) < EFFECTIVE_UNITS]
        each = max(1, scene.problem.k.nbytes + scene.problem.v.nbytes)
        at_once = max(1, MOST_BYTES // each)
        for start in range(0, len(waiting), at_once):
            several = waiting[start : start + at_once]
            made = {mistake.name: mistaken for mistake in several if (mistaken := mistake.apply(scene)) is not None}
            for part in (ends, probed) if probed != ends else (ends,):
                for name, units in _units(made, expected, torch.tensor(part)).items():
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


def _units(mistaken: dict[str, Problem | Answer], expected: Bounded, rows: torch.Tensor) -> dict[str, float]:
    """Return the effect of each mistake on some ``rows``; waits once for a GPU."""
    if not mistaken:
        return {}
    q: dict[int, torch.Tensor] = {}  # few mistakes change the queries, so these are cut, and multiplied, once
    few = [
        _problem_rows(one, rows, q) if isinstance(one, Problem) else _answer_rows(one, rows)
        for one in mistaken.values()
    ]
    within = rows_of(expected, rows.to(expected.out_bound.device, non_blocking=True))
    effects = torch.stack([change_in_units(answer, within) for answer in answers_to(few)])
    return dict(zip(mistaken, effects.tolist(), strict=True))


def _problem_rows(problem: Problem, rows: torch.Tensor, cut: dict[int, torch.Tensor]) -> Problem:
    """Return ``problem`` with some of its query ``rows``; ``cut`` keeps what was cut by the address of its queries."""
    key = problem.q.data_ptr()
    if key not in cut:
        cut[key] = problem.q[rows.to(problem.q.device, non_blocking=True)]
    return problem.of_rows(rows, cut[key])


def _answer_rows(answer: Answer, rows: torch.Tensor) -> Answer:
    own = rows.to(answer.out.device, non_blocking=True)
    return Answer(answer.out[own], answer.lse[own])


def effect(mistaken: Problem | Answer, expected: Bounded) -> float:
    """Return the largest error of a mistaken kernel's answer, in units.

    The LSE counts, too, where the mistake is in the answer and not in the question.
    """
    if not expected.answer.out.numel():
        return 0.0
    (answer,) = answers_to([mistaken])
    units = change_in_units(answer, expected)
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
