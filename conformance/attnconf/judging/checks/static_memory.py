"""Memory of its own for a batch, with room for others, whose contents are copied into it: what engines replay over."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.poison import bits

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import Batch, KVCache
    from attnconf.judging.posed import PosedCase


def own_memory(batch: Batch, *others: PosedCase) -> Batch:
    """Return a copy of ``batch`` whose memory has room for the batches of ``others``, too.

    These have no more requests and no more query tokens. Their pages are counted, and none of their tensors is made.
    """
    layouts = [posed.layout for posed in others]
    counts = [max([cache.k.shape[0], *(layout.num_pages[cache.pool] for layout in layouts)]) for cache in batch.caches]
    columns = max(tables.shape[1] for tables in (batch.block_tables, *(layout.block_tables for layout in layouts)))
    slots = batch.full_to_swa
    if slots is not None:
        mapped = [mapping.shape[0] for layout in layouts if (mapping := layout.full_to_swa()) is not None]
        slots = slots.new_zeros(max([slots.shape[0], *mapped]))
    spanned = any(request.queried_spans for posed in others for request in posed.case.requests)
    spans = batch.qo_indptr.new_zeros((batch.num_rows, 2)) if spanned or batch.row_spans is not None else None
    static = replace(
        batch,
        seq_lens=batch.seq_lens.clone(),
        qo_indptr=batch.qo_indptr.clone(),
        block_tables=batch.block_tables.new_zeros((batch.block_tables.shape[0], columns)),
        full_to_swa=slots,
        row_spans=spans,
        tree_mask=_copy(batch.tree_mask),
        row_depths=_copy(batch.row_depths),
        max_seq_len=max([batch.max_seq_len, *(posed.case.max_seq_len for posed in others)]),
        layers=tuple(
            replace(layer, q=_room(layer.q, len(layer.q)), sinks=_copy(layer.sinks)) for layer in batch.layers
        ),
        caches=tuple(room_for(cache, count) for cache, count in zip(batch.caches, counts, strict=True)),
    )
    return load(static, batch)


def load(static: Batch, batch: Batch) -> Batch:
    """Copy the contents of ``batch`` into the memory of ``static``, which has room for more.

    ``batch`` may have fewer pages, columns, requests and query tokens. Requests behind its last one have no query token
    and no key, as vLLM pads a captured batch: the query starts behind stay at the number of query tokens.
    """
    requests, rows = len(batch.q_lens), batch.num_rows
    static.seq_lens.zero_()
    static.seq_lens[:requests].copy_(batch.seq_lens)
    static.qo_indptr.fill_(rows)
    static.qo_indptr[: requests + 1].copy_(batch.qo_indptr)
    static.block_tables.zero_()
    static.block_tables[:requests, : batch.block_tables.shape[1]].copy_(batch.block_tables)
    if static.full_to_swa is not None and batch.full_to_swa is not None:
        static.full_to_swa.zero_()
        static.full_to_swa[: batch.full_to_swa.shape[0]].copy_(batch.full_to_swa)
    for target, source in zip(static.layers, batch.layers, strict=True):
        target.q[: len(source.q)].copy_(source.q)
        if target.sinks is not None and source.sinks is not None:
            target.sinks.copy_(source.sinks)
    for kept, cache in zip(static.caches, batch.caches, strict=True):
        for name, contents in cache.paged.items():
            bits(kept.paged[name])[: contents.shape[0]].copy_(bits(contents))
        for scales, given in ((kept.k_scales, cache.k_scales), (kept.v_scales, cache.v_scales)):
            if scales is not None and given is not None:
                scales.copy_(given)
    _load_rows(static, batch)
    behind = (0,) * (len(static.q_lens) - requests)
    return replace(static, q_lens=(*batch.q_lens, *behind), kv_lens=(*batch.kv_lens, *behind))


def _load_rows(static: Batch, batch: Batch) -> None:
    """Copy what each query row has beside its query: spans, and the drafts of its branch."""
    if static.tree_mask is not None and batch.tree_mask is not None:
        static.tree_mask.zero_()
        static.tree_mask[: batch.tree_mask.shape[0], : batch.tree_mask.shape[1]].copy_(batch.tree_mask)
    if static.row_depths is not None and batch.row_depths is not None:
        static.row_depths[: len(batch.row_depths)].copy_(batch.row_depths)
    if static.row_spans is not None:
        static.row_spans.zero_()  # what a row has that is in no span
        if batch.row_spans is not None:
            static.row_spans[: len(batch.row_spans)].copy_(batch.row_spans)


def room_for(cache: KVCache, pages: int) -> KVCache:
    """Return a zeroed cache of ``pages`` pages with the strides of ``cache``, K and V in one page where they lie so.

    A backend may refuse pages whose K and V are apart, or read both through one pointer.
    """
    k, v = _room_for_both(cache.k, cache.v, pages)
    own = replace(cache, k=k, v=v, k_scales=_copy(cache.k_scales), v_scales=_copy(cache.v_scales))
    if cache.k_block_scales is None or cache.v_block_scales is None:
        return own
    k, v = _room_for_both(cache.k_block_scales, cache.v_block_scales, pages)
    return replace(own, k_block_scales=k, v_block_scales=v)


def _room_for_both(k: torch.Tensor, v: torch.Tensor, pages: int) -> tuple[torch.Tensor, torch.Tensor]:
    behind = int(v.storage_offset()) - int(k.storage_offset())
    together = k.untyped_storage().data_ptr() == v.untyped_storage().data_ptr() and abs(behind) < k.stride(0)
    if not together:
        return _room(k, pages), _room(v, pages)
    first, second = max(0, -behind), max(0, behind)
    memory = k.new_zeros(max(first + _span(k, pages), second + _span(v, pages)))
    shapes = (pages, *k.shape[1:]), (pages, *v.shape[1:])
    return memory.as_strided(shapes[0], k.stride(), first), memory.as_strided(shapes[1], v.stride(), second)


def _room(view: torch.Tensor, pages: int) -> torch.Tensor:
    """Return a zeroed tensor of ``pages`` pages with the strides of ``view``."""
    memory = torch.zeros(_span(view, pages), dtype=view.dtype, device=view.device)
    return memory.as_strided((pages, *view.shape[1:]), view.stride())


def _span(view: torch.Tensor, pages: int) -> int:
    """Return how many elements ``pages`` pages with the strides of ``view`` reach over."""
    shape = (pages, *view.shape[1:])
    return 1 + sum((int(size) - 1) * int(stride) for size, stride in zip(shape, view.stride(), strict=True))


def _copy(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.clone()
