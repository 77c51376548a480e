"""The capability of sglang's attention backends, by shape and platform, without importing sglang."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.version import Version

from attnconf.backends.engines.sglang.package import RELEASES
from attnconf.backends.flashinfer.package import PACKAGE
from attnconf.backends.flashinfer.trtllm_mha.capability import supports as flashinfer_supports
from attnconf.backends.protocol import FINITE, REQUIRED, Promises, Unsupported
from attnconf.cases.dtypes import E5M2, FP8, NVFP4
from attnconf.precision import NumericsProfile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform

TRITON_PROMISES = Promises(
    empty_kv=False,
    batch_invariant=False,
    least_window=1,
)
"""The promises of ``TritonAttnBackend``.

Its loads are masked by length, so dead slots and pages behind a window may contain anything. A padding row always has
one token. On a GPU the number of KV splits depends on the batch; bitwise independence needs another mode
(``enable_deterministic_inference``), which is off by default. ``RadixAttention`` reads a window of 0 as none.
"""

TRTLLM_PROMISES = Promises(
    empty_kv=False,
    deterministic=False,
    batch_invariant=False,
    least_window=1,
)
"""The promises of ``TRTLLMHAAttnBackend`` over FlashInfer's documented calls, whose lengths say which keys exist."""

SM90_PROMISES = Promises(
    dead_v=FINITE,
    reclaimed_v=REQUIRED,
    empty_kv=False,
    empty_q=False,
    batch_invariant=False,
    least_window=1,
)
"""Its promises over XQA and FMHA v2, as in ``trtllm_mha``, but without graphs, which the adapter does not capture.

Both kernels multiply masked values by zero, so infinities and NaN among these reach the output. In reclaimed pages,
even finite values may become infinite in XQA's sums (``TrtllmMha.promises``).
"""

_TRIED = (9, 0)
"""The only compute capability on which the adapters were tested."""

_QUANTISES = {
    FP8: f"sglang writes {FP8} KV by quantising it, and rounds the query, which a case has done",
    E5M2: f"sglang writes {E5M2} KV by quantising it, which a case has done",
    NVFP4: f"sglang writes {NVFP4} KV (fp4_e2m1) by quantising it, which a case has done, and reads a wider copy of it",
}

_DYNAMIC_PAGE_SIZE = 128
"""The page size from which trtllm-gen needs grouped heads."""

_PINNED = Version("0.7.2")
"""The FlashInfer release that sglang pins: 0.6.13 lacks the argument ``multi_ctas_kv_counter_buffer``."""


def runs_here(platform: Platform) -> bool:
    """Return whether the adapters were tested on such a machine: without a GPU, or on SM 9.0."""
    return platform.sm in {None, _TRIED}


def _elsewhere(shape: KernelShape, platform: Platform) -> str | None:
    """Return why sglang cannot run ``shape`` on ``platform``, or None."""
    reason = RELEASES.why_not(platform)
    if reason is None and shape.ragged:
        return "sglang verifies as many drafts of each request as its configuration says"
    if reason is None and shape.head_dim_v != shape.head_dim:
        reason = "the adapter makes sglang's layers and pools with values as wide as keys, and no v_head_dim"
    if reason is None and shape.tree:
        reason = "the adapter hands sglang the masks and positions of chains of drafts, topk 1"
    if reason is None and shape.chunked:
        return "the adapter gives sglang's layers a window, and no attention_chunk_size"
    if reason is None and shape.bidirectional:
        return "the adapter makes sglang's layers as those of a decoder, and not as ENCODER_ONLY"
    if reason is None and shape.spans and shape.mode != "extend":
        return "sglang's Gemma 4 makes a mask of images for batches that are extended alone, and no mixed ones"
    if reason is None and not runs_here(platform):
        return f"the adapter was tried on SM 9.0 and on machines without a GPU, not on SM {platform.sm_text}"
    return reason


def triton_supports(shape: KernelShape, platform: Platform) -> Unsupported | None:
    """Return None, or why ``sglang:triton`` cannot run ``shape`` there."""
    reason = _elsewhere(shape, platform)
    if reason is None:
        reason = _interpreter_lacks(shape) if platform.sm is None else _gpu_lacks(shape)
    return None if reason is None else Unsupported(reason)


def _interpreter_lacks(shape: KernelShape) -> str | None:
    if shape.q_dtype == "bfloat16":
        return "Triton's interpreter multiplies bfloat16 wrongly; it runs float16 and float32"
    if shape.kv_dtype == FP8:
        return f"Triton's interpreter has no product of {FP8}, to which sglang rounds the query"
    return _QUANTISES.get(shape.kv_dtype)


def _gpu_lacks(shape: KernelShape) -> str | None:
    if shape.q_dtype == "float32":
        return "on a GPU Triton multiplies float32 as TF32, which sglang leaves at that; it serves 16-bit models"
    return _QUANTISES.get(shape.kv_dtype)


def triton_numerics(shape: KernelShape) -> NumericsProfile:
    """Return the dtypes in sglang's kernels (kernels/ops/attention, 0.5.23), where scores and sums are float32.

    ``_fwd_grouped_kernel_stage1`` and ``_fwd_kernel`` round P to V's dtype. ``_fwd_kernel_stage1``, for decodes without
    grouped heads, does not round P, but rounds each product of a query and a key element to their dtype before the
    sum, an error like that of a rounded query. Partial outputs of split keys are float32. A GPU sums products of 16-bit
    values in float32, so compiled and interpreted kernels have the same dtypes.
    """
    if shape.mode == "decode" and shape.group_size == 1:
        return NumericsProfile(query=None if shape.q_dtype == "float32" else shape.q_dtype)
    return NumericsProfile(p=shape.kv_dtype)


def trtllm_supports(shape: KernelShape, platform: Platform) -> Unsupported | None:
    """Return None, or why ``sglang:trtllm_mha`` cannot run ``shape`` there, for sglang's reasons or FlashInfer's."""
    reason = _elsewhere(shape, platform)
    if reason is not None:
        return Unsupported(reason)
    if shape.spans:
        return Unsupported("sglang's Gemma 4 makes masks of images for Triton and FA4: here they are causal")
    if shape.kv_dtype in _QUANTISES:
        return Unsupported(_QUANTISES[shape.kv_dtype])
    if platform.sm is None:
        if shape.page_size >= _DYNAMIC_PAGE_SIZE and shape.group_size == 1:
            return Unsupported(f"sglang takes page_size {shape.page_size} for grouped heads only")
        return flashinfer_supports(shape, platform)
    return next((Unsupported(reason) for reason in _sm90_lacks(shape, platform)), None) or flashinfer_supports(
        pooled(shape), platform
    )


def _sm90_lacks(shape: KernelShape, platform: Platform) -> Iterator[str]:
    version = platform.version(PACKAGE)
    if version is not None and version < _PINNED:
        yield f"sglang calls FlashInfer as it is from {_PINNED} on, the release that it pins, and this is {version}"
    if shape.soft_cap:
        yield "TRTLLMHAAttnBackend hands no logits soft cap to FlashInfer"


def pooled(shape: KernelShape) -> KernelShape:
    """Return ``shape`` with the layout and storage of sglang's own pool, which FlashInfer reads."""
    return replace(shape, kv_layout="NHD", storage="apart")
