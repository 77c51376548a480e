"""The capability of FlashInfer's fa2 and fa3 templates, by compiled variant and platform.

Sources, of every release from 0.6.10.post1 to 0.7.4: ``KernelTraits::IsInvalid`` and the tile loads in
attention/prefill.cuh, the assertions in attention/hopper/prefill_sm90.cuh, ``is_fa3_backend_supported`` and
``is_sm90a_supported`` in utils.py, and the sink variants in jit/attention/variants.py. Page size, layout, group size
and storage are free: pages are found by division, and the strides of K (equal to the strides of V) are arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from attnconf.backends.flashinfer import floors
from attnconf.backends.flashinfer.package import FLOOR, PACKAGE, library_version
from attnconf.backends.protocol import Unsupported
from attnconf.cases.dtypes import EIGHT_BIT, NVFP4
from attnconf.cases.dtypes import FP8 as _FP8

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.backends.flashinfer.fa.variant import Template, Variant
    from attnconf.platforms import Platform


FA2_FLOOR = (8, 0)
"""The first compute capability of fa2."""

FA3_SM = (9, 0)
"""The only compute capability of fa3."""

_FA3_CUDA_FLOOR = Version("12.3")
_FP4_CUDA_FLOOR = Version("12.8")
_SIXTEEN_BIT = frozenset({"float16", "bfloat16"})
_HEAD_DIMS = (64, 128, 256)
_LARGE_HEAD = 512
_SMALL_HEAD = 64
_OTHER_VALUES: dict[Template, str] = {
    "fa2": "fa2 is called with values as wide as keys, the only ones with which its paged kernels were tried",
    "fa3": "fa3 reads values of another width than keys from ragged tensors alone: over pages its sources assert"
    " HEAD_DIM_QK == HEAD_DIM_VO",
}
"""Why no page has values of another width: ``SparseCollectiveMainloop`` in attention/hopper/sparse_mainloop.cuh asserts
it, and the 192 and 128 of ``getCTATileSize`` are of ``BatchPrefillWithRaggedKVCache``."""


_PACKED_SINCE = Version("0.6.18")
"""The oldest release whose sources were read for it: it builds fa2 over ``__nv_fp4x2_e2m1``."""

_PACKED_HEAD_DIMS = (128, 256)
"""The head_dims at which fa2 is asked for numbers of 4 bits: those at which it reads 8."""


def missing(template: Template, platform: Platform) -> str | None:
    """Return what ``platform`` lacks to run ``template`` at all, as a clause, or None."""
    return _missing_device(template, platform) or _missing_library(platform) or _missing_cuda(template, platform)


def supports(variant: Variant, platform: Platform) -> Unsupported | None:
    """Return None, or the first reason why ``variant`` cannot run on ``platform``; pure."""
    reason = next(_reasons(variant, platform), None)
    return None if reason is None else Unsupported(reason)


def _missing_device(template: Template, platform: Platform) -> str | None:
    wanted = "SM 8.0 or later" if template == "fa2" else "exactly SM 9.0"
    if platform.sm is None:
        return f"needs a CUDA device of {wanted}, and there is none"
    fits = platform.sm >= FA2_FLOOR if template == "fa2" else platform.sm == FA3_SM
    return None if fits else f"needs {wanted}, and this is SM {platform.sm_text}"


def _missing_library(platform: Platform) -> str | None:
    if PACKAGE not in platform.packages:
        return f"needs {PACKAGE}, which is not installed"
    version = library_version(platform)
    if version is None:
        return f"cannot read the version {platform.packages[PACKAGE]!r} of {PACKAGE}"
    if version < FLOOR:
        return f"needs {PACKAGE} {FLOOR} or later, the oldest whose calls are known, and this is {version}"
    return None


def _missing_cuda(template: Template, platform: Platform) -> str | None:
    if template == "fa2":
        return None
    try:
        found = None if platform.cuda is None else Version(platform.cuda)
    except InvalidVersion:
        found = None
    if found is None:
        return f"needs CUDA {_FA3_CUDA_FLOOR} or later, and its version is unknown"
    return None if found >= _FA3_CUDA_FLOOR else f"needs CUDA {_FA3_CUDA_FLOOR} or later, and this is {found}"


def _reasons(variant: Variant, platform: Platform) -> Iterator[str]:
    template = variant.template
    lacking = missing(template, platform)
    if lacking is not None:
        yield f"{template} {lacking}"
    if variant.out_dtype not in _SIXTEEN_BIT:
        yield f"{template} answers in float16 or bfloat16, not {variant.out_dtype}"
    if variant.q_dtype == _FP8 and template == "fa3":
        yield from _eight_bit_reasons(variant)
    elif variant.q_dtype not in _SIXTEEN_BIT:
        yield f"{template} takes float16 or bfloat16 queries, not {variant.q_dtype}"
    elif variant.kv_dtype in EIGHT_BIT and template == "fa3":
        # is_fa3_backend_supported in utils.py
        yield f"fa3 reads {variant.kv_dtype} KV only under a {variant.kv_dtype} query, not under {variant.q_dtype}"
    if variant.kv_dtype == NVFP4:
        yield from _four_bit_reasons(variant, library_version(platform), platform)
    if variant.head_scales and template == "fa2":
        yield "fa2 takes one k_scale and one v_scale for all heads: FlashInfer multiplies sm_scale by the first"
    yield from _mask_reasons(variant)
    if variant.sinks and variant.soft_cap:
        yield f"the sink variant of {template} has no logits soft cap"
    if variant.head_dim_v != variant.head_dim:
        yield _OTHER_VALUES[template]
    yield from _head_dim_reasons(variant, library_version(platform))


def _mask_reasons(variant: Variant) -> Iterator[str]:
    template = variant.template
    if variant.spans:
        yield f"{template} is called with causal masks, and the tokens of a span see each other in both directions"
    if variant.bidirectional:
        yield f"{template} is called with causal masks, and without them its window would have no right end"
    if variant.chunked:
        yield f"{template} is called without a chunk size: its rows would see the chunks before their own"
    if variant.tree:
        yield f"{template} is called with causal masks, and the drafts of a tree do not see their siblings"


def _eight_bit_reasons(variant: Variant) -> Iterator[str]:
    """Yield what ``StandardFP8Attention`` (attention/hopper/variants.cuh), the only variant for 8 bits, has not."""
    if variant.soft_cap:
        yield "fa3 has no logits soft cap under a float8_e4m3fn query"
    if variant.sinks:
        yield "fa3 has no sinks under a float8_e4m3fn query"


def _four_bit_reasons(variant: Variant, version: Version | None, platform: Platform) -> Iterator[str]:
    """Yield why there is no kernel over numbers of 4 bits: FlashInfer compiles fa2 for them with the types of CUDA."""
    if variant.template == "fa3":
        # is_fa3_backend_supported in utils.py
        yield f"fa3 has no kernels over {NVFP4} KV"
    if version is None or version < _PACKED_SINCE:
        yield f"fa2 is asked for {NVFP4} KV since {PACKAGE} {_PACKED_SINCE}, and this is {version}"
    if platform.cuda is None or Version(platform.cuda) < _FP4_CUDA_FLOOR:
        yield f"fa2 needs CUDA {_FP4_CUDA_FLOOR} or later for {NVFP4} KV (cuda_fp4.h), and this is {platform.cuda}"
    if variant.sinks:
        # gen_customize_batch_prefill_module in jit/attention/modules.py wants maybe_k_cache_sf and maybe_v_cache_sf
        yield f"the sink variant of fa2 is built without the scales of blocks of {NVFP4} KV"
    if variant.head_dim not in _PACKED_HEAD_DIMS:
        yield f"fa2 is asked for {NVFP4} KV at head_dim 128 or 256, not {variant.head_dim}"


def _head_dim_reasons(variant: Variant, version: Version | None) -> Iterator[str]:
    template, head_dim = variant.template, variant.head_dim
    if template == "fa2" and head_dim == _LARGE_HEAD:
        # Up to 0.6.13 it builds, and dies at the first run: 8 * (512 / 16) registers are never below the limit of 256.
        if version is None or version < floors.FA2_WIDE.since:
            yield f"fa2 has head_dim 512 since {PACKAGE} {floors.FA2_WIDE.since}, and this is {version}"
        if variant.kv_dtype in EIGHT_BIT:
            yield f"fa2 is not known to read {variant.kv_dtype} KV at head_dim 512"
    elif head_dim not in _HEAD_DIMS:
        # fa2's tile loads move 64 elements at a time, and at 192 the tile for long queries has too many registers.
        yield f"{template} takes head_dim 64, 128 or 256, not {head_dim}"
    elif head_dim == _SMALL_HEAD and variant.kv_dtype in EIGHT_BIT:
        # according to a note on page_produce_kv in prefill.cuh
        yield f"fa2 is not known to read {variant.kv_dtype} KV at head_dim 64: its sources say the load does not work"
