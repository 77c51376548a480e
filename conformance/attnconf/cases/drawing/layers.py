"""The layers of a drawn case: those of a model as they are, or free ones of any geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnconf.cases.case import Layer
from attnconf.cases.drawing.extremes import FAINT, MANY_KV_HEADS, MANY_LAYERS, ladder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.drawing.choices import Choices
    from attnconf.cases.drawing.extremes import Extreme, Feature
    from attnconf.cases.drawing.space import Draw
    from attnconf.cases.geometry import LayerGeometry

HEAD_DIMS = (16, 32, 64, 80, 96, 128, 192, 256, 512)
NARROW_HEAD_DIMS = (64, 128)
GROUP_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 16)
MANY_HEADS = {1: (12, 24, 32, 48), 2: (20, 32)}
"""Further group sizes by the number of KV heads: beyond a tile of query heads, and no power of two."""
KV_HEADS = (1, 2, 3, 4)
MOST_QUERY_HEADS = 64
WINDOWS = (0, 1, 3, 15, 16, 17, 31, 63, 64, 65, 127, 128, 200)
CHUNKS = (2, 5, 16, 17, 48, 64, 100, 128)
"""Chunk sizes of chunked layers: of tiles and beside them, and no power of two."""

LONG_CHUNKS = (256, 300, 1024)
LONG_WINDOWS = (127, 255, 256, 300, 511, 1023)
"""Windows of layers that meet many rows or keys."""

VALUE_DIMS = {256: (128, 192), 192: (128,), 128: (64, 80), 64: (32, 128), 32: (64,)}
"""Widths of values that are not those of keys, by head_dim: MiMo's 128 under 192, and others beside tiles."""

_VALUES_ONE_IN = 6
"""Of so many layers of such a head_dim one has values of another width."""

_CHUNKED_ONE_IN = 6
"""Of so many layers without a window one is chunked."""

_SPANS_ONE_IN = 4
"""Of so many layers one follows spans."""

_BOTH_WAYS_ONE_IN = 12
"""Of so many layers that are not chunked one is bidirectional."""

SOFT_CAPS = (5.0, 20.0, 30.0, 50.0)
SERVED_HEAD_DIMS = (64, 128, 256)
"""What engines serve and every kernel takes: drawn twice as often."""


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
    if layer.kind == "chunked":
        changed["chunk_size"] = choices.pick("chunk", CHUNKS)
    if layer.logits_soft_cap is not None:
        changed["logits_soft_cap"] = choices.pick("cap", SOFT_CAPS)
    return layer.model_copy(update=changed)


def _sm_scales(head_dim: int) -> tuple[float, ...]:
    """Return scales over decades: the smaller one is, the larger are the products of q and k under the same scores."""
    return (head_dim**-0.5, 1.0, 0.1, 0.01, 0.001, 8.0)


def _sight(
    choices: Choices, windows: Sequence[int], chunks: Sequence[int], *, windowed: bool = False
) -> dict[str, Any]:
    """Draw which keys a row sees: those of a window, of a chunk, or all; some also those behind it, or of its span."""
    if windowed or choices.flip("windowed"):
        kind: dict[str, Any] = {"kind": "sliding", "window_left": choices.pick("window", windows)}
    elif choices.below("chunked", _CHUNKED_ONE_IN) == _CHUNKED_ONE_IN - 1:
        return {"kind": "chunked", "chunk_size": choices.pick("chunk", chunks)}
    else:
        kind = {"kind": "full"}
    if choices.below("bidirectional", _BOTH_WAYS_ONE_IN) == _BOTH_WAYS_ONE_IN - 1:
        return kind | {"bidirectional": True}
    return kind | {"spans": choices.below("spans", _SPANS_ONE_IN) == _SPANS_ONE_IN - 1}


def _value_dim(choices: Choices, head_dim: int) -> int | None:
    """Draw the width of values: mostly None, that of keys."""
    others = VALUE_DIMS.get(head_dim, ())
    if not others or choices.below("values", _VALUES_ONE_IN) < _VALUES_ONE_IN - 1:
        return None
    return choices.pick("head_dim_v", others)


def _free_layer(choices: Choices) -> Layer:
    sight = _sight(choices, WINDOWS, CHUNKS)
    head_dim = choices.pick("head_dim", (*HEAD_DIMS, *SERVED_HEAD_DIMS))
    num_kv_heads = choices.pick("kv heads", KV_HEADS)
    groups = (*GROUP_SIZES, *MANY_HEADS.get(num_kv_heads, ()))
    group = choices.pick("group", [size for size in groups if size * num_kv_heads <= MOST_QUERY_HEADS])
    return Layer(
        **sight,
        num_kv_heads=num_kv_heads,
        num_qo_heads=num_kv_heads * group,
        head_dim=head_dim,
        head_dim_v=_value_dim(choices, head_dim),
        sm_scale=choices.pick("sm_scale", _sm_scales(head_dim)),
        logits_soft_cap=choices.pick("cap", SOFT_CAPS) if choices.below("capped", 3) == 2 else None,  # noqa: PLR2004
        sinks=choices.flip("sinks"),
    )


_COSTLY = ("heads", "far keys", "page ids")
"""Extremes whose layers have the smallest heads only."""


def narrow_layers(
    choices: Choices, extreme: Extreme, feature: Feature | None = None, *, far: bool = True, part: int | None = None
) -> tuple[Layer, ...]:
    """Draw one layer of small heads, or many that one kernel serves: of both kinds, and redirected to any of them.

    They have the ``feature`` that is given: for hybrid pools a second layer of the other kind, or a redirected one.
    """
    layers = [_narrow_layer(choices.within("layer 0"), extreme, feature, far=far, part=part)]
    if extreme == "layers" or feature == "hybrid":
        other = (
            {"kind": "sliding", "window_left": WINDOWS[3], "chunk_size": None}
            if layers[0].kind != "sliding"
            else {"kind": "full", "window_left": -1}
        )
        layers.append(layers[0].model_copy(update=other))
    if extreme != "layers":
        if feature == "redirected":
            layers.append(_same_kernel(choices.within("redirected"), layers[0]).model_copy(update={"kv_owner": 0}))
        return tuple(layers)
    for index in range(2, choices.pick("layers", ladder(extreme, MANY_LAYERS, far=far, part=part))):
        own = choices.within(f"layer {index}")
        like = own.pick("like", [i for i, layer in enumerate(layers) if layer.kv_owner is None])
        owner = like if own.below("redirected", 4) else None
        layers.append(_same_kernel(own, layers[like]).model_copy(update={"kv_owner": owner}))
    return tuple(layers)


def _narrow_layer(choices: Choices, extreme: Extreme, feature: Feature | None, *, far: bool, part: int | None) -> Layer:
    """Draw a layer of few small heads, or of many, with the ``feature`` if it is one of a layer alone."""
    long = extreme in {"rows", "keys", "far keys"}
    windows, chunks = ((*WINDOWS, *LONG_WINDOWS), (*CHUNKS, *LONG_CHUNKS)) if long else (WINDOWS, CHUNKS)
    sight = _sight(choices, windows, chunks, windowed=feature == "window")
    head_dim = choices.pick("head_dim", NARROW_HEAD_DIMS[: 1 if extreme in _COSTLY else None])
    num_kv_heads = choices.pick(
        "kv heads", ladder(extreme, MANY_KV_HEADS, far=far, part=part) if extreme == "heads" else KV_HEADS[:2]
    )
    return Layer(
        **sight,
        num_kv_heads=num_kv_heads,
        num_qo_heads=num_kv_heads * choices.pick("group", GROUP_SIZES[:3]),
        head_dim=head_dim,
        head_dim_v=_value_dim(choices, head_dim),
        sm_scale=choices.pick("sm_scale", FAINT if extreme == "scores" else _sm_scales(head_dim)),
        logits_soft_cap=choices.pick("cap", SOFT_CAPS) if feature == "cap" else None,
        sinks=feature == "sinks" or choices.flip("sinks"),
    )
