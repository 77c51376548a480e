"""What Triton compiles for a shape: one launch a stage, as a value with a name. Pure; imports no triton."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from attnconf.backends.builds import Build
from attnconf.backends.triton.tuning import MAX_SPLIT_TOKENS, LayerSizes, split_tuning
from attnconf.cases.dtypes import BLOCK, NVFP4

if TYPE_CHECKING:
    from attnconf.cases.case import KVLayout, Storage
    from attnconf.cases.dtypes import KVDtype, OutDtype, QDtype
    from attnconf.cases.shape import KernelShape

STAGES = (
    ("triton-decode-splitkv", 1, 1),
    ("triton-verify-splitkv", 2, MAX_SPLIT_TOKENS),
    ("triton-extend", MAX_SPLIT_TOKENS + 1, sys.maxsize),
)
"""The kernels, each with the smallest and largest number of query tokens of its requests."""

_SPLIT = ("triton-splitkv", 1, MAX_SPLIT_TOKENS)
"""The kernel in place of the first two where both have the same tuning."""

CPU_SECONDS = 3.0
"""CPU seconds to compile one launch: 1 to 3 s for 16-bit queries, up to 9 s for float32 with 64 query heads per KV head
(Triton 3.9, ahead of time for SM 9.0, on one core)."""

_ALIGNED = 16
_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 2}
"""Bytes of an operand of the products: 8-bit queries are multiplied in bfloat16."""

_DTYPES = {
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "float8_e4m3fn": "e4m3",
    "float8_e5m2": "e5m2",
    "nvfp4": "nvfp4",
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The properties that decide the compiled code of a stage: constants, dtypes, and whether 16 divides strides.

    ``kernel`` names the stage, whose requests have ``fewest`` to ``most`` query tokens. If 16 divides the widths of
    keys and of values, and those of block scales, it divides every stride; otherwise layout and storage matter, too. So
    they do where K and V have strides of their own: in storage ``unlike``, and, but for ``sliced``, where values have
    another width than keys.
    """

    kernel: str
    fewest: int
    most: int
    q_dtype: QDtype
    kv_dtype: KVDtype
    out_dtype: OutDtype
    head_dim: int
    head_dim_v: int
    num_qo_heads: int
    num_kv_heads: int
    page_size: int
    windowed: bool
    soft_cap: bool
    sinks: bool
    spans: bool
    chunked: bool
    tree: bool
    bidirectional: bool
    head_scales: bool
    kv_layout: KVLayout
    storage: Storage

    @property
    def name(self) -> str:
        """A file name: ``triton-extend_bf16_e4m3_hd128_8x2_ps16_window``."""
        parts = [
            self.kernel,
            _DTYPES[self.q_dtype],
            _DTYPES[self.kv_dtype],
            *([_DTYPES[self.out_dtype]] if self.out_dtype != self.q_dtype else []),
            f"hd{self.head_dim}" + (f"v{self.head_dim_v}" if self.head_dim_v != self.head_dim else ""),
            f"{self.num_qo_heads}x{self.num_kv_heads}",
            f"ps{self.page_size}",
        ]
        flags = {"window": self.windowed, "cap": self.soft_cap, "sinks": self.sinks, "spans": self.spans}
        flags |= {"chunks": self.chunked, "tree": self.tree, "both": self.bidirectional, "headscales": self.head_scales}
        parts += [flag for flag, on in flags.items() if on]
        if not _aligned(self.kv_dtype, self.head_dim, self.head_dim_v):
            parts += [self.kv_layout, self.storage]
        elif self.storage != "apart":
            parts.append(self.storage)
        return "_".join(parts)


@dataclass(frozen=True, kw_only=True)
class LaunchBuild(Build):
    """The build of one variant: its attention kernel, and the merges of split keys."""

    variant: Variant


@cache
def launch_builds(shape: KernelShape) -> tuple[LaunchBuild, ...]:
    """Return the launches for ``shape``: the stages for all numbers of query tokens that its requests may have."""
    fixed = shape.mode in {"decode", "verify"} and not shape.ragged
    stages = [
        (name, fewest, most)
        for name, fewest, most in STAGES
        if fewest <= shape.max_q_len and (not fixed or shape.max_q_len <= most)
    ]
    if _splits_alike(shape):
        stages = list(dict.fromkeys(_SPLIT if stage[2] <= MAX_SPLIT_TOKENS else stage for stage in stages))
    return tuple(_build(shape, *stage) for stage in stages)


def _splits_alike(shape: KernelShape) -> bool:
    """Return whether decode and verify have the same tuning, so that they are one kernel."""
    sizes = LayerSizes(shape.group_size, shape.head_dim, shape.num_kv_heads, _SIZES[shape.q_dtype], shape.head_dim_v)
    return split_tuning(sizes, 1, interpreted=False) == split_tuning(sizes, MAX_SPLIT_TOKENS, interpreted=False)


def _aligned(kv_dtype: KVDtype, *widths: int) -> bool:
    """Return whether 16 divides every stride; those of block scales are the smallest, one for 16 numbers."""
    step = _ALIGNED * (BLOCK if kv_dtype == NVFP4 else 1)
    return all(width % step == 0 for width in widths)


def _build(shape: KernelShape, kernel: str, fewest: int, most: int) -> LaunchBuild:
    aligned = _aligned(shape.kv_dtype, shape.head_dim, shape.head_dim_v)
    own = "sliced" if shape.head_dim_v != shape.head_dim else "unlike"
    variant = Variant(
        kernel=kernel,
        fewest=fewest,
        most=most,
        q_dtype=shape.q_dtype,
        kv_dtype=shape.kv_dtype,
        out_dtype=shape.out_dtype,
        head_dim=shape.head_dim,
        head_dim_v=shape.head_dim_v,
        num_qo_heads=shape.num_qo_heads,
        num_kv_heads=shape.num_kv_heads,
        page_size=shape.page_size,
        windowed=shape.windowed,
        soft_cap=shape.soft_cap,
        sinks=shape.sinks,
        spans=shape.spans,
        chunked=shape.chunked,
        tree=shape.tree,
        bidirectional=shape.bidirectional,
        head_scales=shape.head_scales,
        kv_layout="NHD" if aligned else shape.kv_layout,
        storage="apart" if aligned and shape.storage != own else shape.storage,
    )
    return LaunchBuild(name=variant.name, cpu_seconds=CPU_SECONDS, variant=variant)
