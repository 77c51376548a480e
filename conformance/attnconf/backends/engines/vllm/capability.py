"""The capability of vLLM's Triton backend, by shape and platform, without importing vLLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.backends.engines.vllm.package import RELEASES
from attnconf.backends.protocol import Promises, Unsupported
from attnconf.cases.dtypes import EIGHT_BIT, NVFP4
from attnconf.precision import NumericsProfile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform

PROMISES = Promises(
    empty_kv=False,
    batch_invariant=False,
    hint_invariant=False,
)
"""The promises of ``TritonAttentionBackend`` (v1/attention/ops/triton_unified_attention.py, 0.33.0).

Its loads of keys and values are masked by length, and keys behind a window are masked in both products, so dead slots
and reclaimed pages may contain anything. Where keys are split, a row without keys is not written. Splits depend on the
number of requests and on the host's largest query length, so neighbours and hints change bits; bitwise independence
needs another mode (``VLLM_BATCH_INVARIANT``), which is off by default.
"""

_TRIED = (9, 0)
_PAGE_SIZE = 16
_LEAST_HEAD_DIM = 32


def supports(shape: KernelShape, platform: Platform) -> Unsupported | None:
    """Return None, or why ``vllm:triton`` cannot run ``shape`` there."""
    return next((Unsupported(reason) for reason in _reasons(shape, platform)), None)


def _reasons(shape: KernelShape, platform: Platform) -> Iterator[str]:
    reason = RELEASES.why_not(platform)
    if reason is not None:
        yield reason
    if platform.sm is None:
        yield from _interpreter_lacks(shape)
    else:
        yield from _gpu_lacks(shape, platform)
    if shape.kv_dtype not in {shape.q_dtype, NVFP4}:
        yield f"vLLM keeps {shape.q_dtype} KV beside {shape.q_dtype} queries, not {shape.kv_dtype}"
    yield from _not_passed_on(shape)
    if shape.storage != "sliced":
        yield f"vLLM keeps the key and the value of a head side by side in one row; storage {shape.storage} does not"
    if shape.page_size % _PAGE_SIZE:
        yield f"page_size {shape.page_size} is no multiple of {_PAGE_SIZE}"
    if shape.head_dim < _LEAST_HEAD_DIM:
        yield f"head_dim {shape.head_dim} is below {_LEAST_HEAD_DIM}"


def _not_passed_on(shape: KernelShape) -> Iterator[str]:
    if shape.kv_dtype == NVFP4:
        yield f"vLLM serves {NVFP4} KV by FlashInfer's trtllm-gen on SM 10.x, and not by TritonAttentionBackend"
    if shape.ragged:
        yield "the adapter was tried with as many drafts in each request as vLLM's configuration says"
    if shape.head_dim_v != shape.head_dim:
        yield "vLLM serves values of another width than keys by FLASH_ATTN_DIFFKV, and not by TritonAttentionBackend"
    if shape.tree:
        yield "vLLM verifies chains of drafts, and no trees"
    if shape.chunked:
        yield "the adapter makes vLLM's Attention, and not its ChunkedLocalAttention"
    if shape.bidirectional:
        yield "the adapter makes vLLM's layers as those of a decoder, and its metadata causal"


def _interpreter_lacks(shape: KernelShape) -> Iterator[str]:
    if shape.q_dtype == "bfloat16":
        yield "Triton's interpreter multiplies bfloat16 wrongly; it runs float16 and float32"
    if shape.kv_dtype in EIGHT_BIT:
        yield f"vLLM writes {shape.kv_dtype} KV on a GPU only"


def _gpu_lacks(shape: KernelShape, platform: Platform) -> Iterator[str]:
    if platform.sm != _TRIED:
        yield f"the adapter was tried on SM 9.0 and on machines without a GPU, not on SM {platform.sm_text}"
    if shape.q_dtype == "float32":
        yield "on a GPU Triton multiplies float32 as TF32, which vLLM leaves at that; it serves 16-bit models"
    if shape.kv_dtype in EIGHT_BIT:
        yield f"vLLM writes {shape.kv_dtype} KV by quantising it, which a case has done"


def numerics(shape: KernelShape) -> NumericsProfile:
    """Return the dtypes in ``kernel_unified_attention``: P is rounded to V's dtype, everything else is float32.

    The denominator sums P before it is rounded, and the partial outputs of split keys are float32. The soft cap is
    cap * (1 - 2 / (exp(2 s / cap) + 1)) in float32. A GPU sums products of 16-bit values in float32, too.
    """
    return NumericsProfile(p=shape.q_dtype, partials="float32")
