"""KernelShape: the part of a case that decides which kernel a backend runs, if any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.cases.dtypes import NVFP4
from attnconf.cases.sight import follows_spans, follows_tree, sees_ahead

if TYPE_CHECKING:
    import torch

    from attnconf.cases.case import Case, KVLayout, Mode, Storage
    from attnconf.cases.dtypes import KVDtype, OutDtype, QDtype
    from attnconf.cases.inputs.batch import Batch, KVCache


@dataclass(frozen=True, kw_only=True)
class KernelShape:
    """The properties of one layer of a case that pick a kernel. Tables and contents are not among them.

    ``head_dim`` is the width of queries and keys, ``head_dim_v`` that of values and answers, mostly the same.
    ``max_q_len`` is the largest number of query tokens of a request. ``windowed``, ``soft_cap`` and ``sinks`` say
    whether the feature is on, ``chunked`` whether the layer is, ``spans`` whether some row lies in a span that the
    layer follows, ``bidirectional`` whether rows see all of their request in both directions, ``head_scales`` whether
    each KV head has scales of its own, ``ragged`` whether the requests of a verify step differ in their number of query
    tokens, and ``tree`` whether the drafts of one are a tree. Most libraries compile for these alone. Those with
    precompiled kernels also pick by the number of requests, by the host hint of the longest request in keys, and by
    ``window_left`` in keys; None stands for whatever it may be, as where a machine is planned.
    """

    mode: Mode
    q_dtype: QDtype
    kv_dtype: KVDtype
    out_dtype: OutDtype
    head_dim: int
    head_dim_v: int
    num_qo_heads: int
    num_kv_heads: int
    page_size: int
    kv_layout: KVLayout
    storage: Storage
    max_q_len: int
    windowed: bool
    chunked: bool
    soft_cap: bool
    sinks: bool
    spans: bool
    bidirectional: bool
    head_scales: bool
    ragged: bool
    tree: bool
    num_requests: int | None = None
    max_kv_len: int | None = None
    window_left: int | None = None

    @property
    def group_size(self) -> int:
        """Query heads per KV head."""
        return self.num_qo_heads // self.num_kv_heads


def kernel_shape(case: Case, layer: int) -> KernelShape:
    """Return the shape of one layer of ``case``."""
    geometry = case.layers[layer]
    return KernelShape(
        mode=case.mode,
        q_dtype=case.q_dtype,
        kv_dtype=case.kv_dtype,
        out_dtype=case.answer_dtype,
        head_dim=geometry.head_dim,
        head_dim_v=geometry.value_dim,
        num_qo_heads=geometry.num_qo_heads,
        num_kv_heads=geometry.num_kv_heads,
        page_size=case.paging.page_size,
        kv_layout=case.paging.layout,
        storage=case.paging.storage,
        max_q_len=max(request.new_tokens for request in case.requests),
        windowed=geometry.window_left >= 0,
        chunked=geometry.chunk_size is not None,
        soft_cap=geometry.logits_soft_cap is not None,
        sinks=geometry.sinks,
        spans=follows_spans(geometry, case.requests),
        bidirectional=sees_ahead(geometry, case.requests),
        head_scales=bool(case.layers[case.owner(layer)].k_scales),
        ragged=case.mode == "verify" and len({request.new_tokens for request in case.requests}) > 1,
        tree=follows_tree(case.requests),
        num_requests=len(case.requests) + case.padding_rows,
        max_kv_len=case.max_seq_len,
        window_left=geometry.window_left,
    )


def batch_shape(batch: Batch, index: int) -> KernelShape:
    """Return the shape of one layer of ``batch``. A redirected layer has its owner's KV dtype."""
    layer = batch.layers[index]
    geometry = layer.geometry
    return KernelShape(
        mode=batch.mode,
        q_dtype=_name(layer.q.dtype),  # type: ignore[arg-type]
        kv_dtype=_kv_name(batch.caches[layer.cache]),
        out_dtype=_name(layer.out_dtype),  # type: ignore[arg-type]
        head_dim=geometry.head_dim,
        head_dim_v=geometry.value_dim,
        num_qo_heads=geometry.num_qo_heads,
        num_kv_heads=geometry.num_kv_heads,
        page_size=batch.page_size,
        kv_layout=batch.kv_layout,
        storage=batch.storage,
        max_q_len=batch.max_q_len,
        windowed=geometry.window_left >= 0,
        chunked=geometry.chunk_size is not None,
        soft_cap=geometry.logits_soft_cap is not None,
        sinks=layer.sinks is not None,
        spans=geometry.spans and batch.row_spans is not None,
        bidirectional=geometry.bidirectional and max(batch.q_lens) > 1,
        head_scales=batch.caches[layer.cache].k_scales is not None,
        ragged=batch.mode == "verify" and len(set(batch.q_lens)) > 1,
        tree=batch.tree_mask is not None,
        num_requests=len(batch.q_lens),
        max_kv_len=batch.max_seq_len,
        window_left=geometry.window_left,
    )


def _kv_name(cache: KVCache) -> KVDtype:
    return _name(cache.k.dtype) if cache.k_block_scales is None else NVFP4  # type: ignore[return-value]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
