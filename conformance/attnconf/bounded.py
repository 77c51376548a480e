"""Bounded: a right answer with the largest error of each of its elements, and answers measured by it, in units of that.

The bounds themselves are derived in ``numerics.py``. A unit is the bound of an element: up to 1 an error is allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnconf.oracle.problem import Answer
from attnconf.precision import UNIT_ROUNDOFF

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Bounded:
    """An answer with the bounds of its elements: ``out_bound`` like ``out``, ``lse_bound`` like ``lse``."""

    answer: Answer
    out_bound: torch.Tensor
    lse_bound: torch.Tensor


def rows_of(bounded: Bounded, rows: slice | torch.Tensor) -> Bounded:
    """Return some query rows of a bounded answer: a slice, or int64 indices on the answer's device."""
    answer = Answer(bounded.answer.out[rows], bounded.answer.lse[rows])
    return Bounded(answer, bounded.out_bound[rows], bounded.lse_bound[rows])


def bounded_like(answer: Answer, right: Bounded, out_dtype: str) -> Bounded:
    """Return a wrong ``answer`` with the bound of the ``right`` one, and the roundoff of its own numbers as stored."""
    return Bounded(answer, right.out_bound + UNIT_ROUNDOFF[out_dtype] * answer.out.abs(), right.lse_bound)


def merge_answers(parts: Sequence[Bounded]) -> Bounded:
    """Merge answers over disjoint keys through their LSE, as split-KV and cascades do, with the bound of the result.

    With shares w_i = exp(lse_i) / sum exp(lse), out = sum w_i out_i. An LSE error of e_i moves the shares by at most
    w_i sum_j w_j (e_i + e_j), so the output by at most sum_i w_i (e_i + sum_j w_j e_j) |out_i - out|.
    """
    lses = torch.stack([part.answer.lse for part in parts])
    outs = torch.stack([part.answer.out for part in parts])
    shares = torch.softmax(lses, dim=0).nan_to_num(nan=0.0)  # NaN where no part has a key
    out = (shares[..., None] * outs).sum(dim=0)
    lse_bounds = torch.stack([part.lse_bound for part in parts])
    mean = (shares * lse_bounds).sum(dim=0)
    moved = (shares * (lse_bounds + mean))[..., None] * (outs - out).abs()
    bound = (shares[..., None] * torch.stack([part.out_bound for part in parts]) + moved).sum(dim=0)
    return Bounded(Answer(out, torch.logsumexp(lses, dim=0)), bound, mean)


def is_within(actual: torch.Tensor, lse: torch.Tensor | None, expected: Bounded) -> bool:
    """Return whether all errors are plainly within their bounds, in few operations; a GPU is waited for once.

    False is no verdict: infinities that are right, and a bound that is met but for rounding, need ``units_by_row``.
    """
    near = _near(actual, expected.answer.out, expected.out_bound)
    if lse is not None:
        near = near.logical_and(_near(lse, expected.answer.lse, expected.lse_bound))
    return bool(near)


def _near(actual: torch.Tensor, wanted: torch.Tensor, bound: torch.Tensor) -> torch.Tensor:
    numbers = actual if actual.element_size() > 1 else actual.double()  # numbers of 8 bits are not promoted
    return ((wanted - numbers).abs_() <= bound).all()


def units_by_row(actual: torch.Tensor, lse: torch.Tensor | None, expected: Bounded) -> torch.Tensor:
    """Return the largest error of each query row in units, [rows]; the LSE counts where there is one."""
    units = out_units(actual, expected).amax(dim=(1, 2))
    return units if lse is None else torch.maximum(units, lse_units(lse, expected).amax(dim=1))


def out_units(actual: torch.Tensor, expected: Bounded) -> torch.Tensor:
    """Return |actual - expected| in units of the bound, like ``actual``; NaN and wrong infinities give inf."""
    return _units(actual, expected.answer.out, expected.out_bound)


def lse_units(actual: torch.Tensor, expected: Bounded) -> torch.Tensor:
    """Return the error of natural-log LSE values in units of their bound; -inf is right only where -inf is expected."""
    return _units(actual, expected.answer.lse, expected.lse_bound)


def changes_by_row(changed: torch.Tensor, wanted: torch.Tensor, bound: torch.Tensor) -> torch.Tensor:
    """Return the largest difference of each row [rows, heads, D] from what is ``wanted``, in units of the ``bound``.

    The result [rows] stays on the device, which saves waiting for a GPU.
    """
    return _units(changed, wanted, bound).amax(dim=(1, 2))


def _units(actual: torch.Tensor, wanted: torch.Tensor, bound: torch.Tensor) -> torch.Tensor:
    """Return errors in units of ``bound``: 0 where two numbers are equal, infinite ones too, and inf for NaN."""
    numbers = actual.double()
    units = (numbers - wanted).abs_().div_(bound).masked_fill_(numbers == wanted, 0.0)
    return units.nan_to_num_(nan=math.inf, posinf=math.inf)
