"""The semantic mistakes that attention backends make, each as another question put to the oracle.

``effects.py`` asks how far each would move the answer of a case; ``diagnose.py`` which one explains a wrong answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from attnconf.inputs.assemble import pool_of
from attnconf.inputs.poison import STALE_SCALE
from attnconf.layout import NULL_PAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.inputs.logical import Logical
    from attnconf.layout import Layout
    from attnconf.oracle import Problem

LN2 = 0.6931471805599453


@dataclass(frozen=True)
class Scene:
    """What a mistake can draw on: one request on one layer of a laid-out case."""

    logical: Logical
    layout: Layout
    layer: int
    request: int
    problem: Problem

    def keys_at(self, pages: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values as they would be read through other ``pages`` of the layer's pool.

        Slots that no live token owns yield stale noise.
        """
        case, size = self.logical.case, self.layout.page_size
        owner = case.owner(self.layer)
        pool = pool_of(case, owner)
        source = self.logical.layers[owner]
        token_of = torch.full((max(self.layout.num_pages[pool], *pages, 0) + 1, size), -1, dtype=torch.int64)
        for request, spec in enumerate(case.requests):
            stored = self.layout.pages(pool, request, spec.kv_len)
            tokens = torch.arange(spec.kv_len)
            live = stored != NULL_PAGE
            token_of[stored[live], tokens[live] % size] = self.logical.kv_starts[request] + tokens[live]
        count = self.problem.k.shape[0]
        index = token_of[torch.tensor(pages, dtype=torch.int64)].reshape(-1)[:count]
        scales = case.layers[owner]
        device = self.problem.k.device
        unknown = (index < 0).to(device)
        safe = index.clamp_min(0)
        k = source.k[safe].to(device).double() * scales.k_scale
        v = source.v[safe].to(device).double() * scales.v_scale
        # A page of noise is enough: it is repeated, as in memory that one earlier request left behind.
        rng = torch.Generator().manual_seed(case.seed)
        noise = torch.randn((2, size, *k.shape[1:]), generator=rng, dtype=torch.float64).to(device)
        slots = torch.arange(int(unknown.sum()), device=device) % size
        k[unknown], v[unknown] = noise[0][slots], STALE_SCALE * noise[1][slots]
        return k, v


@dataclass(frozen=True)
class Mistake:
    """A known kind of bug: ``apply`` returns the question that it answers, or None where it makes no difference.

    ``feature`` is what a case must have for it, ``clause`` the clause of the contract that it breaks.
    """

    name: str
    feature: str
    clause: int
    text: str
    apply: Callable[[Scene], Problem | None]


def _window(change: int | None) -> Callable[[Scene], Problem | None]:
    def apply(scene: Scene) -> Problem | None:
        window = scene.problem.window_left
        if window < 0 or (change is not None and window + change < 0):
            return None
        return replace(scene.problem, window_left=-1 if change is None else window + change)

    return apply


def _from_row_zero(scene: Scene) -> Problem | None:
    spec = scene.logical.case.requests[scene.request]
    return replace(scene.problem, positions=scene.problem.positions - spec.prefix_len) if spec.prefix_len else None


def _causal_off(scene: Scene) -> Problem | None:
    return replace(scene.problem, causal=False) if scene.problem.positions.numel() > 1 else None


def _strict(scene: Scene) -> Problem | None:
    return (
        replace(scene.problem, k=scene.problem.k[:-1], v=scene.problem.v[:-1]) if scene.problem.k.shape[0] > 1 else None
    )


def _scale(change: Callable[[Scene], float]) -> Callable[[Scene], Problem | None]:
    def apply(scene: Scene) -> Problem | None:
        scale = change(scene)
        return None if abs(scale / scene.problem.sm_scale - 1.0) < 1e-3 else replace(scene.problem, sm_scale=scale)  # noqa: PLR2004

    return apply


def _heads(change: Callable[[torch.Tensor, int, int], torch.Tensor]) -> Callable[[Scene], Problem | None]:
    def apply(scene: Scene) -> Problem | None:
        qo, kv = scene.problem.q.shape[1], scene.problem.k.shape[1]
        mapping = change(torch.arange(qo, device=scene.problem.q.device), qo, kv).clamp_max(kv - 1)
        return None if torch.equal(mapping, scene.problem.kv_head_of) else replace(scene.problem, kv_head_of=mapping)

    return apply


def _kv_factors(change: Callable[[float, float], tuple[float, float]]) -> Callable[[Scene], Problem | None]:
    """Read stored bytes with other scales than (k_scale, v_scale)."""

    def apply(scene: Scene) -> Problem | None:
        case = scene.logical.case
        scales = case.layers[case.owner(scene.layer)]
        k_scale, v_scale = change(scales.k_scale, scales.v_scale)
        if (k_scale, v_scale) == (scales.k_scale, scales.v_scale):
            return None
        k_factor, v_factor = k_scale / scales.k_scale, v_scale / scales.v_scale
        return replace(scene.problem, k=scene.problem.k * k_factor, v=scene.problem.v * v_factor)

    return apply


def _own_scales(scene: Scene) -> Problem | None:
    own = scene.logical.case.layers[scene.layer]
    return _kv_factors(lambda _k, _v: (own.k_scale, own.v_scale))(scene)


def _own_kv(scene: Scene) -> Problem | None:
    case = scene.logical.case
    if case.owner(scene.layer) == scene.layer:
        return None
    own, scales = scene.logical.layers[scene.layer], case.layers[scene.layer]
    keys = slice(scene.logical.kv_starts[scene.request], scene.logical.kv_starts[scene.request + 1])
    device = scene.problem.k.device
    return replace(
        scene.problem,
        k=own.k[keys].to(device).double() * scales.k_scale,
        v=own.v[keys].to(device).double() * scales.v_scale,
    )


def _pages(change: Callable[[Scene, list[int]], list[int] | None]) -> Callable[[Scene], Problem | None]:
    def apply(scene: Scene) -> Problem | None:
        case = scene.logical.case
        pool = pool_of(case, case.owner(scene.layer))
        size = scene.layout.page_size
        stored = scene.layout.pages(pool, scene.request, case.requests[scene.request].kv_len)
        right = stored[::size].tolist()
        wrong = change(scene, right)
        if not right or wrong is None or wrong == right:
            return None
        k, v = scene.keys_at(wrong)
        return replace(scene.problem, k=k, v=v)

    return apply


def _untranslated(scene: Scene, right: list[int]) -> list[int] | None:
    del right
    case = scene.logical.case
    if pool_of(case, case.owner(scene.layer)) == "full":
        return None
    return [page % scene.layout.num_pages["swa"] for page in scene.layout.tables[scene.request]]


def _neighbour(scene: Scene, right: list[int]) -> list[int] | None:
    others = [table for index, table in enumerate(scene.layout.tables) if index != scene.request and table]
    case = scene.logical.case
    if not others or pool_of(case, case.owner(scene.layer)) == "swa":
        return None
    longest = max(others, key=len)
    return [longest[min(column, len(longest) - 1)] for column in range(len(right))]


MISTAKES = (
    Mistake("window off", "window", 2, "the window is ignored", _window(None)),
    Mistake("window one more", "window", 2, "one key too many at the old end: window_left taken as W", _window(1)),
    Mistake(
        "window one less",
        "window",
        2,
        "the oldest key of the window is lost: window_left keys, not window_left + 1",
        _window(-1),
    ),
    Mistake("causal off", "causal", 1, "later keys are seen", _causal_off),
    Mistake("causal strict", "causal", 1, "the newest key of the request is lost", _strict),
    Mistake("top-left", "prefix", 1, "positions count from the first new token, not from the prefix", _from_row_zero),
    Mistake(
        "soft cap off",
        "soft_cap",
        3,
        "the soft cap is ignored",
        lambda s: replace(s.problem, soft_cap=None) if s.problem.soft_cap else None,
    ),
    Mistake(
        "sinks off",
        "sinks",
        3,
        "the sinks are ignored",
        lambda s: replace(s.problem, sinks=None) if s.problem.sinks is not None else None,
    ),
    Mistake(
        "scale squared",
        "sm_scale",
        3,
        "sm_scale is applied twice, or not at all",
        _scale(lambda s: s.problem.sm_scale**2),
    ),
    Mistake(
        "scale default",
        "sm_scale",
        3,
        "1/sqrt(head_dim) in place of sm_scale",
        _scale(lambda s: s.problem.q.shape[2] ** -0.5),
    ),
    Mistake("scale log2", "sm_scale", 3, "a factor log2(e) is missing", _scale(lambda s: s.problem.sm_scale * LN2)),
    Mistake("head modulo", "gqa", 4, "query heads map to KV heads by modulo", _heads(lambda h, _qo, kv: h % kv)),
    Mistake(
        "head by kv",
        "gqa",
        4,
        "query heads are divided by num_kv_heads, not by the group size",
        _heads(lambda h, _qo, kv: h // kv),
    ),
    Mistake("first head", "gqa", 4, "all query heads read KV head 0", _heads(lambda h, _qo, _kv: h * 0)),
    Mistake("neighbour's pages", "paging", 5, "another request's pages are read", _pages(_neighbour)),
    Mistake(
        "page off by one",
        "paging",
        5,
        "the next page id is read",
        _pages(lambda _s, right: [page + 1 for page in right]),
    ),
    Mistake(
        "first page",
        "paging",
        5,
        "the first page is read for every page",
        _pages(lambda _s, right: right[:1] * len(right)),
    ),
    Mistake("untranslated", "hybrid", 8, "page ids of the full pool index the sliding pool", _pages(_untranslated)),
    Mistake("own KV", "shared_kv", 9, "the redirected layer reads its own cache, not its owner's", _own_kv),
    Mistake("own scales", "shared_kv", 9, "the redirected layer uses its own k_scale and v_scale", _own_scales),
    Mistake("k_scale off", "k_scale", 18, "k_scale is ignored", _kv_factors(lambda _k, v: (1.0, v))),
    Mistake("v_scale off", "v_scale", 18, "v_scale is ignored", _kv_factors(lambda k, _v: (k, 1.0))),
    Mistake("scales swapped", "k_scale", 18, "k_scale and v_scale are swapped", _kv_factors(lambda k, v: (v, k))),
    Mistake("v_scale squared", "v_scale", 18, "v_scale is applied twice", _kv_factors(lambda k, v: (k, v * v))),
)
