"""The oracle: float64 attention from logical keys and values. It never sees a page and imports nothing that it judges.

For query row i at position ``positions[i]`` and query head h, over keys j of KV head ``kv_head_of[h]``::

    x_j = sm_scale * sum_c q[i,h,c] k[j,c]
    s_j = x_j                             without a soft cap
        = cap * tanh(x_j / cap)           with one (Gemma 2, arXiv 2408.00118, section 2)
    visible: j <= position  and  (window_left < 0 or j >= position - window_left)
    L   = sum over visible j of exp(s_j)  (+ exp(sink_h): gpt-oss, denominator only)
    out = sum over visible j of exp(s_j) v_j / L,     lse = log L

A row that sees no key and has no sink yields zeros and lse -inf.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_ELEMENTS = 2**25
"""Elements of the largest temporary (256 MiB): K, V or scores of a chunk of heads. A chunk has at least one head."""

_LOWEST_TOTAL = -1e300
"""Stands in for a log-sum-exp of minus infinity, so that a row over no key gets probabilities of 0 and not NaN."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One request on one layer: ``q`` [m, num_qo_heads, D], ``k`` and ``v`` [n, num_kv_heads, D], all float64.

    ``positions`` [m] int64 are the absolute positions of the query rows, ``kv_head_of`` [num_qo_heads] int64 the KV
    head that each query head reads, ``sinks`` [num_qo_heads] float64. Keys stand at positions 0 to n - 1.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    positions: torch.Tensor
    kv_head_of: torch.Tensor
    window_left: int
    sm_scale: float
    soft_cap: float | None = None
    sinks: torch.Tensor | None = None
    causal: bool = True


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Scores and probabilities of some heads: ``scores`` s and ``p`` [heads, m, keys], 0 for invisible keys.

    ``q`` is [heads, m, D]. ``k`` and ``v`` [kv heads, keys, D] are the keys that any row of the request can see; each
    KV head serves heads / kv heads consecutive heads. ``sink_mass`` [heads, m] is the sink's probability.
    """

    heads: slice
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    visible: torch.Tensor
    scores: torch.Tensor
    p: torch.Tensor
    sink_mass: torch.Tensor


def with_keys(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Return the products [heads, m, keys] of ``q`` [heads, m, D] with its heads' ``k`` [kv heads, keys, D]."""
    heads, rows, dim = q.shape
    return (q.reshape(k.shape[0], heads // k.shape[0] * rows, dim) @ k.transpose(1, 2)).view(heads, rows, k.shape[1])


def with_values(p: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the sums [heads, m, D] of ``v`` [kv heads, keys, D] by the weights ``p`` [heads, m, keys]."""
    heads, rows, keys = p.shape
    return (p.reshape(v.shape[0], heads // v.shape[0] * rows, keys) @ v).view(heads, rows, v.shape[2])


class Visitor(Protocol):
    """Called with the weights of each chunk of heads."""

    def __call__(self, weights: Weights) -> None:
        """Read ``weights``. Keep no tensor as large as theirs: chunks exist to bound memory."""
        ...


@dataclass(frozen=True)
class Answer:
    """``out`` [m, num_qo_heads, D] and ``lse`` [m, num_qo_heads] (natural logarithm), float64."""

    out: torch.Tensor
    lse: torch.Tensor


def attend(problem: Problem, visit: Visitor | None = None) -> Answer:
    """Evaluate the formulas above; ``visit`` sees the weights of each chunk of heads."""
    rows, heads, dim = problem.q.shape
    out = torch.zeros((rows, heads, dim), dtype=torch.float64, device=problem.q.device)
    lse = torch.full((rows, heads), -math.inf, dtype=torch.float64, device=problem.q.device)
    first, last = _key_range(problem)
    visible = _visible(problem, first, last)
    group, sources = _readers(problem, last - first)
    for chunk in _chunks(heads // group, group * rows, max(1, last - first), dim):
        own = slice(chunk.start * group, chunk.stop * group)
        k, v = (stored[first:last, sources][:, chunk].transpose(0, 1) for stored in (problem.k, problem.v))
        q = problem.q[:, own].transpose(0, 1)
        scores = _scores(problem, with_keys(q, k))
        p, total = _softmax(scores, visible, None if problem.sinks is None else problem.sinks[own])
        out[:, own] = with_values(p, v).transpose(0, 1)
        lse[:, own] = total.transpose(0, 1)
        if visit is not None:
            visit(
                Weights(
                    heads=own,
                    q=q,
                    k=k,
                    v=v,
                    visible=visible,
                    scores=scores.masked_fill(~visible, 0.0),
                    p=p,
                    sink_mass=1.0 - p.sum(dim=2).clamp(max=1.0)
                    if problem.sinks is not None
                    else torch.zeros_like(total),
                )
            )
    return Answer(out, lse)


def _readers(problem: Problem, keys: int) -> tuple[int, slice | torch.Tensor]:
    """Return how many consecutive heads share each KV head, and the KV heads to read.

    Heads that share a KV head are multiplied together, which saves a copy of its keys and values for each of them.
    Every head is taken by itself where the map is another one, or where the scores of a group exceed a chunk.
    """
    rows, heads, _ = problem.q.shape
    kv_heads = problem.k.shape[1]
    group = heads // kv_heads
    grouped = tuple(head // group for head in range(heads)) if group * kv_heads == heads else ()
    if _heads(problem.kv_head_of) == grouped and group * rows * keys <= CHUNK_ELEMENTS:
        return group, slice(None)
    return 1, problem.kv_head_of


def _scores(problem: Problem, products: torch.Tensor) -> torch.Tensor:
    scores = problem.sm_scale * products
    return scores if problem.soft_cap is None else problem.soft_cap * torch.tanh(scores / problem.soft_cap)


def _softmax(
    scores: torch.Tensor, visible: torch.Tensor, sinks: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the probabilities, [heads, rows, keys], and the log-sum-exp, [heads, rows]."""
    masked = scores.masked_fill(~visible, -math.inf)
    logits = masked if sinks is None else torch.cat([_sink_column(sinks, scores.shape[1]), masked], dim=2)
    total = torch.logsumexp(logits, dim=2) if logits.shape[2] else logits.new_full(logits.shape[:2], -math.inf)
    return torch.exp(masked - total.clamp_min(_LOWEST_TOTAL)[:, :, None]), total


def _key_range(problem: Problem) -> tuple[int, int]:
    """Return the range [first, last) of keys that some row can see; all others only cost time."""
    count = problem.k.shape[0]
    if problem.positions.numel() == 0:
        return 0, 0
    low, high = _span(problem.positions)
    first = max(0, low - problem.window_left) if problem.window_left >= 0 else 0
    last = min(count, high + 1) if problem.causal else count
    return min(first, last), last


@lru_cache(maxsize=64)
def _span(positions: torch.Tensor) -> tuple[int, int]:
    """Return the smallest and the largest position. Cached: problems share it, and reading it waits for a GPU."""
    low, high = torch.stack(torch.aminmax(positions)).tolist()
    return int(low), int(high)


@lru_cache(maxsize=64)
def _heads(kv_head_of: torch.Tensor) -> tuple[int, ...]:
    """Return the KV head of each query head. Cached for the same reason."""
    return tuple(int(head) for head in kv_head_of.tolist())


def _visible(problem: Problem, first: int, last: int) -> torch.Tensor:
    keys = torch.arange(first, last, device=problem.q.device)[None, :]
    rows = problem.positions[:, None]
    visible = keys <= rows if problem.causal else torch.ones_like(keys <= rows)
    if problem.window_left >= 0:
        visible = visible & (keys >= rows - problem.window_left)
    return visible[None]


def _sink_column(sinks: torch.Tensor, rows: int) -> torch.Tensor:
    return sinks[:, None, None].expand(-1, rows, 1)


def _chunks(heads: int, rows: int, keys: int, dim: int) -> Iterator[slice]:
    step = max(1, CHUNK_ELEMENTS // (keys * max(rows, dim)))
    for start in range(0, heads, step):
        yield slice(start, min(heads, start + step))
