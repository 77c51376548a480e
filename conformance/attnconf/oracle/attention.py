"""The formula, in float64, on blocks of problems.

For query row i at position ``positions[i]`` and query head h, over keys j of KV head ``kv_head_of[h]``::

    x_j = sm_scale * sum_c q[i,h,c] k[j,c]      q, k and v: stored numbers times their scales, and those of their heads
    s_j = x_j                             without a soft cap
        = cap * tanh(x_j / cap)           with one (Gemma 2, arXiv 2408.00118, section 2)
    visible: (j <= position  or  j and position in one span  or  not causal)
             and  (window_left < 0  or  j >= position - window_left)
             and  (causal  or  window_right < 0  or  j <= position + window_right)
             and  (no chunk_size  or  j // chunk_size >= position // chunk_size)   (Llama 4)
             of the drafts of a tree: j is i or one of its parents, in the place of j <= position; they stand at
             the position of their depth
    L   = sum over visible j of exp(s_j)  (+ exp(sink_h): gpt-oss, denominator only)
    out = sum over visible j of exp(s_j) v_j / L,     lse = log L
    stored: out / out_scale

A row that sees no key and has no sink yields zeros and lse -inf.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnconf.oracle.blocks import Block, stacked
from attnconf.oracle.parts import parts_of
from attnconf.oracle.problem import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnconf.oracle.problem import Problem

_LOWEST_TOTAL = -1e300
"""Stands in for a log-sum-exp of minus infinity, so that a row over no key gets probabilities of 0 and not NaN."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Scores s and probabilities ``p`` of a block, [parts, query heads, rows, keys]; invisible keys have -inf and 0.

    ``sink_mass`` [parts, query heads, rows] is the sink's probability.
    """

    scores: torch.Tensor
    p: torch.Tensor
    sink_mass: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Solved:
    """An answered block: ``out`` [parts, query heads, rows, Dv] and ``lse`` [parts, query heads, rows]."""

    block: Block
    out: torch.Tensor
    lse: torch.Tensor
    _scores: torch.Tensor
    _p: torch.Tensor

    @property
    def weights(self) -> Weights:
        """The weights of all keys. Read them while the block is the newest: blocks exist to bound memory."""
        mass = torch.zeros_like(self.lse) if self.block.sinks is None else 1.0 - self._p.sum(dim=3).clamp(max=1.0)
        return Weights(scores=self._scores, p=self._p, sink_mass=mass)


def solve(problems: Sequence[Problem]) -> Iterator[Solved]:
    """Evaluate the formulas above, block by block; ``Block.put`` collects what is found for the rows."""
    for parts in parts_of(problems):
        block = stacked(parts)
        scores = block.score_scale * block.products(block.q, block.k)
        if block.soft_cap is not None:
            scores = block.soft_cap * torch.tanh(scores / block.soft_cap)
        masked = scores.masked_fill(~block.visible, -math.inf)
        logits = masked if block.sinks is None else torch.cat([block.sinks[..., None], masked], dim=3)
        lse = torch.logsumexp(logits, dim=3) if logits.shape[3] else logits.new_full(logits.shape[:3], -math.inf)
        p = torch.exp(masked - lse.clamp_min(_LOWEST_TOTAL)[..., None])
        yield Solved(block=block, out=block.sums(p, block.v), lse=lse, _scores=masked, _p=p)


def attend(problem: Problem) -> Answer:
    """Return the answer to one problem."""
    return attend_all([problem])


def attend_all(problems: Sequence[Problem]) -> Answer:
    """Return the answers to ``problems``, which agree in heads, widths and device, one behind the other."""
    rows = sum(one.q.shape[0] for one in problems)
    heads, dim = problems[0].q.shape[1], problems[0].value_dim
    out = torch.zeros((rows, heads, dim), dtype=torch.float64, device=problems[0].q.device)
    lse = torch.full((rows, heads), -math.inf, dtype=torch.float64, device=out.device)
    for solved in solve(problems):
        solved.block.put(out, solved.out)
        solved.block.put(lse, solved.lse)
    return Answer(out, lse)
