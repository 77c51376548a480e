"""One query row and head: the runs of keys that it may have seen, and the clause of a key that it lost or saw."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from attnconf.bounded import out_units
from attnconf.cases.inputs.pages import pool_of
from attnconf.clauses import Clause
from attnconf.judging.explanation import UNEXPLAINED_CLAUSE, Explanation
from attnconf.oracle.packed import scaled

if TYPE_CHECKING:
    from attnconf.judging.mistakes import Scene
    from attnconf.judging.trial import Trial

_ROWS = 12
"""About so many wrong rows of a request must each be explained by a wrong run of keys."""


@dataclass(frozen=True)
class Row:
    """One query row and head: unnormalised ``weights`` [n] of all keys, visible or not, ``values`` [n, D], the sink.

    ``tolerance`` is [D]. Keys ``first`` to ``last`` are visible, those from ``new`` on new tokens.
    """

    weights: torch.Tensor
    values: torch.Tensor
    sink: float
    tolerance: torch.Tensor
    first: int
    last: int
    new: int

    def matches(self, actual: torch.Tensor, mass: torch.Tensor, weighted: torch.Tensor) -> torch.Tensor:
        """Return how far ``actual`` is from ``weighted`` [c, D] over ``mass`` [c] and the sink: up to 1 is equal."""
        answers = weighted / (mass + self.sink)[:, None]
        return ((answers - actual).abs() / self.tolerance).amax(dim=1)


def row_of(scene: Scene, token: int, head: int, tolerance: torch.Tensor) -> Row:
    """Return query row ``token`` and ``head`` of the scene's request."""
    problem = scene.problem
    kv_head = int(problem.kv_head_of[head])
    k_scales, v_scales = problem.k_scales or {kv_head: 1.0}, problem.v_scales or {kv_head: 1.0}
    keys = scaled(problem.k[:, kv_head], k_scales[kv_head])
    values = scaled(problem.v[:, kv_head], problem.value_scale * v_scales[kv_head])
    scores = problem.score_scale * (keys @ problem.q[token, head].double())
    if problem.soft_cap is not None:
        scores = problem.soft_cap * torch.tanh(scores / problem.soft_cap)
    position = int(problem.positions[token])
    first, last = problem.sight(position, token)
    first, last = max(0, first), min(last, problem.k.shape[0] - 1)
    sink = -math.inf if problem.sinks is None else float(problem.sinks[head])
    top = max(float(scores.max()), sink)
    return Row(torch.exp(scores - top), values, math.exp(sink - top), tolerance, first, last, scene.spec.prefix_len)


def wrong_run(trial: Trial, scene: Scene, row: Row, actual: torch.Tensor, worst: tuple[int, int]) -> Explanation | None:
    """Explain the row ``worst`` (token, head) by a wrong run of keys, exactly if every wrong row has one, too."""
    found = _read_range(scene, row, actual[worst])
    if found is None:
        return None
    expected = trial.expected(scene.layer, scene.request)
    wrong = (out_units(actual, expected) > 1.0).any(dim=2).nonzero().tolist()
    moved, ends = {found.moved}, {found.end}
    for token, head in wrong[:: max(1, len(wrong) // _ROWS)]:
        if is_cut(scene, token):
            return None
        other = row_of(scene, token, head, 2.0 * expected.out_bound[token, head])
        run = _read_range(scene, other, actual[token, head])
        if run is None or run.clause != found.clause:
            return None
        moved.add(run.moved)
        ends.add(run.end)
    # one fault moves all rows by as much, or ends them in one place
    return found if len(moved) == 1 or len(ends) == 1 else replace(found, exact=False)


def _read_range(scene: Scene, row: Row, actual: torch.Tensor) -> Explanation | None:
    """Find a range of keys with one wrong end that gives the wrong answer. All ends are tried by running sums."""
    weighted = row.weights[:, None] * row.values
    before = slice(0, row.last + 1)
    masses = row.weights[before].flip(0).cumsum(0).flip(0)
    residues = row.matches(actual, masses, weighted[before].flip(0).cumsum(0).flip(0))
    begin = int(residues.argmin())
    if float(residues[begin]) <= 1.0 and begin != row.first:
        return _range(scene, row, begin, row.last, Clause.WINDOW)
    behind = slice(row.first, None)
    residues = row.matches(actual, row.weights[behind].cumsum(0), weighted[behind].cumsum(0))
    end = row.first + int(residues.argmin())
    if float(residues.min()) > 1.0 or end == row.last:
        return None
    size = scene.layout.page_size
    last_page = size > 1 and (end + 1) % size == 0 and row.last - end == size
    return _range(scene, row, row.first, end, Clause.PAGING if last_page else Clause.CAUSAL)


def _range(scene: Scene, row: Row, begin: int, end: int, clause: Clause) -> Explanation:
    case, size = scene.logical.case, scene.layout.page_size
    key = begin if clause is Clause.WINDOW else end
    return Explanation(
        clause=clause,
        keys=f"keys {begin} to {end} seem to be read; positions {row.first} to {row.last} are visible",
        suspicion="the last page is lost" if clause is Clause.PAGING else "",
        page=scene.layout.page(pool_of(case, case.owner(scene.layer)), scene.request, key),
        slot=key % size,
        exact=True,
        diagnosis="the last page is lost" if clause is Clause.PAGING else "a run of keys has a wrong end",
        end=key,
        moved=key - (row.first if clause is Clause.WINDOW else row.last),
    )


def is_cut(scene: Scene, token: int) -> bool:
    """Return whether the row sees no run of keys, since other branches of its tree lie between."""
    return bool(scene.problem.between(token))


def clause_of_key(row: Row, key: int, *, in_sight: bool, lost: bool) -> Clause:
    """Return the clause of a key that is wholly lost, or not visible: only pages lose inner keys of the prefix."""
    if in_sight and lost:
        if key == row.first < row.last:
            return Clause.WINDOW if row.first else Clause.CAUSAL
        return Clause.CAUSAL if key == row.last or row.new <= key else Clause.PAGING
    if in_sight:
        return UNEXPLAINED_CLAUSE
    return Clause.WINDOW if key < row.first else Clause.CAUSAL
