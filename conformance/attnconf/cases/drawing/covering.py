"""A covering set of kernel shapes, for machines on which every shape costs a build.

Each head_dim, group size, page size, dtype pair and feature occurs; lengths, tables, poison and witnesses are drawn
freely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from attnconf.cases.case import Layer
from attnconf.cases.drawing.layers import model_layers
from attnconf.cases.drawing.space import CompiledShape
from attnconf.cases.dtypes import E5M2, FP8, NVFP4, Dtypes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.drawing.choices import Choices
    from attnconf.cases.drawing.space import Draw
    from attnconf.cases.dtypes import KVDtype
    from attnconf.cases.geometry import LayerGeometry

_BF16 = Dtypes("bfloat16", "bfloat16", "bfloat16")
_FP16 = Dtypes("float16", "float16", "float16")
_FP32 = Dtypes("float32", "float32", "float32")
_BF16_FP8 = Dtypes("bfloat16", FP8, "bfloat16")
_FP16_FP8 = Dtypes("float16", FP8, "float16")
_FP8_BF16 = Dtypes(FP8, FP8, "bfloat16")
_FP8_FP16 = Dtypes(FP8, FP8, "float16")
_FP8 = Dtypes(FP8, FP8, FP8)
_BF16_FP8_FP8 = Dtypes("bfloat16", FP8, FP8)
_BF16_E5M2 = Dtypes("bfloat16", E5M2, "bfloat16")
_BF16_NVFP4 = Dtypes("bfloat16", NVFP4, "bfloat16")
_FP8_NVFP4 = Dtypes(FP8, NVFP4, FP8)

_Row: TypeAlias = "tuple[int, int, int, int, Dtypes, int, float | None, bool, bool]"

# head_dim, group, KV heads, page, dtypes, window, soft cap, sinks, spans
_ROWS: tuple[_Row, ...] = (
    (64, 8, 2, 16, _BF16, 127, None, True, False),
    (64, 1, 3, 32, _FP16, 63, None, False, False),
    (128, 4, 2, 16, _FP16, 200, None, False, True),
    (128, 7, 2, 64, _BF16, 127, None, False, False),
    (128, 5, 1, 128, _BF16_FP8, 65, None, False, False),
    (128, 16, 1, 32, _BF16, 17, None, True, False),
    (256, 2, 2, 16, _BF16, 511, None, False, False),
    (256, 8, 1, 32, _FP16_FP8, 31, None, False, False),
    (256, 3, 2, 64, _FP16, 1, None, False, False),
    (256, 6, 1, 16, _BF16_FP8, 128, None, False, False),
    (96, 1, 3, 16, _BF16, 64, None, False, False),
    (80, 2, 2, 64, _BF16, 16, None, False, True),
    (512, 8, 1, 16, _BF16, 127, None, False, True),
    (512, 4, 2, 64, _FP16, 15, None, False, False),
    (512, 2, 1, 32, _BF16_FP8, 65, None, False, False),
    (256, 2, 1, 16, _FP16, 200, 50.0, False, False),
    (128, 4, 2, 1, _BF16, 64, 30.0, False, False),
    (64, 2, 2, 3, _FP16, 3, 20.0, True, False),
    (192, 3, 1, 256, _BF16, 128, None, True, False),
    (16, 5, 3, 2, _FP32, 0, None, False, True),
    (64, 6, 1, 8, _FP32, 31, 5.0, True, False),
    (256, 1, 2, 128, _FP32, 17, None, False, False),
    (128, 4, 2, 256, _BF16, 127, None, False, False),
    (128, 8, 1, 32, _FP8_BF16, 127, None, False, False),
    (512, 4, 1, 64, _FP8, 65, None, False, False),
    (512, 8, 1, 16, _FP8_FP16, 15, None, True, False),
    (128, 4, 2, 64, _BF16_FP8_FP8, 63, None, False, False),
    (64, 4, 2, 32, _BF16, 65, None, True, False),
    (128, 6, 2, 16, _BF16_E5M2, 63, None, False, False),
    (128, 8, 1, 32, _FP8_NVFP4, 127, None, False, False),
    (64, 8, 2, 16, _BF16_NVFP4, 63, None, False, False),
)

_CHUNKS = {(128, 7): 100, (128, 5): 64, (256, 3): 17, (64, 6): 48}
"""The chunk size of rows of this head_dim and group that have a chunked layer, too: each costs a build."""

_BOTH_WAYS = {(64, 8): ("sliding",), (128, 5): ("full", "sliding"), (256, 6): ("sliding",)}
"""The kinds of bidirectional layers that rows of this head_dim and group have, too."""

_VALUES = {(192, 3): 128, (64, 4): 128}
"""The width of values of rows of this head_dim and group, where it is not that of keys."""

_FEW = 3
"""A few shapes are every third row: each still has a head_dim, group size, page size and feature of its own."""


def covering_shapes(*, few: bool, kv_dtype: KVDtype | None = None) -> Draw[CompiledShape]:
    """Draw one of the shapes, or of a ``few`` of them: a full and a sliding layer, and a redirected one for each.

    With a ``kv_dtype`` all shapes that have such KV are drawn, and no other.
    """
    rows = _ROWS[::_FEW] if few else _ROWS
    if kv_dtype is not None:
        rows = tuple(row for row in _ROWS if row[4].kv == kv_dtype)
    return lambda choices: _shape(choices.pick("shape", rows))


def _shape(row: _Row) -> CompiledShape:
    head_dim, group, kv_heads, page_size, dtypes, window, cap, sinks, spans = row
    full = Layer(
        kind="full",
        num_qo_heads=group * kv_heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        head_dim_v=_VALUES.get((head_dim, group)),
        sm_scale=1.0 if head_dim >= 256 else head_dim**-0.5,  # noqa: PLR2004 - as Gemma 4 has it
        logits_soft_cap=cap,
        sinks=sinks,
        spans=spans,
    )
    sliding = full.model_copy(update={"kind": "sliding", "window_left": window})
    layers: tuple[Layer, ...] = (
        full,
        sliding,
        full.model_copy(update={"kv_owner": 0}),
        sliding.model_copy(update={"kv_owner": 1}),
    )
    chunk = _CHUNKS.get((head_dim, group))
    if chunk is not None:
        layers = (*layers, full.model_copy(update={"kind": "chunked", "chunk_size": chunk}))
    both = [one.model_copy(update={"bidirectional": True}) for one in (full, sliding)]
    layers = (*layers, *(one for one in both if one.kind in _BOTH_WAYS.get((head_dim, group), ())))
    return CompiledShape(layers=layers, page_size=page_size, dtypes=dtypes)


def model_shapes(
    layers: Sequence[LayerGeometry], page_sizes: Sequence[int], dtypes: Sequence[Dtypes]
) -> Draw[CompiledShape]:
    """Draw the layers of a model under some pairs of a page size and dtypes: every pair would cost builds.

    bfloat16, in which these models are served, gets every page size; the other dtypes take turns over them.
    """
    others = [one for one in dtypes if one != _BF16]
    builds = [(size, _BF16) for size in page_sizes if _BF16 in dtypes]
    builds += [(page_sizes[index % len(page_sizes)], one) for index, one in enumerate(others)]
    fixed = model_layers(layers)

    def drawn(choices: Choices) -> CompiledShape:
        page_size, picked = choices.pick("build", builds)
        return CompiledShape(layers=fixed(choices), page_size=page_size, dtypes=picked)

    return drawn
