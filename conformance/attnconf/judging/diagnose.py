"""Explain a wrong answer: which known mistake gives it, and which keys were read or lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.bounded import Bounded, bounded_like, out_units
from attnconf.cases.case import Poison
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.pages import pool_of
from attnconf.clauses import Clause
from attnconf.judging.explanation import DEAD_SLOT, UNEXPLAINED_CLAUSE, Explanation
from attnconf.judging.mistakes import MISTAKES
from attnconf.judging.repeats import same_rows
from attnconf.judging.rows import Row, clause_of_key, is_cut, row_of, wrong_run
from attnconf.numerics import bounded_answer
from attnconf.oracle.problem import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import PoisonKind
    from attnconf.judging.mistakes import Mistake, Scene
    from attnconf.judging.trial import Trial
    from attnconf.precision import NumericsProfile

OUT_OF_SIGHT = "a key out of sight is read"
"""The diagnosis of an answer that has a key which its row does not see."""

_HULL = 1.05
"""A mean of live values exceeds the largest of them by no more than this factor: beyond it, something else was read."""

_REMAINDER = 0.1
"""Largest share of a deviation that may remain unexplained by the loss of one key."""

_LIKENESS = 0.9
"""Least cosine between a deviation and the direction of a key that is blamed for it."""


def explain(trial: Trial, layer: int, request: int, token: int, head: int) -> Explanation:
    """Explain the base run's answer to query row ``token`` and ``head`` of ``request``."""
    actual = trial.base(layer).out[trial.posed.rows(request)].double()
    scene = trial.posed.scene(layer, request)
    if not bool(torch.isfinite(actual[token, head]).all()):
        return _not_finite(trial, layer, request, token)
    tolerance = 2.0 * trial.expected(layer, request).out_bound[token, head]
    row = row_of(scene, token, head, tolerance)
    runs = not is_cut(scene, token)
    keys = _suspect_key(trial, scene, row, actual[token, head]) if runs else Explanation(clause=UNEXPLAINED_CLAUSE)
    run = wrong_run(trial, scene, row, actual, (token, head)) if runs else None
    by_mistake = _matching_mistakes(scene, trial, layer, actual)
    if by_mistake is None:
        return run or keys
    return replace(by_mistake, keys=keys.keys, page=keys.page, slot=keys.slot, otherwise=run or keys)


def _not_finite(trial: Trial, layer: int, request: int, token: int) -> Explanation:
    poison, spec = trial.case.poison, trial.case.requests[request]
    if {poison.k, poison.v} & {"nan", "inf", "huge"} and reads_dead_slots(trial, layer):
        position = spec.prefix_len + token
        return Explanation(
            clause=Clause.DEAD_SLOTS,
            keys="a slot that no live token owns",
            suspicion=f"poison ({poison.k} keys, {poison.v} values) reached the row at position {position}:"
            " a dead slot was read",
            diagnosis=DEAD_SLOT,
        )
    return Explanation(
        clause=UNEXPLAINED_CLAUSE, suspicion="a value that is not finite, although every input slot is finite"
    )


def reads_dead_slots(trial: Trial, layer: int) -> bool:
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
    return not same_rows(output, trial.base(layer), slice(0, posed.logical.q_starts[-1]))


def _matching_mistakes(scene: Scene, trial: Trial, layer: int, actual: torch.Tensor) -> Explanation | None:
    """Return the known mistakes whose answers, with their own error bounds, contain the whole wrong answer.

    A case of few keys cannot tell some of them apart: then each is named, and the clause is that of the first.
    """
    profile = trial.numerics(trial.shape(layer))
    right = trial.expected(layer, scene.request)
    found: list[Mistake] = []
    for mistake in MISTAKES:
        wrong = foretold(mistake, scene, right, profile)
        if wrong is not None and float(out_units(actual, wrong).max()) <= 1.0:
            found.append(mistake)
    return by_mistakes(found) if found else None


def foretold(mistake: Mistake, scene: Scene, right: Bounded, profile: NumericsProfile) -> Bounded | None:
    """Return what a kernel of ``profile`` with this mistake answers, with its bound; None: the ``right`` answer."""
    mistaken = mistake.apply(scene)
    if mistaken is None:
        return None
    answer_dtype = scene.case.answer_dtype
    if isinstance(mistaken, Answer):
        # its elements may be those of other heads or dims of their row, so the widest bound of the row counts
        widest = right.out_bound.amax(dim=(1, 2), keepdim=True).expand_as(right.out_bound)
        wrong = bounded_like(mistaken, Bounded(right.answer, widest, right.lse_bound), answer_dtype)
    else:
        wrong = bounded_answer(mistaken, profile, answer_dtype)
    return None if torch.equal(wrong.answer.out, right.answer.out) else wrong


def by_mistakes(found: Sequence[Mistake]) -> Explanation:
    """Return the explanation of an answer by ``found``, of which there is one at least."""
    explains = "that explains" if len(found) == 1 else "each explains"
    return Explanation(
        clause=found[0].clause,
        suspicion=f"{'; or '.join(mistake.text for mistake in found)} ({explains} every element of the request)",
        exact=True,
        diagnosis=found[0].text,
        mistakes=tuple(mistake.name for mistake in found),
        found=tuple(found),
    )


def _suspect_key(trial: Trial, scene: Scene, row: Row, actual: torch.Tensor) -> Explanation:
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
        if beyond and reads_dead_slots(trial, scene.layer):
            return Explanation(
                clause=Clause.DEAD_SLOTS,
                keys=f"no live key has such a value; {visible}",
                suspicion=DEAD_SLOT,
                diagnosis=DEAD_SLOT,
            )
        return Explanation(clause=UNEXPLAINED_CLAUSE, keys=f"no single live key explains it; {visible}")
    left = (weighted - row.weights[key] * row.values[key]) / (mass - row.weights[key] + row.sink)
    whole = float((actual - left).norm()) <= _REMAINDER * float(deviation.norm())
    suspicion = "a key in sight is lost" if lost and whole else ("" if in_sight else OUT_OF_SIGHT)
    case = scene.logical.case
    page = scene.layout.page(pool_of(case, case.owner(scene.layer)), scene.request, key)
    return Explanation(
        clause=clause_of_key(row, key, in_sight=in_sight, lost=lost and whole),
        keys=f"key {key} seems {'lost or underweighted' if lost else 'read too much'}; {visible}",
        suspicion=suspicion,
        diagnosis=suspicion,
        page=page,
        slot=key % scene.layout.page_size,
    )
