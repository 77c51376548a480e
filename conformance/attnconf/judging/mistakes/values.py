"""Where values alone are read from, beside keys that are read where they lie (clause 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.poison import bits
from attnconf.clauses import Clause
from attnconf.judging.mistakes.memory import CHOSEN, in_pages, pages_of_another
from attnconf.judging.mistakes.mistake import Mistake
from attnconf.oracle.problem import Problem

if TYPE_CHECKING:
    from attnconf.judging.mistakes.mistake import Apply
    from attnconf.judging.mistakes.scene import Scene


def _values_alone(change: Apply) -> Apply:
    """Read values alone from elsewhere."""

    def apply(scene: Scene) -> Problem | None:
        wrong = change(scene)
        if not isinstance(wrong, Problem):
            return None
        return replace(wrong, k=scene.problem.k[wrong.start - scene.problem.start :])

    return apply


def _slots_away(step: int) -> Apply:
    """Read the value of another token than the key's; the first and the last one stand in for those beyond them."""

    def apply(scene: Scene) -> Problem | None:
        problem = scene.problem
        count = problem.v.shape[0]
        moved = (torch.arange(count) + step).clamp(0, count - 1).to(problem.v.device)
        return replace(problem, v=bits(problem.v)[moved].view(problem.v.dtype)) if count > 1 else None

    return apply


VALUES = (
    *(
        Mistake(
            f"values of the token {which}",
            "paging",
            Clause.PAGING,
            f"the value of the token {which} is read with each key",
            _slots_away(step),
            claimed=False,
        )
        for which, step in (("before", -1), ("behind", 1))
    ),
    *(
        Mistake(
            f"values of the {which} request",
            "paging",
            Clause.PAGING,
            f"values are read through the pages of the {which} request, and keys through their own",
            _values_alone(in_pages(pages_of_another(choose))),
            claimed=False,
        )
        for which, choose in CHOSEN.items()
    ),
    Mistake(
        "values of the next page",
        "paging",
        Clause.PAGING,
        "values are read in the page behind that of the keys",
        _values_alone(in_pages(lambda _s, right: [page + 1 for page in right])),
        claimed=False,
    ),
)
