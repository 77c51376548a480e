"""The dtypes of the kernels' intermediate values, as read from their sources."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.trtllm_mha.dispatch import Family, Generation, family
from attnconf.cases.dtypes import FP8, NVFP4
from attnconf.precision import APPROXIMATE_TANH, NumericsProfile

if TYPE_CHECKING:
    from attnconf.cases.shape import KernelShape

_HALF_ACCUMULATOR = (
    "every key's score is a float16 sum whose rounding errors are allowed at once and with the worst sign, while real"
    " ones average out; a bound for float32 sums is too narrow (3.2 units of it on an H200)"
)
"""Why FMHA v2's bound for float16 is wide."""

_FOUR_BITS = (
    "numbers of 4 bits by the scales of their blocks are rounded to float8_e4m3fn for products of 8 bits: all kernels"
    " over such KV are listed with queries of 8 bits; each may err with the worst sign, while the errors of many cancel"
)
"""Why the bound of trtllm-gen over NVFP4 KV is wide: QE4m3KvE2m1OE4m3 in the lists. It was run nowhere."""

_ROUNDED_QUERY = (
    "the query is rounded to float8_e4m3fn; five standard deviations of its error are allowed (Hoeffding) in every"
    " score at once and with the worst sign, while the errors of many keys cancel"
)
"""Why the bound of XQA over 8-bit KV is wide."""


def numerics(shape: KernelShape, machine: Generation) -> NumericsProfile:
    """Return the profile of the kernel for ``shape`` on ``machine``.

    Under an 8-bit query all products are of 8 bits, those with P included; FMHA v2 rounds P 256 times as large then
    (``SOFTMAX_FP_QUANT_SCALE``). XQA and trtllm-gen store split-KV partial outputs in 16 bits. XQA's denominator sums
    the rounded probabilities. Hopper's XQA over 8-bit KV computes in 8 bits, with the query, too. FMHA v2 accumulates
    float16 in float16, and bfloat16 in float32.
    """
    kernel = family(shape.mode, machine)
    if shape.kv_dtype == NVFP4:
        return replace(_eight_bit(kernel, machine), dequantised=FP8, reason=_FOUR_BITS)
    if shape.q_dtype == FP8:
        return _eight_bit(kernel, machine)
    if kernel == "fmha_v2":
        half = shape.q_dtype == "float16"
        return NumericsProfile(
            p=shape.q_dtype,
            accumulator="float16" if half else "float32",
            tanh=APPROXIMATE_TANH,
            reason=_HALF_ACCUMULATOR if half else "",
        )
    if kernel == "xqa" and shape.kv_dtype == FP8 and machine == "sm90":
        return NumericsProfile(p=FP8, partials=shape.q_dtype, query=FP8, reason=_ROUNDED_QUERY)
    if kernel == "xqa":
        return NumericsProfile(p=shape.q_dtype, row_sum=shape.q_dtype, partials=shape.q_dtype)
    return NumericsProfile(p=shape.q_dtype, partials=shape.q_dtype if kernel == "trtllm-gen-decode" else None)


def _eight_bit(kernel: Family, machine: Generation) -> NumericsProfile:
    return NumericsProfile(
        p=FP8,
        p_scale=256.0 if kernel == "fmha_v2" else 1.0,
        accumulator="float22" if machine == "sm90" else "float32",
        partials="bfloat16" if kernel == "trtllm-gen-decode" else None,
        tanh=APPROXIMATE_TANH,
    )
