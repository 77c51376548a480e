"""``reference``: paged attention in plain PyTorch and float32, which reads keys through the block tables.

It tests layout and metadata, since it reads pages. It has no code in common with the oracle, which never sees a page.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from attnconf.backends.packed import unpacked
from attnconf.backends.protocol import CORRUPTIONS, EvidenceKind, Promises, Unsupported
from attnconf.backends.tables import block_tables_for
from attnconf.backends.validation import why_corrupt
from attnconf.precision import NumericsProfile

if TYPE_CHECKING:
    from attnconf.backends.protocol import Prepared
    from attnconf.cases.case import Layer
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform

KERNEL = "torch-paged"


def make(platform: Platform) -> ReferenceBackend:
    """Return the backend; it works on every platform."""
    del platform
    return ReferenceBackend()


class ReferenceBackend:
    """Paged PyTorch; promises every optional clause."""

    name = "reference"
    evidence: EvidenceKind = "kernel"
    promises = Promises(lse="natural", validates=frozenset(CORRUPTIONS))

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Everything is supported."""
        del shape, platform
        return None

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Everything is float32."""
        del shape
        return NumericsProfile()

    def prepare(self, batch: Batch) -> Prepared:
        """Translate the block tables once a layer, when it runs. Raises ``ValueError`` for metadata that cannot be."""
        fault = why_corrupt(batch)
        if fault is not None:
            raise ValueError(fault)
        return _Run(batch)


@dataclass(frozen=True)
class _Run:
    batch: Batch

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        tables = block_tables_for(self.batch, layer)
        start = 0
        for row, (q_len, kv_len) in enumerate(zip(self.batch.q_lens, self.batch.kv_lens, strict=True)):
            if q_len == 0:
                continue
            rows = slice(start, start + q_len)
            start += q_len
            row_out, row_lse = self._attend(layer, tables[row], rows, kv_len)
            out[rows] = row_out
            if lse is not None:
                lse[rows] = row_lse
        return KERNEL

    def _attend(self, layer: int, table: torch.Tensor, rows: slice, kv_len: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs = self.batch.layers[layer]
        geometry = inputs.geometry
        q = inputs.q[rows].float() * inputs.q_scale
        q_len = q.shape[0]
        window = geometry.window_left if geometry.window_left >= 0 else kv_len
        first_key = max(0, kv_len - q_len - window)
        if geometry.chunk_size is not None:
            first_key = max(0, kv_len - q_len) // geometry.chunk_size * geometry.chunk_size
        if kv_len == 0:
            return q.new_zeros((*q.shape[:2], geometry.value_dim)), q.new_full(q.shape[:2], -math.inf)
        k, v = (self._gather(cache, table, first_key, kv_len) for cache in self._caches(layer))
        cache = self.batch.caches[inputs.cache]
        if cache.k_block_scales is not None and cache.v_block_scales is not None:
            blocks = (
                self._gather(part, table, first_key, kv_len) for part in (cache.k_block_scales, cache.v_block_scales)
            )
            k, v = (unpacked(*packed) for packed in zip((k, v), blocks, strict=True))
        k, v = _by_head(k, cache.k_scales), _by_head(v, cache.v_scales)
        scores = torch.einsum("mhgd,nhd->hgmn", q.view(q_len, geometry.num_kv_heads, -1, geometry.head_dim), k.float())
        scores = scores * (geometry.sm_scale * self._owner(layer).k_scale)
        if geometry.logits_soft_cap is not None:
            scores = geometry.logits_soft_cap * torch.tanh(scores / geometry.logits_soft_cap)
        positions = torch.arange(kv_len - q_len, kv_len, device=q.device)[:, None]
        keys = torch.arange(first_key, kv_len, device=q.device)[None, :]
        hidden = (keys > positions) | (keys < positions - window)
        if geometry.bidirectional:
            hidden = (keys - positions).abs() > window
        if self.batch.row_spans is not None and geometry.spans:
            ends = self.batch.row_spans[rows, 1:]
            hidden = hidden & ~((positions < keys) & (keys < ends))
        if self.batch.tree_mask is not None:
            keys, positions, hidden = self._in_tree(rows, keys, kv_len - q_len, window)
        if geometry.chunk_size is not None:
            hidden = hidden | (keys // geometry.chunk_size < positions // geometry.chunk_size)
        scores = scores.masked_fill(hidden, -math.inf)
        if inputs.sinks is not None:
            sinks = inputs.sinks.float().view(geometry.num_kv_heads, -1, 1, 1).expand(-1, -1, q_len, 1)
            scores = torch.cat([scores, sinks], dim=3)
        lse = torch.logsumexp(scores, dim=3)
        p = torch.softmax(scores, dim=3)[..., : k.shape[0]]
        out = torch.einsum("hgmn,nhd->mhgd", p, v.float()).flatten(1, 2) * self._owner(layer).v_scale
        return (out / inputs.out_scale).to(inputs.out_dtype), lse.flatten(0, 1).transpose(0, 1)

    def _in_tree(
        self, rows: slice, keys: torch.Tensor, cached: int, window: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the positions of ``keys`` [1, n] and of the rows [m, 1] of a tree, and what is hidden, [m, n]."""
        mask, depths = self.batch.tree_mask, self.batch.row_depths
        if mask is None or depths is None:
            raise ValueError("a batch without a tree")
        drafts = (keys[0] - cached).clamp_min(0)
        positions = cached + depths[rows, None].long()
        places = torch.where(keys < cached, keys, positions[:, 0][drafts])
        return places, positions, ~((keys < cached) | mask[rows][:, drafts]) | (places < positions - window)

    def _owner(self, layer: int) -> Layer:
        return self.batch.layers[self.batch.layers[layer].cache].geometry

    def _caches(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        cache = self.batch.caches[self.batch.layers[layer].cache]
        return cache.k, cache.v

    def _gather(self, cache: torch.Tensor, table: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """Return tokens [first, last) of one sequence as [tokens, num_kv_heads, head_dim]."""
        size = self.batch.page_size
        tokens = torch.arange(first, last, device=table.device)
        by_token = cache if self.batch.kv_layout == "NHD" else cache.transpose(1, 2)
        return by_token[table.long()[tokens // size], tokens % size]


def _by_head(stored: torch.Tensor, scales: torch.Tensor | None) -> torch.Tensor:
    """Return stored numbers [tokens, num_kv_heads, width] by the scales of their heads, or as they are."""
    return stored if scales is None else stored.float() * scales[:, None]
