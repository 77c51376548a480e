"""The attention of one vLLM model: its layers, their KV caches and the metadata of one batch.

The classes are vLLM's own: ``Attention``, which gets its backend as an argument, writes its keys and values and calls
the kernels; the backend's metadata builder, one for each group of layers with equal KV caches;
``CommonAttentionMetadata``, the builder's input; and the forward context. A substitute for ``VllmConfig`` has the
values that these read.

Caches are views of the batch's own memory. An owner writes the keys and values of the new tokens through vLLM's kernel
to the slots that contain them already, so the bits change only if it writes wrongly or elsewhere.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.engines.vllm.images import has_images, image_ranges, leave_out
from attnconf.backends.tables import block_tables_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.backends.engines.vllm.library import Library
    from attnconf.cases.case import Layer
    from attnconf.cases.inputs.batch import Batch, KVCache

    GroupKey = tuple[int, ...]


class Engine:
    """The ``layers`` of ``batch``, by index, in one model of vLLM. The constructor builds the metadata."""

    def __init__(self, vllm: Library, batch: Batch, layers: Iterable[int]) -> None:
        self._vllm = vllm
        self._batch = batch
        self._layers: dict[int, Any] = {}
        indices = list(layers)
        self._config = _config(vllm, batch, indices)
        self._images = has_images(batch, indices)
        with vllm.running(self._config), batch.device:  # as in vLLM's model loader
            for index in indices:
                self._layers[index] = self._attention(index)
            groups: dict[GroupKey, list[int]] = {}
            for index in indices:
                groups.setdefault(_group(batch, index), []).append(index)
            self._metadata: dict[str, Any] = {}
            self._slots: dict[str, torch.Tensor] = {}
            for members in groups.values():
                self._build(members)

    def run(self, index: int) -> torch.Tensor:
        """Run one layer, as the model does; returns [tokens, num_qo_heads, head_dim].

        A redirected layer gets NaN as its own keys and values, which it must neither read nor write.
        """
        inputs = self._batch.layers[index]
        layer = self._layers[index]
        k, v = self._new_kv(index)
        if inputs.geometry.kv_owner is not None:
            k, v = torch.full_like(k, torch.nan), torch.full_like(v, torch.nan)
        context = self._vllm.create_forward_context(self._metadata, self._config, slot_mapping=self._slots)
        with self._vllm.running(self._config), self._vllm.override_forward_context(context):
            if self._images:
                leave_out(self._vllm, (other for other in self._layers if not self._geometry(other).spans))
            out: torch.Tensor = layer(inputs.q[: self._batch.num_rows].clone(), k, v)
        return out.view(-1, *inputs.q.shape[1:])

    def _geometry(self, index: int) -> Layer:
        return self._batch.layers[index].geometry

    @property
    def scratch(self) -> list[torch.Tensor]:
        """The kernels' memory for results over parts of the keys."""
        found = {id(metadata): metadata for metadata in self._metadata.values()}.values()
        return [
            memory
            for metadata in found
            for memory in (metadata.softmax_segm_output, metadata.softmax_segm_max, metadata.softmax_segm_expsum)
        ]

    def _attention(self, index: int) -> Any:  # noqa: ANN401 - vLLM's Attention
        """Return the layer as model code declares it, with its cache."""
        inputs = self._batch.layers[index]
        geometry = inputs.geometry
        target = None if geometry.kv_owner is None else _name(inputs.cache)
        if target is not None and target not in self._config.compilation_config.static_forward_context:
            self._layers[inputs.cache] = self._attention(inputs.cache)
        layer = self._vllm.Attention(
            geometry.num_qo_heads,
            geometry.head_dim,
            geometry.sm_scale,
            num_kv_heads=geometry.num_kv_heads,
            logits_soft_cap=geometry.logits_soft_cap,
            per_layer_sliding_window=geometry.window_left + 1 if geometry.window_left >= 0 else None,
            prefix=_name(index),
            kv_sharing_target_layer_name=target,
            mm_prefix_clamp_sliding_window=geometry.window_left >= 0,
            attn_backend=self._vllm.TritonAttentionBackend,
            sinks=inputs.sinks,
        )
        layer.kv_cache = as_vllm(self._batch.caches[inputs.cache], self._batch.kv_layout)
        return layer

    def _build(self, members: list[int]) -> None:
        """Build the metadata of a group of layers, and the slots of their new tokens."""
        batch, first = self._batch, members[0]
        names = [_name(index) for index in members]
        tables = self._tables(first)
        slots = self._slot_mapping(tables)
        builder = self._vllm.TritonAttentionBackend.get_builder_cls()(
            self._spec(first), names, self._config, batch.device
        )
        metadata = builder.build(
            0,
            self._vllm.CommonAttentionMetadata(
                query_start_loc=batch.qo_indptr,
                query_start_loc_cpu=batch.qo_indptr.cpu(),
                seq_lens=batch.seq_lens,
                num_reqs=len(batch.kv_lens),
                num_actual_tokens=batch.num_rows,
                max_query_len=batch.max_q_len,
                max_seq_len=batch.max_seq_len,
                block_table_tensor=tables,
                slot_mapping=slots,
                mm_req_doc_ranges=image_ranges(self._vllm, batch) if self._images else None,
            ),
        )
        for name in names:
            self._metadata[name] = metadata
            self._slots[name] = slots

    def _tables(self, index: int) -> torch.Tensor:
        """Return the block table of a layer's KV cache group, with the width of vLLM's table."""
        tables = block_tables_for(self._batch, index)
        width = self._vllm.get_block_table_width(tables.shape[1], self._batch.page_size)
        widened = tables.new_zeros((tables.shape[0], width))
        widened[:, : tables.shape[1]] = tables
        return widened

    def _slot_mapping(self, tables: torch.Tensor) -> torch.Tensor:
        """Return the cache slot of each new token, [tokens] int64; padding has vLLM's ``PAD_SLOT_ID``."""
        batch = self._batch
        slots = []
        for row, (q_len, kv_len) in enumerate(zip(batch.q_lens, batch.kv_lens, strict=True)):
            positions = torch.arange(kv_len - q_len, kv_len, device=batch.device)
            there = positions.clamp_min(0)
            pages = tables[row].long()[there // batch.page_size]
            slot = pages * batch.page_size + there % batch.page_size
            slots.append(torch.where(positions >= 0, slot, self._vllm.PAD_SLOT_ID))
        return torch.cat(slots)

    def _spec(self, index: int) -> Any:  # noqa: ANN401 - vLLM's AttentionSpec
        geometry = self._batch.layers[index].geometry
        facts = {
            "block_size": self._batch.page_size,
            "num_kv_heads": geometry.num_kv_heads,
            "head_size": geometry.head_dim,
            "dtype": self._batch.layers[index].q.dtype,
        }
        if geometry.window_left < 0:
            return self._vllm.FullAttentionSpec(**facts)
        return self._vllm.SlidingWindowSpec(**facts, sliding_window=geometry.window_left + 1)

    def _new_kv(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of the new tokens from the cache, [tokens, num_kv_heads, head_dim]."""
        batch = self._batch
        cache = batch.caches[batch.layers[index].cache]
        slots = self._slots[_name(index)].clamp_min(0)
        pages, offsets = slots // batch.page_size, slots % batch.page_size
        k, v = (view if batch.kv_layout == "NHD" else view.transpose(1, 2) for view in (cache.k, cache.v))
        return k[pages, offsets], v[pages, offsets]


def as_vllm(cache: KVCache, layout: str) -> torch.Tensor:
    """Return a view of a cache in storage ``sliced`` as [pages, num_kv_heads, page_size, 2 * head_dim], as in vLLM.

    Keys are the first half of each row, values the second. Raises ``ValueError`` for any other storage.
    """
    k, v = cache.k, cache.v
    dim = k.shape[-1]
    beside = v.storage_offset() == k.storage_offset() + dim and v.data_ptr() == k.data_ptr() + dim * k.element_size()
    if not beside or k.stride() != v.stride() or k.stride(-1) != 1:
        raise ValueError("keys and values do not lie side by side")
    joint = torch.as_strided(k, (*k.shape[:-1], 2 * dim), k.stride(), k.storage_offset())
    return joint if layout == "HND" else joint.transpose(1, 2)


def _name(index: int) -> str:
    return f"model.layers.{index}.self_attn.attn"


def _group(batch: Batch, index: int) -> GroupKey:
    """Return the key of a layer's KV cache group; a redirected layer is in its owner's group.

    Metadata are those of a group, so layers of which one follows images and another does not are in two.
    """
    layer = batch.layers[index]
    geometry = layer.geometry
    pool = int(batch.caches[layer.cache].pool == "swa")
    heads = (geometry.num_qo_heads, geometry.num_kv_heads, geometry.head_dim)
    return (*heads, geometry.window_left, pool, int(geometry.spans))


def _config(vllm: Library, batch: Batch, indices: list[int]) -> Any:  # noqa: ANN401 - a substitute for a VllmConfig
    """Return the values of vLLM's configuration that layers and builder read; the model's are maxima, as in vLLM."""
    layers = [batch.layers[index].geometry for index in indices]
    drafts = SimpleNamespace(num_speculative_tokens=batch.q_lens[0] - 1, parallel_drafting=False)
    dtype = batch.layers[0].q.dtype
    return SimpleNamespace(
        model_config=SimpleNamespace(
            dtype=dtype,
            is_mm_prefix_lm=has_images(batch, indices),
            rswa_window=None,
            get_num_attention_heads=lambda _: max(layer.num_qo_heads for layer in layers),
            get_num_kv_heads=lambda _: max(layer.num_kv_heads for layer in layers),
            get_head_size=lambda: max(layer.head_dim for layer in layers),
        ),
        cache_config=None,
        parallel_config=SimpleNamespace(
            tensor_parallel_size=1, decode_context_parallel_size=1, prefill_context_parallel_size=1
        ),
        speculative_config=drafts if batch.mode == "verify" else None,
        scheduler_config=SimpleNamespace(max_num_seqs=vllm.SchedulerConfig.DEFAULT_MAX_NUM_SEQS),
        kv_transfer_config=None,
        quant_config=None,
        compilation_config=SimpleNamespace(
            static_forward_context={},
            fast_moe_cold_start=False,
            cudagraph_mode=vllm.CUDAGraphMode.NONE,
            custom_ops=["none"],
        ),
    )
