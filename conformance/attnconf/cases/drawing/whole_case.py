"""A whole case: how it is drawn from a space, choice by choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.case import Case, Layer, Poison
from attnconf.cases.drawing.extremes import draw_extreme
from attnconf.cases.drawing.layers import narrow_layers
from attnconf.cases.drawing.requests import draw_paging, draw_requests
from attnconf.cases.drawing.space import CompiledShape, T

if TYPE_CHECKING:
    from attnconf.cases.case import KVDtype, PoisonKind, QDtype
    from attnconf.cases.drawing.choices import Choices
    from attnconf.cases.drawing.extremes import Extreme
    from attnconf.cases.drawing.space import Space

KV_SCALES = (0.5, 0.25, 0.4, 1.5, 2.0)
SERVED_PAGE_SIZES = (16, 32, 64)
SERVED_DTYPES: tuple[tuple[QDtype, KVDtype], ...] = (("float16", "float16"), ("bfloat16", "bfloat16"))
"""What engines serve and every kernel takes. It is drawn twice as often: a kernel runs a layer only if it takes all."""


def draw_case(choices: Choices, space: Space) -> Case:
    """Draw one case of ``space``. It is valid whatever is chosen: none is drawn in vain."""
    mode = choices.pick("mode", space.modes)
    extreme = draw_extreme(choices, mode, built=space.shapes is not None) if space.extremes else "none"
    shape = space.shapes(choices) if space.shapes is not None else _any_shape(space, choices, extreme)
    layers, page_size, q_dtype, kv_dtype = shape.layers, shape.page_size, shape.q_dtype, shape.kv_dtype
    if kv_dtype == "float8_e4m3fn":
        layers = tuple(_scaled(choices.within(f"scales {index}"), layer) for index, layer in enumerate(layers))
    windows = [layer.window_left for layer in layers if layer.kind == "sliding"]
    requests = draw_requests(choices, space, mode, page_size, windows, extreme)
    all_sliding = len(windows) == len(layers)
    paging = draw_paging(choices.within("paging"), space, page_size, windows, extreme, all_sliding=all_sliding)
    padding_rows = choices.pick("padding rows", (0, 1, 3)) if mode == "decode" else 0
    return Case(
        model=space.model,
        mode=mode,
        q_dtype=q_dtype,
        kv_dtype=kv_dtype,
        layers=layers,
        requests=requests,
        paging=paging,
        padding_rows=padding_rows,
        padding_kv_len=choices.below("padding kv_len", 2) if padding_rows else 0,
        poison=choices.pick("poison", _poisons(kv_dtype)),
        seed=choices.below("seed", 2**31),
    )


def _poisons(kv_dtype: KVDtype) -> list[Poison]:
    """Return what may lie in dead slots: half of the time contents that every backend must tolerate.

    They look like live memory: a leak of them is a plausible number, while a leak of NaN is obvious. The check of
    clause 6 asks every case again with all that a backend promises to tolerate.
    """
    calm: tuple[PoisonKind, ...] = ("stale", "zero")
    harsh: tuple[PoisonKind, ...] = ("huge", "nan") if kv_dtype == "float8_e4m3fn" else ("huge", "inf", "nan")
    calm_pairs = [Poison(k=k, v=v) for k in calm for v in calm]
    pairs = [Poison(k=k, v=v) for k in calm + harsh for v in calm + harsh if k in harsh or v in harsh]
    return calm_pairs * (len(pairs) // len(calm_pairs)) + pairs


def _any_shape(space: Space, choices: Choices, extreme: Extreme) -> CompiledShape:
    layers = space.layers(choices) if extreme == "none" else narrow_layers(choices, extreme)
    q_dtype, kv_dtype = choices.pick("dtypes", _weighted(space.dtypes, SERVED_DTYPES))
    page_size = (
        1 if extreme == "page ids" else choices.pick("page_size", _weighted(space.page_sizes, SERVED_PAGE_SIZES))
    )
    return CompiledShape(layers=layers, page_size=page_size, q_dtype=q_dtype, kv_dtype=kv_dtype)


def _weighted(options: tuple[T, ...], often: tuple[T, ...]) -> tuple[T, ...]:
    """Return ``options`` with those that are drawn ``often`` twice."""
    return (*options, *(option for option in often if option in options))


def _scaled(choices: Choices, layer: Layer) -> Layer:
    k_scale = choices.pick("k_scale", KV_SCALES)
    v_scale = choices.pick("v_scale", [scale for scale in KV_SCALES if scale != k_scale])
    return layer.model_copy(update={"k_scale": k_scale, "v_scale": v_scale})
