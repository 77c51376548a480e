"""Some rows and heads of problems and answers: most mistakes show in few of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch

from attnconf.bounded import Bounded
from attnconf.oracle.problem import Answer, Problem

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
    def _rows(self) -> slice | torch.Tensor:
        """The rows as a slice where they are at one distance, else their indices."""
        step = self.rows[1] - self.rows[0] if len(self.rows) > 1 else 1
        regular = tuple(range(self.rows[0], self.rows[-1] + 1, step)) == self.rows if step > 0 else False
        return slice(self.rows[0], self.rows[-1] + 1, step) if regular else torch.tensor(self.rows)

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
        read: slice | list[int] = slice(self.heads.kv, None)
        kv_head_of = _from(mapping, self.heads.query, self.heads.kv)
        if mapping is not right.kv_head_of:  # another map reads any KV head
            read, kv_head_of = _read(mapping, self.heads.query)
        return replace(
            part,
            k=problem.k[:, read],
            v=problem.v[:, read],
            k_scales=_of_heads(problem.k_scales, read),
            v_scales=_of_heads(problem.v_scales, read),
            kv_head_of=kv_head_of,
            sinks=None if sinks is None else sinks[self.heads.query :],
        )

    def of_answer(self, answer: Answer) -> Answer:
        """Return this part of ``answer``."""
        return Answer(self._cut(answer.out), self._cut(answer.lse))

    def of_bounded(self, bounded: Bounded) -> Bounded:
        """Return this part of a bounded answer."""
        return Bounded(self.of_answer(bounded.answer), self._cut(bounded.out_bound), self._cut(bounded.lse_bound))

    def _cut(self, whole: torch.Tensor) -> torch.Tensor:
        rows = self._rows if isinstance(self._rows, slice) else self._rows.to(whole.device, non_blocking=True)
        return whole[rows][:, self.heads.query :]


@lru_cache(maxsize=256)
def _from(kv_head_of: torch.Tensor, query: int, kv: int) -> torch.Tensor:
    """Return the KV heads, counted from ``kv`` on, of the query heads from ``query`` on. Problems share the tensor."""
    return kv_head_of[query:] - kv


@lru_cache(maxsize=256)
def _read(kv_head_of: torch.Tensor, query: int) -> tuple[slice | list[int], torch.Tensor]:
    """Return the KV heads that the query heads from ``query`` on read, and which of these each one does.

    Where as many query heads in a row read each, these KV heads alone: such problems are like those of the right map.
    """
    sources: list[int] = kv_head_of[query:].tolist()
    heads = list(dict.fromkeys(sources))
    group = len(sources) // len(heads)
    if sources != [head for head in heads for _ in range(group)]:
        return slice(0, None), kv_head_of[query:]
    following = heads == list(range(heads[0], heads[0] + len(heads)))
    return slice(heads[0], heads[-1] + 1) if following else heads, torch.arange(len(sources)) // group


def _of_heads(scales: tuple[float, ...], heads: slice | list[int]) -> tuple[float, ...]:
    if isinstance(heads, slice) or not scales:
        return scales[heads] if isinstance(heads, slice) else ()
    return tuple(scales[head] for head in heads)
