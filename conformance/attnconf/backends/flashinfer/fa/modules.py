"""The kernel modules for a shape, with FlashInfer's names; pure.

One module serves every mode, page size, layout and group size of one ``Variant``: the decode wrapper on tensor cores
loads the prefill module (``get_batch_prefill_uri``, ``get_batch_prefill_attention_sink_uri`` in
flashinfer/jit/attention/modules.py). It has 10 sources: one for each of 4 mask modes with paged and with ragged keys,
and two with bindings. With 5 jobs and FlashInfer 0.6.13, a module of head_dim 256 with a window took 66 s for fa2 and
200 s for fa3, that is about 330 and 1000 CPU seconds.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.version import Version

from attnconf.backends.builds import Build
from attnconf.backends.flashinfer.fa.capability import supports
from attnconf.backends.flashinfer.fa.variant import Template, Variant, variant_of_shape
from attnconf.backends.flashinfer.package import library_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform

CPU_SECONDS: dict[Template, float] = {"fa2": 330.0, "fa3": 1000.0}
SOURCES = 10
STRIDE_SUFFIX = "_kv_stride_equal"
"""The end of the name of fa2's module for keys and values of equal strides; others are refused."""
_STRIDE_FLOOR = Version("0.7.0")
"""The first release with two modules of fa2, by strides; 0.6.18, the last one before it, has one."""

_SHORT = {"float16": "f16", "bfloat16": "bf16", "float8_e4m3fn": "e4m3", "float8_e5m2": "e5m2", "nvfp4": "fp4x2_e2m1"}
_LONG = {short: dtype for dtype, short in _SHORT.items()}
_ENDINGS: dict[Template, str] = {"fa2": "", "fa3": "_sm90"}
_NAME = re.compile(
    r"batch_prefill_with_(?P<sinks>attention_sink_)?kv_cache_dtype_q_(?P<q>f16|bf16|e4m3)"
    r"_dtype_kv_(?P<kv>f16|bf16|e[45]m[23]|fp4x2_e2m1)"
    r"_dtype_o_(?P<out>f16|bf16)_dtype_idx_i32_head_dim_qk_(?P<dim>\d+)_head_dim_vo_(?P=dim)_(?:posenc_0_)?"
    r"use_swa_(?P<window>True|False)_(?:use_logits_cap_(?P<cap>True|False)_f16qk_False)?"
    rf"(?P<fa3>_sm90)?(?P<strides>{STRIDE_SUFFIX})?"
)


def plain_name(variant: Variant, version: Version) -> str:
    """Return what FlashInfer ``version`` calls the module of a variant without sinks."""
    return (
        f"batch_prefill_with_kv_cache_{_types(variant)}_posenc_0_use_swa_{variant.windowed}"
        f"_use_logits_cap_{variant.soft_cap}_f16qk_False{_ENDINGS[variant.template]}"
    ) + (STRIDE_SUFFIX if variant.template == "fa2" and version >= _STRIDE_FLOOR else "")


def sink_name(variant: Variant) -> str:
    """Return the name of the module of a variant with sinks: FlashInfer's own, in every release.

    Its BatchAttentionWithAttentionSinkWrapper uses a name without head_dim and KV dtype, so that two variants in one
    process would share a module. The backend passes this name to the plain wrapper instead.
    """
    return (
        f"batch_prefill_with_attention_sink_kv_cache_{_types(variant)}_use_swa_{variant.windowed}_"
        f"{_ENDINGS[variant.template]}"
    )


def module_name(variant: Variant, version: Version) -> str:
    """Return the name under which FlashInfer ``version`` builds, caches and loads the module of ``variant``."""
    return sink_name(variant) if variant.sinks else plain_name(variant, version)


def read(name: str) -> Variant | None:
    """Return the variant of the module that some release calls ``name``, or None for any other name."""
    found = _NAME.fullmatch(name)
    if found is None or (found["q"] != "e4m3" and found["out"] != found["q"]):
        return None
    variant = Variant(
        template="fa3" if found["fa3"] else "fa2",
        q_dtype=_LONG[found["q"]],
        kv_dtype=_LONG[found["kv"]],
        out_dtype=_LONG[found["out"]],
        head_dim=int(found["dim"]),
        head_dim_v=int(found["dim"]),
        windowed=found["window"] == "True",
        soft_cap=found["cap"] == "True",
        sinks=found["sinks"] is not None,
    )
    release = _STRIDE_FLOOR if found["strides"] else Version("0")
    return variant if module_name(variant, release) == name else None


def builds(template: Template, shapes: Iterable[KernelShape], platform: Platform) -> tuple[Build, ...]:
    """Return the modules that the supported ones of ``shapes`` need on ``platform``, by name."""
    version = library_version(platform)
    if version is None:
        return ()
    variants = {variant_of_shape(template, shape) for shape in shapes}
    names = {module_name(variant, version) for variant in variants if supports(variant, platform) is None}
    return tuple(Build(name, CPU_SECONDS[template], SOURCES) for name in sorted(names))


def _types(variant: Variant) -> str:
    q, kv, out = (_SHORT[one] for one in (variant.q_dtype, variant.kv_dtype, variant.out_dtype))
    head_dim = f"head_dim_qk_{variant.head_dim}_head_dim_vo_{variant.head_dim}"
    return f"dtype_q_{q}_dtype_kv_{kv}_dtype_o_{out}_dtype_idx_i32_{head_dim}"
