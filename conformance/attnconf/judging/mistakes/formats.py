"""The format of stored keys and values, taken for another one (clause 18)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake

if TYPE_CHECKING:
    from attnconf.judging.mistakes.mistake import Apply
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle import Problem


def _bytes_as(stored: torch.dtype, taken: torch.dtype) -> Apply:
    """Read the bytes of one format of 8 bits as those of the other one."""

    def apply(scene: Scene) -> Problem | None:
        problem = scene.problem
        if problem.k.dtype != stored:
            return None
        return replace(problem, k=problem.k.view(taken), v=problem.v.view(taken))

    return apply


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
)
