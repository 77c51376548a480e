"""Translate a batch and a layer into the arguments of FlashInfer's wrappers.

- ``window_left`` has the same meaning as in attnconf; a soft cap of 0 means none.
- ``sm_scale`` is an argument of the plan, ``k_scale`` and ``v_scale`` are arguments of the run: FlashInfer multiplies
  sm_scale by the first, and the rounded output by the second. Both are the owner's, whose bytes are read.
- A sink variant gets its scale, with k_scale, in the run.
- Under an 8-bit query the run gets three scales as tensors by head, behind q and the cache; the kernel applies them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from attnconf.backends.flashinfer.fa.build import sink_arguments
from attnconf.backends.flashinfer.fa.indices import PageIndices, host_qo_indptr
from attnconf.backends.flashinfer.tokens import dense_queries
from attnconf.cases.inputs.stored import stored_dtype

if TYPE_CHECKING:
    from attnconf.backends.flashinfer.fa.variant import Variant
    from attnconf.cases.case import Layer
    from attnconf.cases.inputs.batch import Batch, KVCache, LayerInputs, Pool

WrapperKind = Literal["prefill", "decode"]

WRAPPERS: dict[WrapperKind, tuple[str, str]] = {
    "prefill": ("flashinfer.prefill", "BatchPrefillWithPagedKVCacheWrapper"),
    "decode": ("flashinfer.decode", "BatchDecodeWithPagedKVCacheWrapper"),
}


@dataclass(frozen=True)
class PlanKey:
    """The key of a plan: the compiled variant, the pool and the planned arguments of a layer."""

    variant: Variant
    pool: Pool
    num_qo_heads: int
    num_kv_heads: int
    window_left: int
    soft_cap: float
    sm_scale: float

    @property
    def wrapper(self) -> WrapperKind:
        """The wrapper for mode decode: fa2 has one on tensor cores, except with sinks, where it has no window."""
        return "decode" if self.variant.template == "fa2" and not self.variant.sinks else "prefill"


def plan_key(batch: Batch, layer: int, variant: Variant) -> PlanKey:
    """Return the key of the plan for one layer."""
    inputs = batch.layers[layer]
    geometry = inputs.geometry
    return PlanKey(
        variant=variant,
        pool=batch.caches[inputs.cache].pool,
        num_qo_heads=geometry.num_qo_heads,
        num_kv_heads=geometry.num_kv_heads,
        window_left=geometry.window_left,
        soft_cap=geometry.logits_soft_cap or 0.0,
        sm_scale=geometry.sm_scale,
    )


def wrapper_kind(batch: Batch, key: PlanKey) -> WrapperKind:
    """Return the kind of wrapper for a layer of ``batch``, as engines choose it."""
    return key.wrapper if batch.mode == "decode" and set(batch.q_lens) == {1} else "prefill"


def constructor_arguments(batch: Batch, key: PlanKey, kind: WrapperKind, workspace: torch.Tensor) -> dict[str, Any]:
    """Return the keyword arguments of the wrapper's constructor; those of a sink variant import FlashInfer."""
    arguments: dict[str, Any] = {
        "float_workspace_buffer": workspace,
        "kv_layout": batch.kv_layout,
        # Explicit, so that the library does not choose another kernel.
        "backend": key.variant.template,
    }
    if kind == "decode":
        arguments["use_tensor_cores"] = True
    if key.variant.sinks:
        arguments |= sink_arguments(key.variant)
    return arguments


def plan_arguments(batch: Batch, key: PlanKey, kind: WrapperKind, indices: PageIndices) -> dict[str, Any]:
    """Return the keyword arguments of the wrapper's plan."""
    common = {
        "num_qo_heads": key.num_qo_heads,
        "num_kv_heads": key.num_kv_heads,
        "page_size": batch.page_size,
        "window_left": key.window_left,
        "logits_soft_cap": key.soft_cap,
        "sm_scale": key.sm_scale,
        "q_data_type": getattr(torch, key.variant.q_dtype),
        "kv_data_type": stored_dtype(key.variant.kv_dtype),
    }
    if key.variant.out_dtype != key.variant.q_dtype:
        common["o_data_type"] = getattr(torch, key.variant.out_dtype)
    if kind == "decode":
        return common | {
            "indptr": indices.kv_indptr,
            "indices": indices.kv_indices,
            "last_page_len": indices.kv_last_page_len,
            "head_dim": key.variant.head_dim,
        }
    return common | {
        "qo_indptr": host_qo_indptr(batch),
        "paged_kv_indptr": indices.kv_indptr,
        "paged_kv_indices": indices.kv_indices,
        "paged_kv_last_page_len": indices.kv_last_page_len,
        "head_dim_qk": key.variant.head_dim,
        "causal": True,
    }


def run_arguments(
    batch: Batch, layer: int, out: torch.Tensor, lse: torch.Tensor | None
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Return the keyword arguments of the wrapper's run, and its variant's own arguments after q and the cache."""
    inputs = batch.layers[layer]
    cache = batch.caches[inputs.cache]
    stored = batch.layers[inputs.cache].geometry
    arguments: dict[str, Any] = {
        "q": dense_queries(batch, layer),
        "paged_kv_cache": (cache.k, cache.v),
        "out": out,
        "lse": lse,
        "return_lse": lse is not None,
    }
    if cache.k_block_scales is not None:
        arguments["kv_cache_sf"] = cache.k_block_scales, cache.v_block_scales
    if inputs.q.dtype is torch.float8_e4m3fn:
        return arguments, _scales_by_head(inputs, stored, cache)
    arguments["v_scale"] = stored.v_scale
    if inputs.sinks is None:
        return arguments | {"k_scale": stored.k_scale}, ()
    return arguments, (inputs.sinks, inputs.geometry.sm_scale * stored.k_scale)


def _scales_by_head(inputs: LayerInputs, stored: Layer, cache: KVCache) -> tuple[torch.Tensor, ...]:
    """Return q_scale [num_qo_heads], k_scale and v_scale [num_kv_heads], float32."""
    if cache.k_scales is not None and cache.v_scales is not None:
        q_scales = torch.full((inputs.geometry.num_qo_heads,), inputs.q_scale, device=inputs.q.device)
        return q_scales, cache.k_scales, cache.v_scales
    geometry = inputs.geometry
    heads = geometry.num_qo_heads, geometry.num_kv_heads, geometry.num_kv_heads
    scales = inputs.q_scale, stored.k_scale, stored.v_scale
    return tuple(
        torch.full((count,), scale, dtype=torch.float32, device=inputs.q.device)
        for count, scale in zip(heads, scales, strict=True)
    )
