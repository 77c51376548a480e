"""Translate a batch and a layer into the keyword arguments of FlashInfer's functions.

- ``window_left`` has the same meaning as in attnconf (the query's own key and ``window_left`` keys before it; -1 is
  unlimited). FMHA v2 uses it only with ``mask_mode="sliding_window"``.
- Each product has one fused scale: ``bmm1_scale`` is sm_scale * k_scale * q_scale, ``bmm2_scale`` v_scale / out_scale.
  XQA is told the out_scale of an 8-bit answer as ``o_scale``, too, from which it gets v_scale back.
- Page tables contain ids of the pool that the layer reads. K and V share a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.flashinfer.tokens import dense_queries
from attnconf.backends.flashinfer.trtllm_mha.blocks import scale_pools
from attnconf.backends.flashinfer.trtllm_mha.dispatch import FUNCTIONS, Family
from attnconf.backends.flashinfer.trtllm_mha.stacked import PageCopy, page_copy, stacked_copy, stacked_view
from attnconf.backends.tables import block_tables_for

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import Batch

MASK_WORD_BITS = 16


@dataclass(frozen=True)
class Call:
    """One call: the module and name of the function, and its keyword arguments.

    ``copied``: the pages were copied into a layout that the kernel can read.
    """

    module: str
    function: str
    arguments: dict[str, Any]
    copied: bool = False


@dataclass(frozen=True)
class Metadata:
    """The metadata of a batch: tables by layer, cumulative lengths [rows + 1] int32, mask, numbers of copied pages."""

    tables: tuple[torch.Tensor, ...]
    cum_seq_lens_q: torch.Tensor
    cum_seq_lens_kv: torch.Tensor
    mask: torch.Tensor | None
    copy: PageCopy | None


def build_metadata(batch: Batch, kernel: Family) -> Metadata:
    """Build the metadata of ``batch`` for one kernel family."""
    zero = torch.zeros(1, dtype=torch.int32, device=batch.device)
    q_len = batch.q_lens[0]
    return Metadata(
        # The kernels compute a row's address from the table's width, so it must be contiguous.
        tables=tuple(block_tables_for(batch, layer).contiguous() for layer in range(len(batch.layers))),
        cum_seq_lens_q=batch.qo_indptr,
        cum_seq_lens_kv=torch.cat([zero, batch.seq_lens.cumsum(0).to(torch.int32)]),
        mask=_mask_of(batch) if kernel == "xqa" and q_len > 1 else None,
        copy=page_copy(batch) if kernel == "fmha_v2" else None,
    )


def draft_mask(seen: torch.Tensor) -> torch.Tensor:
    """Return XQA's mask over the new tokens, [rows, q_len, 2 * ceil(q_len / 32)] uint16, on the device of ``seen``.

    Bit j of row i is set where query token i sees new token j: where ``seen`` [rows, q_len, q_len] says so.
    """
    rows, q_len = seen.shape[:2]
    words = -(-q_len // 32) * 2
    bits = torch.nn.functional.pad(seen.to(torch.int32), (0, words * MASK_WORD_BITS - q_len))
    weights = 2 ** torch.arange(MASK_WORD_BITS, dtype=torch.int32, device=seen.device)
    packed = (bits.view(rows, q_len, words, MASK_WORD_BITS) * weights).sum(-1)
    return packed.to(torch.int32).to(torch.uint16).contiguous()


def _mask_of(batch: Batch) -> torch.Tensor:
    """Return the mask of a batch whose requests have as many drafts each: of its trees, or of chains."""
    rows, q_len = len(batch.q_lens), batch.q_lens[0]
    if batch.tree_mask is not None:
        return draft_mask(batch.tree_mask.view(rows, q_len, q_len))
    chain = torch.ones(q_len, q_len, dtype=torch.bool, device=batch.device).tril()
    return draft_mask(chain.expand(rows, q_len, q_len))


def build_call(  # noqa: PLR0913 - the parts of one launch
    kernel: Family,
    batch: Batch,
    layer: int,
    metadata: Metadata,
    *,
    workspace: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor | None,
) -> Call:
    """Return the call that runs ``layer`` of ``batch``. Only trtllm-gen gets ``lse``; the others have none."""
    inputs = batch.layers[layer]
    geometry = inputs.geometry
    # The owner stored the bytes, so its scales apply; a redirected layer has none of its own.
    stored = batch.layers[inputs.cache].geometry
    module, function = FUNCTIONS[kernel]
    common = {
        "workspace_buffer": workspace,
        "seq_lens": batch.seq_lens,
        "bmm1_scale": geometry.sm_scale * stored.k_scale * inputs.q_scale,
        "bmm2_scale": stored.v_scale / inputs.out_scale,
        "window_left": geometry.window_left,
        "out": out,
        "sinks": inputs.sinks,
    }
    if kernel == "fmha_v2":
        return _fmha_v2_call(batch, layer, metadata, common)
    cache = batch.caches[inputs.cache]
    arguments: dict[str, Any] = {
        **common,
        "query": dense_queries(batch, layer),
        "kv_cache": (cache.k, cache.v),
        "block_tables": metadata.tables[layer],
        "kv_layout": batch.kv_layout,
    }
    blocks = scale_pools(cache)
    if blocks is not None:
        arguments["kv_cache_sf"] = blocks
    if lse is not None:
        arguments["lse"] = lse
    if kernel == "trtllm-gen-context":
        arguments |= _ragged(batch, metadata)
    else:
        arguments |= {
            "max_seq_len": batch.max_seq_len,
            "q_len_per_req": batch.q_lens[0],
            # Explicit, so that the library does not choose another kernel.
            "backend": "xqa" if kernel == "xqa" else "trtllm-gen",
        }
        if metadata.mask is not None:
            arguments["mask"] = metadata.mask
        if kernel == "xqa" and inputs.out_scale != 1.0:
            arguments["o_scale"] = inputs.out_scale
    return Call(module, function, arguments)


def _ragged(batch: Batch, metadata: Metadata) -> dict[str, Any]:
    return {
        "max_q_len": batch.max_q_len,
        "max_kv_len": batch.max_seq_len,
        "batch_size": len(batch.q_lens),
        "cum_seq_lens_q": metadata.cum_seq_lens_q,
        "cum_seq_lens_kv": metadata.cum_seq_lens_kv,
    }


def _fmha_v2_call(batch: Batch, layer: int, metadata: Metadata, common: dict[str, Any]) -> Call:
    inputs = batch.layers[layer]
    cache = batch.caches[inputs.cache]
    tables = metadata.tables[layer]
    stacked = stacked_view(cache)
    copied = stacked is None
    if stacked is None:
        if metadata.copy is None:
            raise ValueError("metadata built for another kernel family")
        stacked = stacked_copy(cache, tables, metadata.copy)
        tables = metadata.copy.table
    module, function = FUNCTIONS["fmha_v2"]
    arguments = {
        **common,
        **_ragged(batch, metadata),
        "qkv": (dense_queries(batch, layer), stacked),
        "input_layout": f"Q_PAGED_KV_{batch.kv_layout}",
        "block_tables": tables,
        "mask_mode": "causal" if inputs.geometry.window_left < 0 else "sliding_window",
        "logits_soft_cap_scale": inputs.geometry.logits_soft_cap,
    }
    return Call(module, function, arguments, copied=copied)
