"""The kernel modules for a shape on SM 9.0 and 12.x, with FlashInfer's names; pure.

XQA is compiled for one shape: dtypes, page size, head_dim, group size, windowed or not, number of query tokens
(flashinfer/jit/xqa.py). A small module of five sources takes about 14 s of one core for SM 9.0, and about 30 s since
FlashInfer 0.7.2, whose XQA has larger heads and a window for several query tokens.

FMHA v2 is one module per layout and dtype, with all head sizes (flashinfer/jit/attention/fmha_v2). For SM 9.0 it has
134 sources: 11 head sizes, each with soft cap, ALiBi or neither, with and without LSE, with and without skip-softmax,
which makes 11 x 3 x 2 x 2 = 132, and two more that launch them. Each takes 12 to 16 CPU seconds, so NHD and HND in two
dtypes are four modules of 30 CPU minutes. FlashInfer 0.6.10.post1, 0.6.13 and 0.7.2.post1
cannot generate fewer: ``generate_jit_sources`` has fixed lists, FLASHINFER_CUDA_ARCH_LIST selects architectures only,
``gen_fmha_v2_module`` has no parameter for a head size, and the prebuilt flashinfer-jit-cache has none of these modules
(flashinfer/aot.py builds only the other one, for DeepSeek). The remedy is to build a module once and export it for all
later runs (``attnconf build --export``, ``ATTNCONF_KERNEL_CACHE``; see flashinfer/cache.py). Cases whose module is not
built are not run, and the plan says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from attnconf.backends.builds import Build
from attnconf.backends.flashinfer import floors
from attnconf.backends.flashinfer.package import library_version
from attnconf.backends.flashinfer.trtllm_mha.capability import supports
from attnconf.backends.flashinfer.trtllm_mha.dispatch import Generation, family, generation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.case import KVLayout
    from attnconf.cases.dtypes import KVDtype, OutDtype, QDtype
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform

_XQA_SECONDS = 14.0
_LATER_XQA_SECONDS = 30.0
"""CPU seconds of an XQA module, before and since FlashInfer 0.6.18."""

_XQA_SOURCES: dict[Generation, int] = {"sm90": 5, "sm120": 3}
_FMHA_V2_SOURCES: dict[Generation, int] = {"sm90": 134, "sm120": 26}
_FMHA_V2_SOURCE_SECONDS = 13.5

_SHORT = {"float16": "f16", "bfloat16": "bf16", "float8_e4m3fn": "e4m3"}
_FMHA_V2_SHORT = {"float16": "fp16", "bfloat16": "bf16", "float8_e4m3fn": "e4m3"}
_LONG = {short: dtype for names in (_SHORT, _FMHA_V2_SHORT) for dtype, short in names.items()}
_XQA = re.compile(
    r"xqa_input_(?P<q>f16|bf16)_kv_cache_(?P<kv>f16|bf16|e4m3)_output_(?P<out>f16|bf16|e4m3)_page_size_(?P<page>\d+)_head_dim_(?P<dim>\d+)"
    r"_head_group_ratio_(?P<group>\d+)_use_sliding_window_(?P<window>True|False)_use_spec_dec_(?:True|False)"
    r"_spec_q_seq_len_(?P<q_len>\d+)"
)
_FMHA_V2 = re.compile(
    r"trtllm_fmha_v2_q_paged_kv_(?P<layout>nhd|hnd)_(?P<dtype>fp16|bf16|e4m3)_(?P<out>fp16|bf16|e4m3)"
)


@dataclass(frozen=True)
class Xqa:
    """One XQA module; ``q_len`` is the number of query tokens of each request."""

    q_dtype: QDtype
    kv_dtype: KVDtype
    out_dtype: OutDtype
    page_size: int
    head_dim: int
    group_size: int
    windowed: bool
    q_len: int

    @property
    def name(self) -> str:
        """FlashInfer's name."""
        q, out = _SHORT[self.q_dtype], _SHORT[self.out_dtype]
        return (
            f"xqa_input_{q}_kv_cache_{_SHORT[self.kv_dtype]}_output_{out}_page_size_{self.page_size}"
            f"_head_dim_{self.head_dim}_head_group_ratio_{self.group_size}_use_sliding_window_{self.windowed}"
            f"_use_spec_dec_{self.q_len > 1}_spec_q_seq_len_{self.q_len}"
        )


@dataclass(frozen=True)
class FmhaV2:
    """One FMHA v2 module over a paged cache; only an 8-bit input has outputs of other dtypes."""

    kv_layout: KVLayout
    dtype: QDtype
    out_dtype: OutDtype

    @property
    def input_layout(self) -> str:
        """The layout as FlashInfer's functions take it."""
        return f"Q_PAGED_KV_{self.kv_layout}"

    @property
    def name(self) -> str:
        """FlashInfer's name."""
        dtype, out = _FMHA_V2_SHORT[self.dtype], _FMHA_V2_SHORT[self.out_dtype]
        return f"trtllm_fmha_v2_{self.input_layout.lower()}_{dtype}_{out}"


Variant = Xqa | FmhaV2


def variant(shape: KernelShape, machine: Generation) -> Variant | None:
    """Return the module for a supported ``shape``, or None where FlashInfer ships compiled kernels."""
    kernel = family(shape.mode, machine)
    if kernel == "fmha_v2":
        return FmhaV2(shape.kv_layout, shape.q_dtype, shape.out_dtype)
    if kernel != "xqa":
        return None
    q_len = 1 if shape.mode == "decode" else shape.max_q_len
    return Xqa(
        shape.q_dtype,
        shape.kv_dtype,
        shape.out_dtype,
        shape.page_size,
        shape.head_dim,
        shape.group_size,
        shape.windowed,
        q_len,
    )


def read(name: str) -> Variant | None:
    """Return the module that FlashInfer calls ``name``, or None for any other name."""
    if (found := _FMHA_V2.fullmatch(name)) and (found["dtype"] == "e4m3" or found["out"] == found["dtype"]):
        return FmhaV2(
            cast("KVLayout", found["layout"].upper()),
            cast("QDtype", _LONG[found["dtype"]]),
            cast("OutDtype", _LONG[found["out"]]),
        )
    found = _XQA.fullmatch(name)
    if found is None or found["out"] not in {found["q"], "e4m3"}:
        return None
    module = Xqa(
        cast("QDtype", _LONG[found["q"]]),
        cast("KVDtype", _LONG[found["kv"]]),
        cast("OutDtype", _LONG[found["out"]]),
        int(found["page"]),
        int(found["dim"]),
        int(found["group"]),
        found["window"] == "True",
        int(found["q_len"]),
    )
    return module if module.name == name else None


def builds(shapes: Iterable[KernelShape], platform: Platform) -> tuple[Build, ...]:
    """Return the modules that the supported ones of ``shapes`` need on ``platform``, by name; none without a GPU."""
    machine = generation(platform.sm)
    if platform.sm is None or machine is None:
        return ()
    wanted = {variant(shape, machine) for shape in shapes if supports(shape, platform) is None}
    return tuple(
        sorted(
            (_build(found, machine, platform) for found in wanted if found is not None), key=lambda build: build.name
        )
    )


def _build(found: Variant, machine: Generation, platform: Platform) -> Build:
    if isinstance(found, Xqa):
        version = library_version(platform)
        later = version is not None and version >= floors.XQA_WIDE.since
        return Build(found.name, _LATER_XQA_SECONDS if later else _XQA_SECONDS, _XQA_SOURCES[machine])
    sources = _FMHA_V2_SOURCES[machine]
    return Build(found.name, round(sources * _FMHA_V2_SOURCE_SECONDS), sources)
