"""The a-priori error bound. Tolerances are made here and nowhere else.

Let u be a unit roundoff (``UNIT_ROUNDOFF``): u_out of the output's dtype, u_p of the dtype in which the kernel keeps
the probabilities P, u_acc of its accumulators, u_part of split-KV partial outputs, u_kv of dequantised keys and values.
The model of floating-point arithmetic is the standard one, fl(x op y) = (x op y)(1 + d), |d| <= u (Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., SIAM 2002, section 2.2).

1. Scores. A dot product of D terms, in any order, errs by at most gamma_D sum|q_c k_c| (Higham, section 3.1), and by
   about sqrt(D) u with high probability (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019). Scaling by sm_scale *
   log2(e) rounds twice; the exponential's argument and the hardware exp2 add 2^-21 |s| + 2^-22 (CUDA Programming Guide,
   "Mathematical Functions": ex2.approx errs by 2 ulp); subtracting the row's largest logit m rounds once more, 2^-23
   (m - s_j). The soft cap's derivative is at most 1, so errors pass it undiminished, and its tanh errs by u_tanh
   relative. Per key, the error of the log-weight is at most

       d_j = (sqrt(D) + 4) u_acc a_j + 2 u_kv a_j + b_j + (2^-21 + u_tanh) |s_j| + 2^-23 (m - s_j) + 2^-22,
       a_j = |sm_scale| sum_c |q_c k_jc|,    b_j = 5 |sm_scale| sqrt(sum_c (r_c k_jc)^2)

   where b_j counts for a kernel that first rounds the query to a dtype u_q of its own: each of its elements errs by at
   most r_c = max(u_q |q_c|, half its smallest number), independently, so that their weighted sum exceeds five times the
   root of its squares with probability 2 exp(-25/2) (Hoeffding's inequality, as in Higham and Mary).

2. Softmax. A weight is off by a factor 1 + e_j, |e_j| <= E_j = exp(d_j) - 1, and the normalised output moves by
   sum_j p_j e_j (v_j - o) / (1 + sum_j p_j e_j), so by at most (sum_j p_j E_j |v_j| + E |o|) / (1 - E) with
   E = sum_j p_j E_j (taken as at most 1/2 in the denominator: a kernel off by more has no bound worth the name). A sink
   is one more key with v = 0 and d = 2^-21 |sink| + 2^-23 (m - sink) + 2^-22; it counts in m, since kernels start the
   running maximum at it.
3. P rounded to its dtype errs by u_p p_j in the numerator, and by u_p' p_j in the denominator, which may sum P in
   another dtype p': at most u_p sum_j p_j |v_j| + u_p' |o|. Below the dtype's smallest number eta_p it errs
   by no more than itself, and no more than eta_p. P is scaled to exp(s_j - m), so that 1 stands for P_max = exp(m) / L,
   or to c exp(s_j - m) where the kernel multiplies by c first (448 in FlashInfer's fa3, StandardFP8Attention): at most
   sum_j min(p_j, eta_p P_max / c) |v_j|, and for the denominator S' |o| with S' = sum_j min(p_j, eta_p' P_max).
4. The sum over N visible keys and its rescalings: (sqrt(N) + 8) u_acc sum_j p_j |v_j|. Split-KV partial outputs are
   rounded once more: u_part sum_j p_j |v_j|. Dequantised values: u_kv sum_j p_j |v_j|.
5. The output is rounded: u_out |o| and (1 + u_out) on all above, and it is never better than the smallest number of its
   dtype, nor a partial output than that of its own, eta_part. Stored values that count v_scale times may be summed as
   they are, and the rounded sum be scaled: then eta_part counts as often, and once at least.
6. Stored numbers are exact, in wider dtypes, too: one of e4m3 has 4 significant bits and lies between 2^-9 and 448, one
   of e5m2 has 3 and lies between 2^-16 and 57,344, the high byte of a float16 (Micikevicius et al., FP8 Formats for
   Deep Learning, arXiv 2209.05433, table 1). So reading a format adds nothing to the bound; its scales are factors of
   sm_scale and of the answer, as in steps 1 and 5. A number of NVFP4 is one of 4 bits, with 2 significant bits and 0.5
   to 6, times the scale of its block, with 4 bits and 2^-9 to 448: 6 bits, and 2^-10 to 2,688 (OCP Microscaling Formats
   1.0, section 5.3.3, and table 1 above). bfloat16, float16 and float32 have every such product, so a kernel that
   multiplies in one of them rounds nothing either, however it orders the two. The global scale is no part of the
   product: a kernel that takes it in before it rounds, or that rounds products to e4m3, has ``dequantised``, whose
   u_kv counts in d_j, where it errs in each component of a key, and in step 4.

The log-sum-exp errs by at most (E + C) / (1 - E - C) + (sqrt(N) + 8) u_acc + u_p' + S' + 4 u_fp32 (1 + |lse|), with p'
and S' as above, and with

    C = sum_j p_j exp(d_j) (exp(c_j) - 1),    c_j = D/4 u_acc max(|s_j|, |sm_scale| sqrt(sum_c (q_c k_jc)^2))

where products of 16 or 8 bits are summed in float32 or less, which is what tensor cores are for. They do not round:
they align G products and the sum so far to the largest of these, with e bits to spare, cut off what lies below, and cut
off the new sum, too (Fasi, Higham, Mikaitis and Pranesh, PeerJ Comput. Sci. 7:e330, 2021; Khattak and Mikaitis, arXiv
2512.07004, whose bit-accurate models have G = 16 and e = 2 for an H100 and a B200, 8 and 1 for an A100). Such errors
have the sign of what is cut, so they add up as long as the sum keeps its own. A step cuts off 2^-e G u + u on average,
of a sum that is half of its last one on average: below D/4 u of the largest partial sum on an A100, and D/8 u on the
others. The largest partial sum is about |s_j| where products have one sign, and the root of their squares where they
have not. A soft cap lets no more of it pass than its own |s_j| says, since |x| (1 - tanh(x)^2) <= |tanh(x)|. A sum in
float16 is rounded to nearest there. The output needs no such term: keys whose weights count have nearly the same score,
so they lose nearly as much, and what all keys lose moves no average. The rest has no one sign: step 1 counts it.

Products of two different terms above are left out: they are below u_p of the larger one, and u_p is at most 1/16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnconf.bounded import Bounded
from attnconf.oracle.attention import solve
from attnconf.oracle.problem import Answer
from attnconf.precision import UNIT_ROUNDOFF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.oracle.attention import Solved, Weights
    from attnconf.oracle.blocks import Block
    from attnconf.oracle.problem import Problem
    from attnconf.precision import NumericsProfile

_SMALLEST = {
    "float64": 2.0**-1022,
    "float32": 2.0**-126,
    "float22": 2.0**-126,
    "float16": 2.0**-24,
    "bfloat16": 2.0**-126,
    "float8_e4m3fn": 2.0**-9,
}
"""The smallest positive number of the dtype: subnormal where GPUs keep subnormals (16 and 8 bits), else normal."""

CUT_OFF = 0.25
"""The factor of D u_acc in c_j of the log-sum-exp."""

EXP_RELATIVE = 2.0**-21
EXP_ABSOLUTE = 2.0**-22
"""The errors of the exponential in step 1, relative to the score and absolute."""

SHIFT_RELATIVE = 2.0**-23
"""The error of subtracting the row's largest logit in step 1, relative to the difference."""

QUERY_CONFIDENCE = 5.0
"""The factor of b_j in step 1."""

_LARGEST_SHIFT = 0.5
"""The largest E that the denominators 1 - E of step 2 take into account."""

_LARGEST_EXPONENT = 50.0
"""Errors d_j are cut here, so that exp(d_j) stays finite; such a bound accepts anything already."""


def bounded_answer(problem: Problem, profile: NumericsProfile, out_dtype: str) -> Bounded:
    """Solve ``problem`` in float64 and bound the error of a right kernel of this profile, element by element."""
    return bounded_answers([problem], profile, out_dtype)


def bounded_answers(problems: Sequence[Problem], profile: NumericsProfile, out_dtype: str) -> Bounded:
    """Return the bounded answers to ``problems``, which agree in heads, widths and device, as one."""
    rows = sum(one.q.shape[0] for one in problems)
    heads, dim = problems[0].q.shape[1], problems[0].value_dim
    out = torch.zeros((rows, heads, dim), dtype=torch.float64, device=problems[0].q.device)
    lse = torch.full((rows, heads), -math.inf, dtype=torch.float64, device=out.device)
    found = Bounded(Answer(out, lse), torch.zeros_like(out), torch.zeros_like(lse))
    for solved in solve(problems):
        moments = _moments(solved, profile)
        solved.block.put(out, solved.out)
        solved.block.put(lse, solved.lse)
        solved.block.put(found.out_bound, moments.out_bound(solved.out, out_dtype))
        solved.block.put(found.lse_bound, moments.lse_bound(solved.lse))
    return found


@dataclass(frozen=True, kw_only=True)
class _Moments:
    """The sums over keys in the bound of a block: [parts, query heads, rows], or with D behind where values count.

    ``visible`` [parts, 1, rows] is N of step 4, and ``part_scale`` how many times a number of a partial output counts
    in step 5, at least once. Names follow the steps above.
    """

    profile: NumericsProfile
    weighted_values: torch.Tensor
    weighted_errors: torch.Tensor
    score_errors: torch.Tensor
    cut_errors: torch.Tensor | float
    lost_values: torch.Tensor
    lost_sums: torch.Tensor
    visible: torch.Tensor
    part_scale: torch.Tensor | float

    def out_bound(self, out: torch.Tensor, out_dtype: str) -> torch.Tensor:
        u_out = UNIT_ROUNDOFF[out_dtype]
        u_p = UNIT_ROUNDOFF[self.profile.p]
        u_acc = UNIT_ROUNDOFF[self.profile.accumulator]
        u_other = _roundoff(self.profile.partials) + _roundoff(self.profile.dequantised)
        sums = (torch.sqrt(self.visible) + 8.0)[..., None] * u_acc + u_other
        magnitude = out.abs()
        shift = self.score_errors[..., None]
        inner = (
            (self.weighted_errors + shift * magnitude) / (1.0 - shift.clamp_max(_LARGEST_SHIFT))
            + (sums + u_p) * self.weighted_values
            + self.lost_values
            + (self.lost_sums[..., None] + UNIT_ROUNDOFF[self.profile.row_sum]) * magnitude
        )
        smallest = self.part_scale * (0.0 if self.profile.partials is None else _SMALLEST[self.profile.partials])
        floor = (self.visible[..., None] > 0) * (smallest + _SMALLEST[out_dtype])
        return u_out * magnitude + (1.0 + u_out) * inner + floor

    def lse_bound(self, lse: torch.Tensor) -> torch.Tensor:
        u_acc = UNIT_ROUNDOFF[self.profile.accumulator]
        sums = (torch.sqrt(self.visible) + 8.0) * u_acc + UNIT_ROUNDOFF[self.profile.row_sum]
        magnitude = lse.abs().nan_to_num_(nan=0.0, posinf=0.0)
        shift = self.score_errors + self.cut_errors
        shift = shift / (1.0 - shift.clamp_max(_LARGEST_SHIFT))
        return shift + sums + self.lost_sums + 4.0 * UNIT_ROUNDOFF["float32"] * (1.0 + magnitude)


def _moments(solved: Solved, profile: NumericsProfile) -> _Moments:
    block, weights = solved.block, solved.weights
    top, largest, sink_errors = _shift(block, weights)
    d = _score_errors(block, weights.scores, top, profile)  # of keys without weight cut below
    cut_errors = _cut_errors(block, weights, d, profile)
    weighted = weights.p * d.clamp_max_(_LARGEST_EXPONENT).expm1_()
    values = block.v.abs()
    lost = torch.minimum(weights.p, _SMALLEST[profile.p] / profile.p_scale * largest)
    sums = lost if profile.row_sum == profile.p else torch.minimum(weights.p, _SMALLEST[profile.row_sum] * largest)
    return _Moments(
        profile=profile,
        weighted_values=block.sums(weights.p, values),
        weighted_errors=block.sums(weighted, values),
        score_errors=weighted.sum(dim=3) + sink_errors,
        cut_errors=cut_errors,
        lost_values=block.sums(lost, values),
        lost_sums=sums.sum(dim=3),
        visible=block.visible.sum(dim=3).to(torch.float64),
        part_scale=block.part_scale,
    )


def _score_errors(block: Block, scores: torch.Tensor, top: torch.Tensor, profile: NumericsProfile) -> torch.Tensor:
    """Return d of step 1, [parts, query heads, rows, keys]."""
    scale = _magnitude(block.score_scale)
    products = (math.sqrt(block.q.shape[3]) + 4.0) * UNIT_ROUNDOFF[profile.accumulator]
    relative = EXP_RELATIVE + (profile.tanh if block.soft_cap is not None else 0.0)
    d = block.products(block.q.abs(), block.k.abs()).mul_((products + 2.0 * _roundoff(profile.dequantised)) * scale)
    d.add_(scores.abs(), alpha=relative)
    d.add_((top - scores).clamp_min_(0.0), alpha=SHIFT_RELATIVE)
    d += EXP_ABSOLUTE
    if profile.query is not None:
        rounding = (UNIT_ROUNDOFF[profile.query] * block.q.abs()).clamp_min(_SMALLEST[profile.query] / 2)
        squares = block.products(rounding.square(), block.k.square())
        d += QUERY_CONFIDENCE * scale * squares.sqrt_()
    return d


def _cut_errors(block: Block, weights: Weights, d: torch.Tensor, profile: NumericsProfile) -> torch.Tensor | float:
    """Return C of the log-sum-exp, [parts, query heads, rows]; 0 where no tensor core cuts sums off."""
    if not profile.cuts_off:
        return 0.0
    scale = _magnitude(block.score_scale)
    sums = block.products(block.q.square(), block.k.square()).sqrt_().mul_(scale)
    torch.maximum(sums, weights.scores.abs(), out=sums)
    c = sums.mul_(CUT_OFF * block.q.shape[3] * UNIT_ROUNDOFF[profile.accumulator])
    lost = c.clamp_max_(_LARGEST_EXPONENT).expm1_().mul_(d.clamp_max(_LARGEST_EXPONENT).exp_())
    return lost.mul_(weights.p).sum(dim=3)


def _shift(block: Block, weights: Weights) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return each row's largest logit m, its probability, [parts, heads, rows, 1], and the sink's share of errors."""
    p, scores = weights.p, weights.scores
    nothing = torch.zeros_like(weights.sink_mass)[..., None]
    top = scores.amax(dim=3, keepdim=True) if p.shape[3] else torch.full_like(nothing, -math.inf)
    largest = p.amax(dim=3, keepdim=True) if p.shape[3] else nothing
    if block.sinks is None:
        return top.nan_to_num(neginf=0.0), largest, nothing[..., 0]
    sinks = block.sinks[..., None]
    top = torch.maximum(top, sinks)
    d = EXP_RELATIVE * sinks.abs() + SHIFT_RELATIVE * (top - sinks) + EXP_ABSOLUTE
    sink_errors = weights.sink_mass * torch.expm1(d)[..., 0]
    return top, torch.maximum(largest, weights.sink_mass[..., None]), sink_errors


def _magnitude(scale: torch.Tensor | float) -> torch.Tensor | float:
    return scale.abs() if isinstance(scale, torch.Tensor) else abs(scale)


def _roundoff(dtype: str | None) -> float:
    return 0.0 if dtype is None else UNIT_ROUNDOFF[dtype]
