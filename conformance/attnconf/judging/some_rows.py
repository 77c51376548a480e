"""Some rows and heads of problems and answers: most mistakes show in few of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from attnconf.numerics import Bounded
from attnconf.oracle import Answer, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

_FEW_HEADS = 2
"""Query heads of a part, at least: of two neighbours each has a probe at another end of what the last row sees."""


class Heads(NamedTuple):
    """The heads from ``query`` on, which read the KV heads from ``kv`` on."""

    query: int
    kv: int


ALL = Heads(0, 0)


def last_heads(problem: Problem) -> Heads:
    """Return the last heads of a right ``problem``: those of as few KV heads as serve ``_FEW_HEADS`` query heads.

    The last ones and not the first ones, since to most that confuse heads the first ones are right.
    """
    kv_heads = problem.k.shape[1]
    group = problem.q.shape[1] // kv_heads
    first = max(0, kv_heads - -(-_FEW_HEADS // group))
    return Heads(first * group, first)


@dataclass(frozen=True)
class Part:
    """Some query ``rows`` and the last ``heads`` of an answer."""

    rows: tuple[int, ...]
    heads: Heads

    @cached_property
    def _rows(self) -> torch.Tensor:
        return torch.tensor(self.rows)

    def of_mistakes(self, mistaken: Sequence[Problem | Answer], right: Problem) -> list[Problem | Answer]:
        """Return this part of mistaken questions and answers to the ``right`` question."""
        cut: dict[int, torch.Tensor] = {}  # few mistakes change queries or positions, so these are cut once
        return [
            self._of_problem(one, right, cut) if isinstance(one, Problem) else self.of_answer(one) for one in mistaken
        ]

    def _of_problem(self, problem: Problem, right: Problem, cut: dict[int, torch.Tensor]) -> Problem:
        query, position = problem.q.data_ptr(), problem.positions.data_ptr()
        if query not in cut:
            cut[query] = self._cut(problem.q)
        if position not in cut:
            cut[position] = problem.positions[self._rows]
        part = problem.of_rows(self.rows, cut[query], cut[position])
        if self.heads == ALL:
            return part
        mapping, sinks = problem.kv_head_of, problem.sinks
        first = self.heads.kv if mapping is right.kv_head_of else 0  # another map reads any KV head
        return replace(
            part,
            k=problem.k[:, first:],
            v=problem.v[:, first:],
            k_scales=problem.k_scales[first:],
            v_scales=problem.v_scales[first:],
            kv_head_of=_from(mapping, self.heads.query, first),
            sinks=None if sinks is None else sinks[self.heads.query :],
        )

    def of_answer(self, answer: Answer) -> Answer:
        """Return this part of ``answer``."""
        return Answer(self._cut(answer.out), self._cut(answer.lse))

    def of_bounded(self, bounded: Bounded) -> Bounded:
        """Return this part of a bounded answer."""
        return Bounded(self.of_answer(bounded.answer), self._cut(bounded.out_bound), self._cut(bounded.lse_bound))

    def _cut(self, whole: torch.Tensor) -> torch.Tensor:
        return whole[self._rows.to(whole.device, non_blocking=True)][:, self.heads.query :]


@lru_cache(maxsize=256)
def _from(kv_head_of: torch.Tensor, query: int, kv: int) -> torch.Tensor:
    """Return the KV heads, counted from ``kv`` on, of the query heads from ``query`` on. Problems share the tensor."""
    return kv_head_of[query:] - kv
