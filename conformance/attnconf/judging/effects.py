"""Effective coverage: whether each feature of a case changes its answer by enough units to show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnconf.bounded import Bounded, changes_by_row, lse_units
from attnconf.judging.mistakes import answers_to
from attnconf.judging.search import CLAIMED, Search, measure
from attnconf.judging.sizes import MOST_BYTES
from attnconf.oracle.problem import Answer, Problem
from attnconf.precision import EFFECTIVE_UNITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnconf.cases.case import Case
    from attnconf.judging.mistakes import Scene

MOST_SCENES = 8
"""Requests of a layer in which mistakes are looked for. A large batch repeats itself; effects are lower limits."""


def mistake_units(scenes: Iterable[tuple[Scene, Bounded]]) -> dict[str, float]:
    """Return by how many units each claimed mistake moves the answer, for the mistakes that make a difference.

    The scenes are requests of one layer. A mistake counts with its largest effect. The first and the last row of a
    scene are tried first, on the heads of its last KV heads, where 19 of 20 mistakes show; then all heads of the rows
    that have probes. Once a mistake is effective, it is not tried on others.
    """
    return units_by_layer([scenes])[0]


def units_by_layer(layers: Sequence[Iterable[tuple[Scene, Bounded]]]) -> list[dict[str, float]]:
    """Return the ``mistake_units`` of each layer of a case. What is small is worked out for all layers at once."""
    searches = [Search(scenes, MOST_BYTES // len(layers)) for scenes in layers]
    small = [one.tries() for one in searches if one.is_small]
    while small:
        tries = [next(one, None) for one in small]
        small = [one for one, some in zip(small, tries, strict=True) if some is not None]
        measure([one for some in tries if some is not None for one in some])
    for search in searches:
        for some in () if search.is_small else search.tries():
            measure(some)
    return [search.found for search in searches]


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


def effect(mistaken: Problem | Answer, expected: Bounded) -> float:
    """Return the largest error of a mistaken kernel's answer, in units.

    The LSE counts, too, where the mistake is in the answer and not in the question.
    """
    if not expected.answer.out.numel():
        return 0.0
    (answer,) = answers_to([mistaken])
    units = changes_by_row(answer.out, expected.answer.out, expected.out_bound).max()
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
