"""Hypothesis strategies for cases: biased to borders, shrinking to one request, one page, one head.

Strategies filter no drawn case away. Importable without pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from attnconf.cases.case import Case, Layer, Poison
from attnconf.cases.drawing.choices import Choices
from attnconf.cases.drawing.extremes import MANY_KV_HEADS, MANY_LAYERS, draw_extreme
from attnconf.cases.drawing.requests import draw_paging, draw_requests
from attnconf.cases.drawing.space import CompiledShape, T

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn

    from attnconf.cases.case import KVDtype, PoisonKind, QDtype
    from attnconf.cases.drawing.extremes import Extreme
    from attnconf.cases.drawing.space import Draw, Space
    from attnconf.cases.geometry import LayerGeometry


HEAD_DIMS = (16, 32, 64, 80, 96, 128, 192, 256, 512)
NARROW_HEAD_DIMS = (64, 128)
GROUP_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 16)
MANY_HEADS = (12, 32)
"""Group sizes of a single KV head alone: beyond a tile of query heads, and no power of two."""
KV_HEADS = (1, 2, 3, 4)
MOST_QUERY_HEADS = 32
WINDOWS = (0, 1, 3, 15, 16, 17, 31, 63, 64, 65, 127, 128, 200)
SOFT_CAPS = (5.0, 20.0, 30.0, 50.0)
KV_SCALES = (0.5, 0.25, 0.4, 1.5, 2.0)
SERVED_HEAD_DIMS = (64, 128, 256)
SERVED_PAGE_SIZES = (16, 32, 64)
SERVED_DTYPES: tuple[tuple[QDtype, KVDtype], ...] = (("float16", "float16"), ("bfloat16", "bfloat16"))
"""What engines serve and every kernel takes. It is drawn twice as often: a kernel runs a layer only if it takes all."""


def model_layers(layers: Sequence[LayerGeometry]) -> Draw[tuple[Layer, ...]]:
    """Draw the given layers as they are; only the scales of quantised KV are added later."""
    fixed = tuple(Layer.model_validate(layer.model_dump()) for layer in layers)
    return lambda _choices: fixed


def free_layers() -> Draw[tuple[Layer, ...]]:
    """Draw one to three layers of any geometry: now and then a redirected one, or two that one kernel serves."""
    return _free_layers


def _free_layers(choices: Choices) -> tuple[Layer, ...]:
    layers = [_free_layer(choices.within("layer 0"))]
    if choices.flip("second layer"):
        own = choices.within("layer 1")
        layers.append(_same_kernel(own, layers[0]) if own.flip("same kernel") else _free_layer(own))
    if choices.flip("redirected layer"):
        own = choices.within("redirected")
        owner = own.below("owner", len(layers))
        layers.append(_same_kernel(own, layers[owner]).model_copy(update={"kv_owner": owner}))
    return tuple(layers)


def _same_kernel(choices: Choices, layer: Layer) -> Layer:
    """Return a layer of the same compile-time shape: only what a kernel gets at each call differs."""
    changed: dict[str, object] = {"sm_scale": choices.pick("sm_scale", _sm_scales(layer.head_dim))}
    if layer.kind == "sliding":
        changed["window_left"] = choices.pick("window", WINDOWS)
    if layer.logits_soft_cap is not None:
        changed["logits_soft_cap"] = choices.pick("cap", SOFT_CAPS)
    return layer.model_copy(update=changed)


def _sm_scales(head_dim: int) -> tuple[float, ...]:
    return (head_dim**-0.5, 1.0, 0.1)


def _free_layer(choices: Choices) -> Layer:
    window = choices.pick("window", WINDOWS) if choices.flip("windowed") else -1
    head_dim = choices.pick("head_dim", (*HEAD_DIMS, *SERVED_HEAD_DIMS))
    num_kv_heads = choices.pick("kv heads", KV_HEADS)
    groups = GROUP_SIZES if num_kv_heads > 1 else (*GROUP_SIZES, *MANY_HEADS)
    group = choices.pick("group", [size for size in groups if size * num_kv_heads <= MOST_QUERY_HEADS])
    return Layer(
        kind="full" if window < 0 else "sliding",
        window_left=window,
        num_kv_heads=num_kv_heads,
        num_qo_heads=num_kv_heads * group,
        head_dim=head_dim,
        sm_scale=choices.pick("sm_scale", _sm_scales(head_dim)),
        logits_soft_cap=choices.pick("cap", SOFT_CAPS) if choices.below("capped", 3) == 2 else None,  # noqa: PLR2004
        sinks=choices.flip("sinks"),
    )


def _narrow_layers(choices: Choices, extreme: Extreme) -> tuple[Layer, ...]:
    """Draw one layer of small heads, or many that one kernel serves: of both kinds, and redirected to any of them."""
    layers = [_narrow_layer(choices.within("layer 0"), extreme)]
    if extreme != "layers":
        return tuple(layers)
    other = (
        {"kind": "sliding", "window_left": WINDOWS[3]}
        if layers[0].kind == "full"
        else {"kind": "full", "window_left": -1}
    )
    layers.append(layers[0].model_copy(update=other))
    for index in range(2, choices.pick("layers", MANY_LAYERS)):
        own = choices.within(f"layer {index}")
        like = own.pick("like", [i for i, layer in enumerate(layers) if layer.kv_owner is None])
        owner = like if own.below("redirected", 4) else None
        layers.append(_same_kernel(own, layers[like]).model_copy(update={"kv_owner": owner}))
    return tuple(layers)


def _narrow_layer(choices: Choices, extreme: Extreme) -> Layer:
    """Draw a layer of few small heads, or of many."""
    window = choices.pick("window", WINDOWS) if choices.flip("windowed") else -1
    head_dim = choices.pick("head_dim", NARROW_HEAD_DIMS[: 1 if extreme == "page ids" else None])
    num_kv_heads = choices.pick("kv heads", MANY_KV_HEADS if extreme == "heads" else KV_HEADS[:2])
    return Layer(
        kind="full" if window < 0 else "sliding",
        window_left=window,
        num_kv_heads=num_kv_heads,
        num_qo_heads=num_kv_heads * choices.pick("group", GROUP_SIZES[:3]),
        head_dim=head_dim,
        sm_scale=choices.pick("sm_scale", _sm_scales(head_dim)),
        sinks=choices.flip("sinks"),
    )


@st.composite
def cases(draw: DrawFn, space: Space) -> Case:
    """Draw one case of ``space``."""
    choices = Choices(draw)
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
    layers = space.layers(choices) if extreme == "none" else _narrow_layers(choices, extreme)
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
