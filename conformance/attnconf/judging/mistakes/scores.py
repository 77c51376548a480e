"""How scores become weights: scales, soft caps, sinks, merges, the base of the LSE (clause 3)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake
from attnconf.oracle.attention import attend
from attnconf.oracle.problem import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.judging.mistakes.mistake import Apply
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle.problem import Problem

LN2 = math.log(2.0)
_FINITE = -10_000.0
"""The score of hidden keys in kernels that avoid infinities."""

_SAME_SCALE = 1e-3
"""Relative difference below which a wrong scale or soft cap counts as the right one."""


def _scale(change: Callable[[Problem], float]) -> Apply:
    def apply(scene: Scene) -> Problem | None:
        scale = change(scene.problem)
        same = abs(scale / scene.problem.sm_scale - 1.0) < _SAME_SCALE
        return replace(scene.problem, sm_scale=scale) if scene.weighs and not same else None

    return apply


def _soft_cap(change: Callable[[Problem, float], float | None]) -> Apply:
    def apply(scene: Scene) -> Problem | None:
        cap = scene.problem.soft_cap
        if cap is None or not scene.weighs:
            return None
        wrong = change(scene.problem, cap)
        same = wrong is not None and abs(wrong / cap - 1.0) < _SAME_SCALE
        return None if same else replace(scene.problem, soft_cap=wrong)

    return apply


def _cap_after_mask(scene: Scene) -> Answer | None:
    """Give each invisible key the score -cap, which is what tanh makes of minus infinity."""
    cap = scene.problem.soft_cap
    return None if cap is None else _lifted(scene.problem, -cap, _hidden(scene.problem))


def _finite_window(scene: Scene) -> Answer | None:
    """Give each key behind the window the score that stands for minus infinity in some kernels."""
    problem = scene.problem
    if problem.window_left < 0:
        return None
    keys = torch.arange(problem.k.shape[0])[None]
    return _lifted(problem, _FINITE, keys < problem.positions[:, None].cpu() - problem.window_left)


def _finite_mask(scene: Scene) -> Answer | None:
    """Give each invisible key that score."""
    return _lifted(scene.problem, _FINITE, _hidden(scene.problem))


def _hidden(problem: Problem) -> torch.Tensor:
    """Return which keys each row does not see, [rows, keys]."""
    ends = [problem.sight(position, row) for row, position in enumerate(problem.positions.tolist())]
    first, last = torch.tensor(ends).view(-1, 2, 1).unbind(1)
    keys = torch.arange(problem.k.shape[0])[None]
    hidden = (keys < first) | (keys > last)
    for row in range(len(ends)):
        hidden[row, problem.between(row)] = True
    return hidden


def _lifted(problem: Problem, score: float, hidden: torch.Tensor) -> Answer | None:
    """Return the answer in which the keys that are ``hidden`` [rows, keys] count with ``score``; None without any."""
    if not bool(hidden.any()):
        return None
    seen = attend(problem)
    lifted = hidden.double().to(problem.k.device)
    count = lifted.sum(dim=1)
    mean = torch.einsum("mj,jhd->mhd", lifted / count.clamp_min(1.0)[:, None], problem.values)
    log_mass = count.log()[:, None] + score
    lse = torch.logaddexp(seen.lse, log_mass.expand_as(seen.lse))
    kept, others = torch.exp(seen.lse - lse), torch.exp(log_mass - lse)
    return Answer(kept[..., None] * seen.out + others[..., None] * mean[:, problem.kv_head_of.to(mean.device)], lse)


def _sinks(change: Callable[[torch.Tensor], torch.Tensor | None]) -> Apply:
    def apply(scene: Scene) -> Problem | None:
        sinks = scene.problem.sinks
        if sinks is None:
            return None
        wrong = change(sinks)
        same = wrong is not None and torch.equal(wrong, sinks)
        return None if same else replace(scene.problem, sinks=wrong)

    return apply


def _merged_in_base_two(scene: Scene) -> Answer | None:
    """Merge two halves of the keys by exp() of LSEs in base 2."""
    problem = scene.problem
    middle = problem.k.shape[0] // 2
    if middle == 0:
        return None
    late = replace(problem, k=problem.k[middle:], v=problem.v[middle:], start=problem.start + middle, sinks=None)
    parts = [attend(replace(problem, k=problem.k[:middle], v=problem.v[:middle])), attend(late)]
    lses = torch.stack([part.lse for part in parts])
    shares = torch.softmax(lses / LN2, dim=0).nan_to_num(nan=0.0)
    outs = torch.stack([part.out for part in parts])
    return Answer((shares[..., None] * outs).sum(dim=0), torch.logsumexp(lses, dim=0))


def _lse_in_base_two(scene: Scene) -> Answer | None:
    answer = attend(scene.problem)
    return replace(answer, lse=answer.lse / LN2)


SCORES = (
    Mistake(
        "soft cap off", "soft_cap", Clause.SCORES, "the soft cap is ignored", _soft_cap(lambda _problem, _cap: None)
    ),
    Mistake(
        "soft cap unscaled",
        "soft_cap",
        Clause.SCORES,
        "the soft cap bends q.k before sm_scale is applied",
        _soft_cap(lambda problem, cap: cap * problem.sm_scale),
    ),
    Mistake(
        "soft cap log2",
        "soft_cap",
        Clause.SCORES,
        "the soft cap bends scores that hold a factor log2(e) already",
        _soft_cap(lambda _problem, cap: cap * LN2),
    ),
    Mistake(
        "soft cap after mask",
        "soft_cap",
        Clause.SCORES,
        "the soft cap is applied after the mask: keys out of sight get the score -cap",
        _cap_after_mask,
        claimed=False,
    ),
    Mistake(
        "finite window",
        "window",
        Clause.WINDOW,
        "keys behind the window get the score -10000, and not minus infinity",
        _finite_window,
        claimed=False,
    ),
    Mistake(
        "finite mask",
        "causal",
        Clause.CAUSAL,
        "keys out of sight get the score -10000, and not minus infinity",
        _finite_mask,
        claimed=False,
    ),
    Mistake("sinks off", "sinks", Clause.SCORES, "the sinks are ignored", _sinks(lambda _sinks: None)),
    Mistake(
        "sinks doubled",
        "sinks",
        Clause.SCORES,
        "each sink counts twice, as once a split",
        _sinks(lambda sinks: sinks + LN2),
    ),
    Mistake(
        "sinks log2",
        "sinks",
        Clause.SCORES,
        "a sink is taken for a logarithm to base 2",
        _sinks(lambda sinks: sinks * LN2),
    ),
    Mistake(
        "sinks moved",
        "sinks",
        Clause.SCORES,
        "each head has the sink of its neighbour",
        _sinks(lambda sinks: sinks.roll(1)),
        claimed=False,
    ),
    Mistake(
        "scale squared",
        "sm_scale",
        Clause.SCORES,
        "sm_scale is applied twice",
        _scale(lambda problem: problem.sm_scale**2),
    ),
    Mistake("scale off", "sm_scale", Clause.SCORES, "sm_scale is not applied", _scale(lambda _problem: 1.0)),
    Mistake(
        "scale default",
        "sm_scale",
        Clause.SCORES,
        "1/sqrt(head_dim) in place of sm_scale",
        _scale(lambda problem: problem.q.shape[2] ** -0.5),
    ),
    Mistake(
        "scale log2",
        "sm_scale",
        Clause.SCORES,
        "a factor log2(e) is missing",
        _scale(lambda problem: problem.sm_scale * LN2),
    ),
    Mistake(
        "merge in base two",
        "split",
        Clause.SCORES,
        "parts are merged by exp() of LSEs in base 2",
        _merged_in_base_two,
        claimed=False,
    ),
    Mistake(
        "LSE in base two",
        "lse",
        Clause.SCORES,
        "the LSE is in base 2, not in the natural one",
        _lse_in_base_two,
        claimed=False,
    ),
)
