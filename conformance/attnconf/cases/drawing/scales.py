"""Scales: those of what is stored in 8 or 4 bits, drawn so that stored numbers meet the ends of the format."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnconf.cases.case import LEAST_OUT_SCALE
from attnconf.cases.dtypes import E5M2, FP8, NVFP4

if TYPE_CHECKING:
    from attnconf.cases.case import Layer
    from attnconf.cases.drawing.choices import Choices
    from attnconf.cases.dtypes import Dtypes

KV_SCALES = (0.5, 0.25, 0.4, 1.5, 2.0)
K_SCALES = (*KV_SCALES, 2.0**-6, 16.0)
V_SCALES = (*KV_SCALES, 2.0**-7, 64.0)
"""The last two bring stored values to the limits of e4m3: +-448, and below the smallest normal number."""

WIDE_K_SCALES = (*KV_SCALES, 2.0**-13, 2.0**12)
WIDE_V_SCALES = (*KV_SCALES, 2.0**-14, 2.0**14)
"""The last two bring stored values to the limits of e5m2: +-57,344, and below 2^-14."""

GLOBAL_K_SCALES = (*KV_SCALES, 2.0**-8, 32.0)
GLOBAL_V_SCALES = (*KV_SCALES, 2.0**-10, 2.0**7)
"""The last two bring the scales of blocks to the limits of e4m3, 448 and below 2^-6, as calibrated caches have them."""

FAR_SCALES = (2.0**-6, 0.03, 16.0, 64.0)
"""Scales under an 8-bit query, whose kernels round P to 8 bits, or answer: smaller factors are hidden by the bound."""

OUT_SCALES = (LEAST_OUT_SCALE, 0.02, 0.05, 0.25)
"""Answers are averages of values of deviation 1: larger scales would leave few of their bits."""

Q_DEVIATIONS = (0.5, 4.0, 24.0)
"""Standard deviations of stored queries: where all scores are raised, their components are ten times as large."""

_BY_FORMAT: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    E5M2: (WIDE_K_SCALES, WIDE_V_SCALES),
    NVFP4: (GLOBAL_K_SCALES, GLOBAL_V_SCALES),
}

CALIBRATED = (0.03, 0.2, 4.0)
"""Scales for queries of a calibrated layer that come in 16 bits, over which they must not count."""

_BY_HEAD_ONE_IN = 6
"""Of so many layers of several KV heads one has scales of each head."""

_DIGITS = 3
_LEAST_FACTOR = 1.4
"""A scale nearer to 1 would not show where it is left out."""


def with_scales(choices: Choices, layer: Layer, dtypes: Dtypes, *, by_head: bool = False) -> Layer:
    """Draw the scales of a calibrated ``layer`` over quantised KV: distinct, so that one taken for another shows.

    Each KV head of several has its own now and then, and always ``by_head``.
    """
    coarse = FP8 in {dtypes.q, dtypes.out}
    k_scales, v_scales = _BY_FORMAT.get(dtypes.kv, (K_SCALES, V_SCALES))
    k_scale = choices.pick("k_scale", FAR_SCALES if coarse else k_scales)
    v_scales = FAR_SCALES if coarse else v_scales
    v_scale = choices.pick("v_scale", [scale for scale in v_scales if scale != k_scale])
    q_scale = choices.pick("q_scale", q_scales(layer) if dtypes.q == FP8 else CALIBRATED)
    out_scale = choices.pick("out_scale", [scale for scale in OUT_SCALES if scale != v_scale])
    found: dict[str, object] = {"q_scale": q_scale, "out_scale": out_scale}
    own = by_head or choices.below("by head", _BY_HEAD_ONE_IN) == _BY_HEAD_ONE_IN - 1
    if layer.num_kv_heads > 1 and own:
        return layer.model_copy(update=found | _by_head(choices, layer.num_kv_heads, coarse=coarse))
    return layer.model_copy(update=found | {"k_scale": k_scale, "v_scale": v_scale})


def _by_head(choices: Choices, heads: int, *, coarse: bool) -> dict[str, object]:
    """Draw a scale for each KV head: other ones for its neighbours, and for its values than for its keys."""
    scales = FAR_SCALES if coarse else KV_SCALES
    first = choices.below("first scale", len(scales))
    behind = 1 + choices.below("scales between", len(scales) - 1)
    turns = {"k_scales": first, "v_scales": first + behind}
    return {name: tuple(scales[(turn + head) % len(scales)] for head in range(heads)) for name, turn in turns.items()}


def q_scales(layer: Layer) -> list[float]:
    """Return scales for the queries of ``layer``, whose numbers have deviation 1 / (sm_scale sqrt(head_dim))."""
    deviation = 1.0 / (layer.sm_scale * math.sqrt(layer.head_dim))
    scales = (float(f"{deviation / stored:.{_DIGITS}g}") for stored in Q_DEVIATIONS)
    bounded = (min(max(scale, 2.0**-20), 2.0**20) for scale in scales)
    return [scale for scale in bounded if max(scale, 1.0 / scale) >= _LEAST_FACTOR]
