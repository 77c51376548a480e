"""Say what a wrong answer looks like: which known mistake explains it, which keys were read or lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from attnconf.inputs.assemble import pool_of
from attnconf.mistakes import MISTAKES
from attnconf.numerics import bounded_answer, out_units
from attnconf.oracle import attend
from attnconf.result import Place
from attnconf.shape import kernel_shape

if TYPE_CHECKING:
    from attnconf.mistakes import Scene
    from attnconf.trial import Trial

UNEXPLAINED_CLAUSE = 3
_HULL = 1.05
"""An answer is a mean of live values: beyond their largest by this factor, something else was read."""

_LIKENESS = 0.9
"""Cosine from which a deviation counts as pointing at one key."""


@dataclass(frozen=True)
class Explanation:
    """The clause that seems broken, the keys that seem involved, the kind of bug, and the key's place in memory."""

    clause: int
    keys: str = ""
    suspicion: str = ""
    page: int | None = None
    slot: int | None = None

    def place(self, layer: int, request: int, token: int, head: int, dim: int) -> Place:
        """Return the place of a wrong element together with that key's page and slot."""
        return Place(layer=layer, request=request, token=token, head=head, dim=dim, page=self.page, slot=self.slot)


def explain(trial: Trial, layer: int, request: int, token: int, head: int) -> Explanation:
    """Explain the base run's answer to query row ``token`` and ``head`` of ``request``."""
    actual = trial.outputs[layer].out[trial.question.rows(request)]
    scene = trial.question.scene(layer, request)
    if not bool(torch.isfinite(actual[token, head]).all()):
        return _not_finite(trial, request, token)
    keys = _suspect_key(scene, actual[token, head].double(), token, head)
    by_mistake = _matching_mistake(scene, trial, layer, actual)
    if by_mistake is not None:
        return replace(by_mistake, keys=keys.keys, page=keys.page, slot=keys.slot)
    return keys


def _not_finite(trial: Trial, request: int, token: int) -> Explanation:
    poison, spec = trial.case.poison, trial.case.requests[request]
    poisoned = {poison.k, poison.v} & {"nan", "inf", "huge"}
    position = spec.prefix_len + token
    if poisoned:
        return Explanation(
            clause=6,
            keys="a slot that no live token owns",
            suspicion=f"poison ({poison.k} keys, {poison.v} values) reached the row at position {position}:"
            " a dead slot was read",
        )
    return Explanation(
        clause=UNEXPLAINED_CLAUSE, suspicion="a value that is not finite, although every input slot is finite"
    )


def _matching_mistake(scene: Scene, trial: Trial, layer: int, actual: torch.Tensor) -> Explanation | None:
    """Return the first known mistake within whose own error bound the whole answer lies."""
    profile = trial.backend.numerics(kernel_shape(trial.case, layer))
    for mistake in MISTAKES:
        question = mistake.apply(scene)
        if question is None or attend(question).out.shape != actual.shape:
            continue
        if float(out_units(actual, bounded_answer(question, profile, trial.case.q_dtype)).max()) <= 1.0:
            return Explanation(
                clause=mistake.clause, suspicion=f"{mistake.text} (that explains every element of the request)"
            )
    return None


def _suspect_key(scene: Scene, actual: torch.Tensor, token: int, head: int) -> Explanation:
    """Find the one key whose loss or intrusion points from the right answer to the wrong one.

    Losing a key of mass p moves the output by p / (1 - p) (out - v); reading one more of relative mass w moves it by
    w / (1 + w) (v - out). So the deviation is along v - out, and its sign tells which of the two happened.
    """
    problem = scene.problem
    answer = attend(problem).out[token, head]
    deviation = actual - answer
    values = problem.v[:, problem.kv_head_of[head]]
    directions = values - answer
    likeness = (directions @ deviation) / (directions.norm(dim=1) * deviation.norm()).clamp_min(1e-30)
    if likeness.numel() == 0:
        return Explanation(clause=UNEXPLAINED_CLAUSE)
    key = int(likeness.abs().argmax())
    position = int(problem.positions[token])
    first = max(0, position - problem.window_left) if problem.window_left >= 0 else 0
    visible = f"positions {first} to {position} are visible"
    in_sight, lost = first <= key <= position, float(likeness[key]) < 0
    if float(likeness[key].abs()) < _LIKENESS or (lost and not in_sight):
        if bool((actual.abs() > _HULL * values.abs().amax(dim=0)).any()):
            return Explanation(
                clause=6, keys=f"no live key has such a value; {visible}", suspicion="a dead slot was read"
            )
        return Explanation(clause=UNEXPLAINED_CLAUSE, keys=f"no single live key explains it; {visible}")
    case = scene.logical.case
    page = scene.layout.page(pool_of(case, case.owner(scene.layer)), scene.request, key)
    return Explanation(
        clause=5 if in_sight else (2 if key < first else 1),
        keys=f"key {key} seems {'lost or underweighted' if lost else 'read too much'}; {visible}",
        suspicion="a key in sight is lost" if lost else ("" if in_sight else "a key out of sight is read"),
        page=page,
        slot=key % scene.layout.page_size,
    )
