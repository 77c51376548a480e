"""A whole case: how it is drawn from a space, choice by choice."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, get_args

from attnconf.cases.case import Case, Poison, QuerySide, QueryStorage
from attnconf.cases.drawing.extremes import FAINT, LARGE_PAGES, draw_extreme, ladder, modes_of
from attnconf.cases.drawing.layers import narrow_layers
from attnconf.cases.drawing.requests import draw_paging, draw_requests
from attnconf.cases.drawing.scales import with_scales
from attnconf.cases.drawing.serving import Load, load_requests
from attnconf.cases.drawing.space import CompiledShape, T, standing_in
from attnconf.cases.drawing.spans import with_spans
from attnconf.cases.drawing.trees import with_trees
from attnconf.cases.dtypes import FP8, QUANTISED, Dtypes, KVDtype

if TYPE_CHECKING:
    from attnconf.cases.case import PoisonKind
    from attnconf.cases.drawing.choices import Choices
    from attnconf.cases.drawing.extremes import Card, Extreme, Feature
    from attnconf.cases.drawing.space import Space

SERVED_PAGE_SIZES = (16, 32, 64)
SERVED_DTYPES = (Dtypes("float16", "float16", "float16"), Dtypes("bfloat16", "bfloat16", "bfloat16"))
"""What engines serve and every kernel takes. It is drawn twice as often: a kernel runs a layer only if it takes all."""

SLACK_ROWS = (0, 0, 1, 5, 16)
"""Rows behind the last request: engines pad to the next size for which they captured a graph."""

CONTEXTS = (131_072, 2**20)
"""Context lengths of models, which engines pass as the longest sequence of every batch."""

_RARE_ONE_IN = 4
"""Of so many cases over KV of e4m3 one has it in a rare format."""

_TRIES = 40
"""Built shapes that are drawn until one has a card's feature."""


def draw_case(choices: Choices, space: Space, given: Card | Load | None = None) -> Case:
    """Draw one case of ``space``, that of a card or of a load if one is given. It is valid whatever is chosen."""
    load = given if isinstance(given, Load) else None
    card = None if isinstance(given, Load) else given
    feature = None if card is None else card.feature
    space = space if card is None else replace(space, part=card.part)
    mode = choices.pick("mode", space.modes if card is None else modes_of(card, space.modes))
    extreme: Extreme = "none"
    if space.extremes:
        extreme = (
            draw_extreme(choices, mode, built=space.shapes is not None, far=space.far) if card is None else card.extreme
        )
    shape = _built_shape(space, choices, extreme, feature) or _any_shape(space, choices, extreme, feature)
    layers, page_size, dtypes = shape.layers, shape.page_size, shape.dtypes
    if dtypes.kv in QUANTISED:
        layers = tuple(
            with_scales(choices.within(f"scales {index}"), one, dtypes, by_head=space.head_scales)
            for index, one in enumerate(layers)
        )
    windows = [layer.window_left for layer in layers if layer.kind == "sliding"]
    reaches = [layer.reach for layer in layers if layer.reach >= 0]
    if load is None:
        requests = draw_requests(choices, space, mode, page_size, reaches, extreme)
    else:
        requests = load_requests(choices, mode, load, reaches, space.verify_lens)
    requests = with_spans(choices, requests, layers, mode)
    if not any(layer.bidirectional for layer in layers):
        requests = with_trees(choices, requests, mode)
    all_sliding = len(windows) == len(layers)
    paging = draw_paging(
        choices.within("paging"),
        replace(space, hybrid=True) if feature == "hybrid" else space,
        page_size,
        windows,
        extreme,
        all_sliding=all_sliding,
    )
    padding_rows = choices.pick("padding rows", (0, 1, 3)) if mode in {"decode", "verify"} else 0
    return Case(
        model=space.model,
        mode=mode,
        q_dtype=dtypes.q,
        kv_dtype=dtypes.kv,
        out_dtype=dtypes.stated_out,
        layers=layers,
        requests=requests,
        paging=paging,
        padding_rows=padding_rows,
        padding_kv_len=choices.below("padding kv_len", 2) if padding_rows else 0,
        query=_query_side(choices.within("query")),
        poison=choices.pick("poison", _poisons(dtypes.kv)),
        seed=_seed(choices, extreme),
    )


def _query_side(choices: Choices) -> QuerySide:
    """Draw how the queries lie, and the host hint: half of the time a tight one."""
    return QuerySide(
        storage=choices.pick("storage", get_args(QueryStorage)),
        slack_rows=choices.pick("slack rows", SLACK_ROWS),
        context_len=choices.pick("context", (0, 0, *CONTEXTS)),
    )


def _seed(choices: Choices, extreme: Extreme) -> int:
    """Draw the seed; where scores are extreme, one that raises or lowers all of them (``logical.raw_base``)."""
    seed = choices.below("seed", 2**31)
    return seed if extreme != "scores" else seed // 8 * 8 + choices.pick("level", (2, 1))


@cache
def _poisons(kv_dtype: KVDtype) -> tuple[Poison, ...]:
    """Return what may lie in dead slots: half of the time contents that every backend must tolerate.

    They look like live memory: a leak of them is a plausible number, while a leak of NaN is obvious. The check of
    clause 6 asks every case again with all that a backend promises to tolerate, infinities of e5m2 among it.
    """
    calm: tuple[PoisonKind, ...] = ("stale", "zero")
    harsh: tuple[PoisonKind, ...] = ("huge", "nan") if kv_dtype in QUANTISED else ("huge", "inf", "nan")
    calm_pairs = [Poison(k=k, v=v) for k in calm for v in calm]
    pairs = [Poison(k=k, v=v) for k in calm + harsh for v in calm + harsh if k in harsh or v in harsh]
    return (*calm_pairs * (len(pairs) // len(calm_pairs)), *pairs)


def _built_shape(space: Space, choices: Choices, extreme: Extreme, feature: Feature | None) -> CompiledShape | None:
    """Draw one of the shapes that are built, which has the ``feature``; None where all shapes are free."""
    if space.shapes is None:
        return None
    shape = space.shapes(choices)
    for index in range(_TRIES):
        if feature is None or _has(shape, feature):
            break
        shape = space.shapes(choices.within(f"shape {index}"))
    if extreme != "scores":
        return shape
    faint = choices.pick("sm_scale", FAINT)
    return replace(shape, layers=tuple(layer.model_copy(update={"sm_scale": faint}) for layer in shape.layers))


def _has(shape: CompiledShape, feature: Feature) -> bool:
    """Return whether ``shape`` has ``feature``: all that are built have windows, hybrid pools and redirected layers."""
    return {
        "cap": shape.layers[0].logits_soft_cap is not None,
        "sinks": shape.layers[0].sinks,
        "fp8": shape.dtypes.kv == FP8,
    }.get(feature, True)


def _any_shape(space: Space, choices: Choices, extreme: Extreme, feature: Feature | None) -> CompiledShape:
    if extreme == "none":
        layers = space.layers(choices)
    else:
        layers = narrow_layers(choices, extreme, feature, far=space.far, part=space.part)
    fitting = tuple(one for one in space.dtypes if feature != "fp8" or one.kv == FP8)
    dtypes = choices.pick("dtypes", _weighted(fitting or space.dtypes, SERVED_DTYPES))
    formats = standing_in(space.formats, dtypes) if feature is None else ()
    if formats and choices.below("rare format", _RARE_ONE_IN) == _RARE_ONE_IN - 1:
        dtypes = dtypes._replace(kv=choices.pick("format", formats))
    if extreme == "page ids":
        page_size = 1
    elif extreme == "page size":
        page_size = choices.pick("page_size", ladder(extreme, LARGE_PAGES, far=space.far, part=space.part))
    else:
        page_size = choices.pick("page_size", _weighted(space.page_sizes, SERVED_PAGE_SIZES))
    return CompiledShape(layers=layers, page_size=page_size, dtypes=dtypes)


def _weighted(options: tuple[T, ...], often: tuple[T, ...]) -> tuple[T, ...]:
    """Return ``options`` with those that are drawn ``often`` twice."""
    return (*options, *(option for option in often if option in options))
