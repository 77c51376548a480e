"""Values that are narrower or wider than keys, addressed or answered as if they were as wide (clauses 3 and 14)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from attnconf.cases.inputs.poison import bits
from attnconf.cases.inputs.stored import joined_parts, parts_of
from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake
from attnconf.oracle.attention import attend
from attnconf.oracle.problem import Answer

if TYPE_CHECKING:
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle.problem import Problem


def _by_strides_of_keys(scene: Scene) -> Problem | None:
    """Read the value of token t and KV head h where it would begin if values were as wide as keys.

    The tokens follow each other, as in the pages of one that fills them; behind the last one come the first again.
    """
    problem = scene.problem
    (tokens, heads, _), key = problem.v.shape, problem.q.shape[2]
    if problem.value_dim == key or tokens * heads < 2:  # noqa: PLR2004 - the first value begins where the first key does
        return None
    moved = []
    for part, wide in zip(parts_of(problem.v), parts_of(problem.k), strict=True):
        starts = torch.arange(tokens * heads, device=part.device)[:, None] * wide.shape[2]
        places = (starts + torch.arange(part.shape[2], device=part.device)) % part.numel()
        moved.append(bits(part).flatten()[places].view(part.dtype).view(part.shape))
    return replace(problem, v=joined_parts(moved))


def _answer_by_width_of_keys(scene: Scene) -> Answer | None:
    """Write the heads of a row as far apart as keys are wide, and read them as far apart as values are."""
    problem = scene.problem
    (_, heads, key), width = problem.q.shape, problem.value_dim
    if width >= key or heads == 1:
        return None
    answer = attend(problem)
    row = pad(answer.out, (0, key - width)).flatten(1)
    return replace(answer, out=row[:, : heads * width].view(-1, heads, width))


def _scale_of_values(scene: Scene) -> Problem | None:
    problem = scene.problem
    key, width = problem.q.shape[2], problem.value_dim
    if width == key or not scene.weighs:
        return None
    return replace(problem, sm_scale=problem.sm_scale * (key / width) ** 0.5)


WIDTHS = (
    Mistake(
        "values by strides of keys",
        "head_dim_v",
        Clause.LAYOUT,
        "values are read with the strides of keys, which are wider or narrower",
        _by_strides_of_keys,
    ),
    Mistake(
        "answer as wide as keys",
        "head_dim_v",
        Clause.LAYOUT,
        "the heads of the answer lie as far apart as those of queries, which are wider",
        _answer_by_width_of_keys,
    ),
    Mistake(
        "scale of values",
        "head_dim_v",
        Clause.SCORES,
        "the width of values stands in for that of keys in sm_scale",
        _scale_of_values,
        claimed=False,
    ),
)
