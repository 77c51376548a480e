"""Whose traits a layer is given: those of the owner of its cache, or of the model's first layer (clauses 9 and 18)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.cases.dtypes import FP8
from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake, unless_alike

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.judging.mistakes.mistake import Apply
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle.problem import Problem


def _owners(change: Callable[[Scene], Problem | None]) -> Apply:
    """Change a redirected layer: ``change`` gives it a trait of its owner, or returns None where it has the same."""

    def apply(scene: Scene) -> Problem | None:
        return None if scene.case.owner(scene.layer) == scene.layer else change(scene)

    return apply


def _owners_scale(scene: Scene) -> Problem | None:
    theirs = scene.owner.sm_scale
    return replace(scene.problem, sm_scale=theirs) if scene.weighs and theirs != scene.problem.sm_scale else None


def _owners_sight(scene: Scene) -> Problem | None:
    owner = scene.owner
    wrong = replace(scene.problem, window_left=owner.window_left, chunk_size=owner.chunk_size)
    return unless_alike(scene.problem, wrong)


def _owners_cap(scene: Scene) -> Problem | None:
    theirs = scene.owner.logits_soft_cap
    return replace(scene.problem, soft_cap=theirs) if scene.weighs and theirs != scene.problem.soft_cap else None


def _owners_sinks(scene: Scene) -> Problem | None:
    own, owner = scene.problem, scene.case.owner(scene.layer)
    theirs = scene.logical.problem(owner, scene.request, own.k.device).sinks
    if theirs is None:
        return None if own.sinks is None else replace(own, sinks=None)
    same = own.sinks is not None and own.sinks.equal(theirs)
    return None if same or len(theirs) != own.q.shape[1] else replace(own, sinks=theirs)


def _first_layers_k_scale(scene: Scene) -> Problem | None:
    first = scene.case.layers[0].k_scale
    return None if first == scene.owner.k_scale or scene.owner.k_scales else replace(scene.problem, k_scale=first)


def _first_layers_v_scale(scene: Scene) -> Problem | None:
    first = scene.case.layers[0].v_scale
    return None if first == scene.owner.v_scale or scene.owner.v_scales else replace(scene.problem, v_scale=first)


def _first_layers_q_scale(scene: Scene) -> Problem | None:
    first = scene.case.layers[0].q_scale
    alike = scene.case.q_dtype != FP8 or first == scene.problem.q_scale
    return None if alike else replace(scene.problem, q_scale=first)


def _first_layers_out_scale(scene: Scene) -> Problem | None:
    first = scene.case.layers[0].out_scale
    alike = scene.case.answer_dtype != FP8 or first == scene.problem.out_scale
    return None if alike else replace(scene.problem, out_scale=first)


def _of_owner(name: str, change: Callable[[Scene], Problem | None]) -> Mistake:
    text = f"the redirected layer is given its owner's {name}"
    return Mistake(f"owner's {name}", "shared_kv", Clause.KV_SHARING, text, _owners(change), claimed=False)


TRAITS = (
    _of_owner("sm_scale", _owners_scale),
    _of_owner("window", _owners_sight),
    _of_owner("soft cap", _owners_cap),
    _of_owner("sinks", _owners_sinks),
    Mistake(
        "first layer's k_scale",
        "k_scale",
        Clause.QUANTISED,
        "every layer is given the first one's k_scale",
        _first_layers_k_scale,
        claimed=False,
    ),
    Mistake(
        "first layer's v_scale",
        "k_scale",
        Clause.QUANTISED,
        "every layer is given the first one's v_scale",
        _first_layers_v_scale,
        claimed=False,
    ),
    Mistake(
        "first layer's q_scale",
        "q_scale",
        Clause.QUANTISED,
        "every layer is given the first one's q_scale",
        _first_layers_q_scale,
        claimed=False,
    ),
    Mistake(
        "first layer's out_scale",
        "out_scale",
        Clause.QUANTISED,
        "every layer is given the first one's out_scale",
        _first_layers_out_scale,
        claimed=False,
    ),
)
