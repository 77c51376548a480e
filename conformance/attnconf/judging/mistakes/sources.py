"""Whose keys and values are read, and with which scales: heads, KV sharing, quantised KV (clauses 4, 9 and 18)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from attnconf.cases.dtypes import FP8
from attnconf.cases.inputs.poison import bits
from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.judging.mistakes.mistake import Apply, Mistaken
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle.problem import Problem


_SCALES = ("k_scale", "v_scale", "k_scales", "v_scales")
"""The scales of a layer's own cache."""


def _heads(change: Callable[[torch.Tensor, int, int], torch.Tensor]) -> Apply:
    """Map query heads to KV heads by ``change(heads, num_qo_heads, num_kv_heads)``."""

    @lru_cache(maxsize=64)
    def changed(qo: int, kv: int) -> torch.Tensor | None:
        """Return the wrong map, or None where it is the right one. It is computed once."""
        heads = torch.arange(qo)
        mapping = change(heads, qo, kv).clamp_max(kv - 1)
        return None if torch.equal(mapping, heads // (qo // kv)) else mapping

    def apply(scene: Scene) -> Problem | None:
        mapping = changed(scene.problem.q.shape[1], scene.problem.k.shape[1])
        return None if mapping is None else replace(scene.problem, kv_head_of=mapping)

    return apply


def _next_values(scene: Scene) -> Problem | None:
    problem = scene.problem
    return replace(problem, v=bits(problem.v).roll(-1, 1).view(problem.v.dtype)) if problem.v.shape[1] > 1 else None


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _kv_factors(change: Callable[[float, float], tuple[float, float]]) -> Apply:
    """Read stored bytes with other scales than (k_scale, v_scale)."""

    def apply(scene: Scene) -> Problem | None:
        right = (scene.owner.k_scale, scene.owner.v_scale)
        wrong = change(*right)
        return None if wrong == right else replace(scene.problem, k_scale=wrong[0], v_scale=wrong[1])

    return apply


def _q_factor(change: Callable[[float, float], float]) -> Apply:
    """Count stored queries with another scale than they have, by that one and the layer's q_scale."""

    def apply(scene: Scene) -> Problem | None:
        wrong = change(scene.problem.q_scale, scene.case.layers[scene.layer].q_scale)
        return None if wrong == scene.problem.q_scale else replace(scene.problem, q_scale=wrong)

    return apply


def _out_factor(change: Callable[[float, float], float]) -> Apply:
    """Store the answer with another scale than it has, by that one and the layer's out_scale."""

    def apply(scene: Scene) -> Problem | None:
        wrong = change(scene.problem.out_scale, scene.case.layers[scene.layer].out_scale)
        return None if wrong == scene.problem.out_scale else replace(scene.problem, out_scale=wrong)

    return apply


def _owners_q_scale(scene: Scene) -> Mistaken:
    own = scene.case.owner(scene.layer) == scene.layer
    return None if own else _q_factor(lambda _right, _own: scene.owner.q_scale)(scene)


def _owners_out_scale(scene: Scene) -> Mistaken:
    own = scene.case.owner(scene.layer) == scene.layer or scene.case.answer_dtype != FP8
    return None if own else _out_factor(lambda _right, _own: scene.owner.out_scale)(scene)


def _own_scales(scene: Scene) -> Mistaken:
    own, owner = scene.case.layers[scene.layer], scene.owner
    scales = {name: getattr(own, name) for name in _SCALES}
    return (
        None if all(getattr(owner, name) == one for name, one in scales.items()) else replace(scene.problem, **scales)
    )


def _own_head_scales(scene: Scene) -> Mistaken:
    own, right = scene.case.layers[scene.layer], scene.problem
    scales = {name: getattr(own, name) for name in ("k_scales", "v_scales")}
    return None if (right.k_scales, right.v_scales) == (own.k_scales, own.v_scales) else replace(right, **scales)


def _own_kv(scene: Scene) -> Problem | None:
    return None if scene.case.owner(scene.layer) == scene.layer else _kv_of(scene, scene.layer)


def _others_kv(scene: Scene) -> Problem | None:
    """Read the cache of another owner of the same shape, if there is one."""
    owner = scene.case.owner(scene.layer)
    if owner == scene.layer:
        return None
    wanted = (scene.owner.kind, scene.owner.kv_shape)
    for index, layer in enumerate(scene.case.layers):
        if index != owner and layer.kv_owner is None and (layer.kind, layer.kv_shape) == wanted:
            return _kv_of(scene, index)
    return None


def _kv_of(scene: Scene, layer: int) -> Problem:
    """Return the question with the keys, values and scales of another layer's own cache."""
    own, keys = scene.logical.on(layer, scene.problem.k.device), scene.logical.keys(scene.request)
    scales = {name: getattr(scene.case.layers[layer], name) for name in _SCALES}
    return replace(scene.problem, k=own.k[keys], v=own.v[keys], **scales)


SOURCES = (
    Mistake(
        "head modulo", "gqa", Clause.GQA, "query heads map to KV heads by modulo", _heads(lambda h, _qo, kv: h % kv)
    ),
    Mistake(
        "head by kv",
        "gqa",
        Clause.GQA,
        "query heads are divided by num_kv_heads, not by the group size",
        _heads(lambda h, _qo, kv: h // kv),
    ),
    Mistake("first head", "gqa", Clause.GQA, "all query heads read KV head 0", _heads(lambda h, _qo, _kv: h * 0)),
    Mistake(
        "next head",
        "gqa",
        Clause.GQA,
        "each query head reads the KV head behind its own",
        _heads(lambda h, qo, kv: (h // (qo // kv) + 1) % kv),
    ),
    Mistake(
        "heads reversed",
        "gqa",
        Clause.GQA,
        "KV heads are numbered from the last one",
        _heads(lambda h, qo, kv: kv - 1 - h // (qo // kv)),
        claimed=False,
    ),
    Mistake(
        "last head lost",
        "gqa",
        Clause.GQA,
        "the last KV head is taken for the one before it",
        _heads(lambda h, qo, kv: (h // (qo // kv)).clamp_max(max(0, kv - 2))),
        claimed=False,
    ),
    Mistake(
        "values of the next head",
        "gqa",
        Clause.GQA,
        "values are read of the KV head behind that of the keys",
        _next_values,
        claimed=False,
    ),
    Mistake(
        "padded group",
        "gqa",
        Clause.GQA,
        "the group size is rounded up to a power of two",
        _heads(lambda h, qo, kv: h // _power_of_two(qo // kv)),
    ),
    Mistake(
        "heads wrap",
        "gqa",
        Clause.GQA,
        "the number of a KV head wraps at a power of two",
        _heads(lambda h, qo, kv: h // (qo // kv) % max(1, _power_of_two(kv) // 2)),
    ),
    Mistake(
        "own KV", "shared_kv", Clause.KV_SHARING, "the redirected layer reads its own cache, not its owner's", _own_kv
    ),
    Mistake(
        "own scales",
        "shared_kv",
        Clause.KV_SHARING,
        "the redirected layer uses its own k_scale and v_scale",
        _own_scales,
    ),
    Mistake(
        "own scales of heads",
        "shared_kv",
        Clause.KV_SHARING,
        "the redirected layer uses the scales of its own KV heads",
        _own_head_scales,
        claimed=False,
    ),
    Mistake(
        "another's KV", "shared_kv", Clause.KV_SHARING, "the redirected layer reads another owner's cache", _others_kv
    ),
    Mistake("k_scale off", "k_scale", Clause.QUANTISED, "k_scale is ignored", _kv_factors(lambda _k, v: (1.0, v))),
    Mistake("v_scale off", "v_scale", Clause.QUANTISED, "v_scale is ignored", _kv_factors(lambda k, _v: (k, 1.0))),
    Mistake(
        "scales swapped",
        "k_scale",
        Clause.QUANTISED,
        "k_scale and v_scale are swapped",
        _kv_factors(lambda k, v: (v, k)),
    ),
    Mistake(
        "k_scale squared",
        "k_scale",
        Clause.QUANTISED,
        "k_scale is applied twice",
        _kv_factors(lambda k, v: (k * k, v)),
    ),
    Mistake(
        "v_scale squared",
        "v_scale",
        Clause.QUANTISED,
        "v_scale is applied twice",
        _kv_factors(lambda k, v: (k, v * v)),
    ),
    Mistake("q_scale off", "q_scale", Clause.QUANTISED, "q_scale is ignored", _q_factor(lambda _right, _own: 1.0)),
    Mistake(
        "q_scale once more",
        "q_scale",
        Clause.QUANTISED,
        "q_scale is applied once too often",
        _q_factor(lambda right, own: right * own),
    ),
    Mistake(
        "owner's q_scale",
        "q_scale",
        Clause.QUANTISED,
        "the redirected layer's queries are counted with its owner's q_scale",
        _owners_q_scale,
        claimed=False,
    ),
    Mistake(
        "out_scale off",
        "out_scale",
        Clause.QUANTISED,
        "the answer is stored without its out_scale",
        _out_factor(lambda _right, _own: 1.0),
    ),
    Mistake(
        "out_scale once more",
        "out_scale",
        Clause.QUANTISED,
        "out_scale is applied once too often",
        _out_factor(lambda right, own: right * own),
    ),
    Mistake(
        "owner's out_scale",
        "out_scale",
        Clause.QUANTISED,
        "the redirected layer's answer is stored with its owner's out_scale",
        _owners_out_scale,
        claimed=False,
    ),
    Mistake(
        "out_scale inverted",
        "out_scale",
        Clause.QUANTISED,
        "the answer is multiplied by out_scale, not divided",
        _out_factor(lambda right, _own: 1.0 / right),
        claimed=False,
    ),
)
