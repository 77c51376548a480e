"""The format of stored keys and values, taken for another one, and the scales of their heads (clause 18)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.poison import bits
from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.judging.mistakes.mistake import Apply
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle.problem import Problem


def _bytes_as(stored: torch.dtype, taken: torch.dtype) -> Apply:
    """Read the bytes of one format of 8 bits as those of the other one."""

    def apply(scene: Scene) -> Problem | None:
        problem = scene.problem
        if problem.k.dtype != stored:
            return None
        return replace(problem, k=problem.k.view(taken), v=problem.v.view(taken))

    return apply


def _head_scales(change: Callable[[tuple[float, ...]], tuple[float, ...]]) -> Apply:
    """Take other scales for the KV heads than they have."""

    def apply(scene: Scene) -> Problem | None:
        problem = scene.problem
        if not problem.k_scales:
            return None
        return replace(problem, k_scales=change(problem.k_scales), v_scales=change(problem.v_scales))

    return apply


def _swapped_by_head(scene: Scene) -> Problem | None:
    problem = scene.problem
    if not problem.k_scales:
        return None
    return replace(problem, k_scales=problem.v_scales, v_scales=problem.k_scales)


@lru_cache(maxsize=64)
def _each(heads: int) -> torch.Tensor:
    """Return the map of query heads that read a KV head each. Nobody writes to it, so all problems share it."""
    return torch.arange(heads)


def _by_query_head(scene: Scene) -> Problem | None:
    """Take the scale of the KV head whose number the query head has; beyond the last one, of that."""
    problem = scene.problem
    heads = problem.q.shape[1]
    if not problem.k_scales or heads == len(problem.k_scales):
        return None
    k, v = (
        bits(stored)[:, problem.kv_head_of.to(stored.device)].view(stored.dtype) for stored in (problem.k, problem.v)
    )
    k_scales, v_scales = (
        tuple(scales[min(head, len(scales) - 1)] for head in range(heads))
        for scales in (problem.k_scales, problem.v_scales)
    )
    return replace(problem, k=k, v=v, kv_head_of=_each(heads), k_scales=k_scales, v_scales=v_scales)


FORMATS = (
    Mistake(
        "e5m2 as e4m3",
        "kv_format",
        Clause.QUANTISED,
        "bytes of float8_e5m2 are read as float8_e4m3fn",
        _bytes_as(torch.float8_e5m2, torch.float8_e4m3fn),
    ),
    Mistake(
        "e4m3 as e5m2",
        "kv_format",
        Clause.QUANTISED,
        "bytes of float8_e4m3fn are read as float8_e5m2",
        _bytes_as(torch.float8_e4m3fn, torch.float8_e5m2),
        claimed=False,
    ),
    Mistake(
        "scales of head 0",
        "head_scales",
        Clause.QUANTISED,
        "the scales of KV head 0 are taken for all heads",
        _head_scales(lambda scales: scales[:1] * len(scales)),
    ),
    Mistake(
        "scales by query head",
        "head_scales",
        Clause.QUANTISED,
        "the scales of KV heads are indexed by the query head",
        _by_query_head,
    ),
    Mistake(
        "head scales swapped",
        "head_scales",
        Clause.QUANTISED,
        "the scales of keys and of values are swapped, head by head",
        _swapped_by_head,
    ),
    Mistake(
        "head scales off",
        "head_scales",
        Clause.QUANTISED,
        "the scales of KV heads are ignored",
        _head_scales(lambda scales: (1.0,) * len(scales)),
    ),
    Mistake(
        "scales of the next head",
        "head_scales",
        Clause.QUANTISED,
        "each KV head has the scales of the one behind it",
        _head_scales(lambda scales: (*scales[1:], scales[0])),
        claimed=False,
    ),
)
