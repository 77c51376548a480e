"""Explain a wrong answer: which known mistake gives it, and which keys were read or lost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from attnconf.cases.case import Poison
from attnconf.cases.inputs.assemble import assemble, pool_of
from attnconf.cases.inputs.layout import place
from attnconf.cases.shape import kernel_shape
from attnconf.clauses import Clause
from attnconf.judging.execution import same_bits
from attnconf.judging.mistakes import MISTAKES
from attnconf.judging.result import Place
from attnconf.numerics import Bounded, bounded_answer, bounded_like, out_units
from attnconf.oracle import Answer, scaled

if TYPE_CHECKING:
    from attnconf.cases.case import PoisonKind
    from attnconf.judging.mistakes import Mistake, Scene
    from attnconf.judging.trial import Trial

UNEXPLAINED_CLAUSE = Clause.SCORES
"""The clause of a wrong answer that nothing explains."""

_HULL = 1.05
"""A mean of live values exceeds the largest of them by no more than this factor: beyond it, something else was read."""

_DEAD_SLOT = "a dead slot was read"
_REMAINDER = 0.1
"""Largest share of a deviation that may remain unexplained by the loss of one key."""

_LIKENESS = 0.9
"""Least cosine between a deviation and the direction of a key that is blamed for it."""


@dataclass(frozen=True)
class Explanation:
    """The suspected clause, keys and kind of bug, and the place in memory of the key.

    ``exact`` says that it gives the wrong numbers within rounding, ``diagnosis`` is the kind of bug in the same words
    for every case, ``mistakes`` are the known ones that give those numbers.
    """

    clause: Clause
    keys: str = ""
    suspicion: str = ""
    mistakes: tuple[str, ...] = ()
    page: int | None = None
    slot: int | None = None
    exact: bool = False
    diagnosis: str = ""

    def place(self, layer: int, request: int, token: int, head: int, dim: int) -> Place:
        """Return the place of a wrong element together with that key's page and slot."""
        return Place(layer=layer, request=request, token=token, head=head, dim=dim, page=self.page, slot=self.slot)


def explain(trial: Trial, layer: int, request: int, token: int, head: int) -> Explanation:
    """Explain the base run's answer to query row ``token`` and ``head`` of ``request``."""
    actual = trial.base(layer).out[trial.posed.rows(request)].double()
    scene = trial.posed.scene(layer, request)
    if not bool(torch.isfinite(actual[token, head]).all()):
        return _not_finite(trial, layer, request, token)
    tolerance = 2.0 * trial.expected(layer, request).out_bound[token, head]
    row = _row(scene, token, head, tolerance)
    runs = not _is_cut(scene, token)
    keys = _suspect_key(trial, scene, row, actual[token, head]) if runs else Explanation(clause=UNEXPLAINED_CLAUSE)
    by_mistake = _matching_mistakes(scene, trial, layer, actual)
    if by_mistake is not None:
        return replace(by_mistake, keys=keys.keys, page=keys.page, slot=keys.slot)
    return (_read_range(scene, row, actual[token, head]) if runs else None) or keys


def _is_cut(scene: Scene, token: int) -> bool:
    """Return whether the row sees no run of keys, since other branches of its tree lie between."""
    return bool(scene.problem.between(token))


def _not_finite(trial: Trial, layer: int, request: int, token: int) -> Explanation:
    poison, spec = trial.case.poison, trial.case.requests[request]
    if {poison.k, poison.v} & {"nan", "inf", "huge"} and _reads_dead_slots(trial, layer):
        position = spec.prefix_len + token
        return Explanation(
            clause=Clause.DEAD_SLOTS,
            keys="a slot that no live token owns",
            suspicion=f"poison ({poison.k} keys, {poison.v} values) reached the row at position {position}:"
            " a dead slot was read",
            diagnosis=_DEAD_SLOT,
        )
    return Explanation(
        clause=UNEXPLAINED_CLAUSE, suspicion="a value that is not finite, although every input slot is finite"
    )


def _reads_dead_slots(trial: Trial, layer: int) -> bool:
    """Return whether other contents of the dead slots, which every backend must tolerate, change the output."""
    posed, poison = trial.posed, trial.case.poison
    kind: PoisonKind = "stale" if poison == Poison(k="zero", v="zero") else "zero"
    variant = trial.case.model_copy(update={"poison": Poison(k=kind, v=kind)})
    try:
        output = trial.run(
            layer, "other dead slots", lambda: assemble(variant, place(variant), posed.logical, posed.device)
        )
    except (Exception, SystemExit):  # noqa: BLE001 - a backend may raise anything; then the answer must suffice
        return True
    return not same_bits(output.out, trial.base(layer).out)


def _matching_mistakes(scene: Scene, trial: Trial, layer: int, actual: torch.Tensor) -> Explanation | None:
    """Return the known mistakes whose answers, with their own error bounds, contain the whole wrong answer.

    A case of few keys cannot tell some of them apart: then each is named, and the clause is that of the first.
    """
    profile = trial.numerics(kernel_shape(trial.case, layer))
    right = trial.expected(layer, scene.request)
    found: list[Mistake] = []
    for mistake in MISTAKES:
        mistaken = mistake.apply(scene)
        if mistaken is None:
            continue
        if isinstance(mistaken, Answer):
            # its elements may be those of other heads or dims of their row, so the widest bound of the row counts
            widest = right.out_bound.amax(dim=(1, 2), keepdim=True).expand_as(right.out_bound)
            wrong = bounded_like(mistaken, Bounded(right.answer, widest, right.lse_bound), trial.case.answer_dtype)
        else:
            wrong = bounded_answer(mistaken, profile, trial.case.answer_dtype)
        if not torch.equal(wrong.answer.out, right.answer.out) and float(out_units(actual, wrong).max()) <= 1.0:
            found.append(mistake)
    if not found:
        return None
    explains = "that explains" if len(found) == 1 else "each explains"
    return Explanation(
        clause=found[0].clause,
        suspicion=f"{'; or '.join(mistake.text for mistake in found)} ({explains} every element of the request)",
        exact=True,
        diagnosis=found[0].text,
        mistakes=tuple(mistake.name for mistake in found),
    )


@dataclass(frozen=True)
class _Row:
    """One query row and head: unnormalised ``weights`` [n] of all keys, visible or not, ``values`` [n, D], the sink.

    ``tolerance`` is [D]. Keys ``first`` to ``last`` are visible.
    """

    weights: torch.Tensor
    values: torch.Tensor
    sink: float
    tolerance: torch.Tensor
    first: int
    last: int

    def matches(self, actual: torch.Tensor, mass: torch.Tensor, weighted: torch.Tensor) -> torch.Tensor:
        """Return how far ``actual`` is from ``weighted`` [c, D] over ``mass`` [c] and the sink: up to 1 is equal."""
        answers = weighted / (mass + self.sink)[:, None]
        return ((answers - actual).abs() / self.tolerance).amax(dim=1)


def _row(scene: Scene, token: int, head: int, tolerance: torch.Tensor) -> _Row:
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
    return _Row(torch.exp(scores - top), values, math.exp(sink - top), tolerance, first, last)


def _read_range(scene: Scene, row: _Row, actual: torch.Tensor) -> Explanation | None:
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


def _range(scene: Scene, row: _Row, begin: int, end: int, clause: Clause) -> Explanation:
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
    )


def _suspect_key(trial: Trial, scene: Scene, row: _Row, actual: torch.Tensor) -> Explanation:
    """Find the key whose loss or intrusion points from the right answer to the wrong one.

    Losing a key of mass p moves the output by p / (1 - p) (out - v); reading one more key of relative mass w moves it
    by w / (1 + w) (v - out). So the deviation is along v - out, and its sign says which of the two happened.
    """
    sight = slice(row.first, row.last + 1)
    mass, weighted = row.weights[sight].sum(), row.weights[sight] @ row.values[sight]
    answer = weighted / (mass + row.sink) if float(mass + row.sink) else torch.zeros_like(weighted)
    deviation = actual - answer
    directions = row.values - answer
    likeness = (directions @ deviation) / (directions.norm(dim=1) * deviation.norm()).clamp_min(1e-30)
    if likeness.numel() == 0:
        return Explanation(clause=UNEXPLAINED_CLAUSE)
    key = int(likeness.abs().argmax())
    visible = f"positions {row.first} to {row.last} are visible"
    in_sight, lost = row.first <= key <= row.last, float(likeness[key]) < 0
    if float(likeness[key].abs()) < _LIKENESS or (lost and not in_sight):
        beyond = bool((actual.abs() > _HULL * row.values.abs().amax(dim=0)).any())
        if beyond and _reads_dead_slots(trial, scene.layer):
            return Explanation(
                clause=Clause.DEAD_SLOTS,
                keys=f"no live key has such a value; {visible}",
                suspicion="a dead slot was read",
            )
        return Explanation(clause=UNEXPLAINED_CLAUSE, keys=f"no single live key explains it; {visible}")
    left = (weighted - row.weights[key] * row.values[key]) / (mass - row.weights[key] + row.sink)
    whole = float((actual - left).norm()) <= _REMAINDER * float(deviation.norm())
    suspicion = "a key in sight is lost" if lost and whole else ("" if in_sight else "a key out of sight is read")
    case = scene.logical.case
    page = scene.layout.page(pool_of(case, case.owner(scene.layer)), scene.request, key)
    return Explanation(
        clause=_clause_of_key(row, key, in_sight=in_sight, lost=lost and whole),
        keys=f"key {key} seems {'lost or underweighted' if lost else 'read too much'}; {visible}",
        suspicion=suspicion,
        diagnosis=suspicion,
        page=page,
        slot=key % scene.layout.page_size,
    )


def _clause_of_key(row: _Row, key: int, *, in_sight: bool, lost: bool) -> Clause:
    """Return the clause of a key that is wholly lost (paging), has a wrong weight, or is not visible."""
    if in_sight:
        newest = Clause.CAUSAL if key == row.last else Clause.PAGING
        return newest if lost else UNEXPLAINED_CLAUSE
    return Clause.WINDOW if key < row.first else Clause.CAUSAL
