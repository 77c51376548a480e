"""What sglang's attention backends can be asked: from the shape and the platform alone, without importing sglang."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.backends.protocol import Promises, Unsupported
from attnconf.backends.sglang.package import RELEASES
from attnconf.backends.trtllm_mha.capability import supports as flashinfer_supports
from attnconf.numerics import NumericsProfile

if TYPE_CHECKING:
    from attnconf.platforms import Platform
    from attnconf.shape import KernelShape

TRITON_PROMISES = Promises(
    empty_kv=False,
    batch_invariant=False,
    least_window=1,
)
"""What ``TritonAttnBackend`` keeps.

Its loads are masked by length, so dead slots and pages behind a window may hold anything; a padding row has one token,
never none. On a GPU the number of KV splits depends on the batch: bitwise independence is a mode of its own
(``enable_deterministic_inference``), and not the default. ``RadixAttention`` takes a window of 0 for none.
"""


def triton_supports(shape: KernelShape, platform: Platform) -> Unsupported | None:
    """Return None, or why ``sglang:triton`` cannot run ``shape`` there."""
    reason = RELEASES.why_not(platform)
    if reason is not None:
        return Unsupported(reason)
    if platform.sm is not None:
        return Unsupported("the adapter runs sglang's kernels through Triton's interpreter, on machines without a GPU")
    if shape.q_dtype == "bfloat16":
        return Unsupported("Triton's interpreter multiplies bfloat16 wrongly; it runs float16 and float32")
    if shape.kv_dtype == "float8_e4m3fn":
        return Unsupported("Triton's interpreter has no product of float8_e4m3fn, to which sglang rounds the query")
    return None


def triton_numerics(shape: KernelShape) -> NumericsProfile:
    """Return how sglang's kernels hold their values (kernels/ops/attention, 0.5.23): scores and sums are float32.

    ``_fwd_grouped_kernel_stage1`` and ``_fwd_kernel`` round P to V's dtype. ``_fwd_kernel_stage1``, which decodes where
    each query head has a KV head of its own, rounds each product of a query and a key element to their dtype before it
    sums (as a query rounded to it would be off), and keeps P.
    """
    if shape.mode == "decode" and shape.group_size == 1:
        return NumericsProfile(query=None if shape.q_dtype == "float32" else shape.q_dtype)
    return NumericsProfile(p=shape.kv_dtype)


TRTLLM_PROMISES = Promises(
    empty_kv=False,
    deterministic=False,
    batch_invariant=False,
    least_window=1,
)
"""What ``TRTLLMHAAttnBackend`` keeps with FlashInfer's calls read as documented: those lengths say which keys exist."""

_DYNAMIC_PAGE_SIZE = 128


def trtllm_supports(shape: KernelShape, platform: Platform) -> Unsupported | None:
    """Return None, or why ``sglang:trtllm_mha`` cannot run ``shape`` there: sglang's reasons, then FlashInfer's."""
    reason = RELEASES.why_not(platform)
    if reason is not None:
        return Unsupported(reason)
    if platform.sm is not None:
        return Unsupported("the adapter reads FlashInfer's documented contract, on machines without a GPU")
    if shape.kv_dtype == "float8_e4m3fn":
        return Unsupported(
            "sglang writes float8_e4m3fn KV by quantising it, and rounds the query, which a case has done"
        )
    if shape.page_size >= _DYNAMIC_PAGE_SIZE and shape.group_size == 1:
        return Unsupported(f"sglang takes page_size {shape.page_size} for grouped heads only")
    return flashinfer_supports(shape, platform)
