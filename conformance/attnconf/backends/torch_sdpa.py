"""``torch_sdpa``: PyTorch's scaled_dot_product_attention over gathered pages, as an independent peer.

Pages become dense keys and values in the model's dtype, causality and window become a boolean mask, and each request
is one call. PyTorch's kernel does the arithmetic; it is pinned, so that its numerics are known. It takes one width for
all: where values are narrower or wider than keys, zeros are put behind what is short, which changes no number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import pad, scaled_dot_product_attention

from attnconf.backends.packed import unpacked
from attnconf.backends.protocol import EvidenceKind, Promises, Unsupported
from attnconf.backends.tables import block_tables_for
from attnconf.cases.dtypes import FP8, QUANTISED
from attnconf.errors import UnsupportedError
from attnconf.precision import NumericsProfile

if TYPE_CHECKING:
    from attnconf.backends.protocol import Prepared
    from attnconf.cases.case import Layer
    from attnconf.cases.inputs.batch import Batch, KVCache
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform

_EXACT_FLOAT32 = "highest"
"""The value of torch.get_float32_matmul_precision without rounding to TF32 on CUDA."""


def make(platform: Platform) -> TorchSdpa:
    """Return the backend; it works on every platform."""
    return TorchSdpa(platform)


@dataclass(frozen=True)
class TorchSdpa:
    """PyTorch's attention on one platform."""

    platform: Platform
    name: str = "torch_sdpa"
    evidence: EvidenceKind = "kernel"

    @property
    def promises(self) -> Promises:
        """All optional clauses but an LSE and CUDA graphs: only live slots are gathered, request by request."""
        return Promises()

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or the feature that the function lacks."""
        del platform
        return _unsupported(soft_cap=shape.soft_cap, sinks=shape.sinks)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return the dtypes of the pinned kernel's intermediate values, as read from PyTorch's sources.

        CPU, ``cpu_flash_attention`` (native/cpu/FlashAttentionKernel.cpp): scores, sums and outputs accumulate in
        float32 (``opmath_type``), and 16-bit P is rounded (``qk_reduced_data``) after its float32 sum was taken.
        CUDA, ``_scaled_dot_product_attention_math`` (native/transformers/attention.cpp): 16-bit inputs become float32
        first and stay float32. 8-bit queries are computed with in bfloat16, exactly. For KV of 8 or 4 bits the rounded
        output is multiplied by v_scale and rounded again, which ``partials`` accounts for.
        """
        computed = "bfloat16" if shape.q_dtype == FP8 else shape.q_dtype
        return NumericsProfile(
            p="float32" if self.platform.sm is not None else computed,
            partials=computed if shape.kv_dtype in QUANTISED else None,
        )

    def prepare(self, batch: Batch) -> Prepared:
        """Return the batch as it is. Raises ``UnsupportedError`` where TF32 would round CUDA's products."""
        on_gpu = batch.device.type == "cuda"
        if on_gpu and torch.get_float32_matmul_precision() != _EXACT_FLOAT32:
            raise UnsupportedError(
                "torch_sdpa needs torch.set_float32_matmul_precision('highest'): its numerics are those of float32"
            )
        return _Run(batch, SDPBackend.MATH if on_gpu else SDPBackend.FLASH_ATTENTION)


@dataclass(frozen=True)
class _Run:
    batch: Batch
    kernel: SDPBackend

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        inputs = self.batch.layers[layer]
        geometry = inputs.geometry
        refusal = _unsupported(soft_cap=geometry.logits_soft_cap is not None, sinks=inputs.sinks is not None)
        if refusal is not None:
            raise UnsupportedError(refusal.reason)
        if lse is not None:
            raise UnsupportedError("scaled_dot_product_attention returns no LSE")
        tables = block_tables_for(self.batch, layer)
        start = 0
        for row, (q_len, kv_len) in enumerate(zip(self.batch.q_lens, self.batch.kv_lens, strict=True)):
            rows = slice(start, start + q_len)
            start += q_len
            if q_len == 0:
                continue
            if kv_len == 0:
                out[rows] = 0.0
                continue
            followed = self.batch.row_spans if geometry.spans else None
            spans = None if followed is None else followed[rows]
            seen = self._visible(layer, rows, kv_len, spans)
            out[rows] = self._attend(layer, tables[row], inputs.q[rows], kv_len, seen).to(out.dtype)
        return f"sdpa-{self.kernel.name.lower()}"

    def _attend(
        self, layer: int, table: torch.Tensor, q: torch.Tensor, kv_len: int, seen: torch.Tensor
    ) -> torch.Tensor:
        """Return one request's output, [q_len, num_qo_heads, value_dim], in the dtype that it was computed in.

        ``seen`` [q_len, keys] are those that each query token sees, from the first key that the first one sees.
        """
        inputs = self.batch.layers[layer]
        cache = self.batch.caches[inputs.cache]
        stored = self.batch.layers[inputs.cache].geometry
        geometry = inputs.geometry
        computed = torch.bfloat16 if q.dtype is torch.float8_e4m3fn else q.dtype
        first = _first_visible(geometry, q.shape[0], kv_len)
        width = max(geometry.head_dim, geometry.value_dim)
        query, k, v = (
            pad(tensor, (0, width - tensor.shape[2])).to(computed).transpose(0, 1)[None]
            for tensor in (q, *self._keys_and_values(cache, table, first, kv_len))
        )
        # One call a KV head where each has a scale, since the function takes one for all.
        scales, group = stored.k_scales or (stored.k_scale,), stored.group_size
        heads = len(stored.k_scales) and 1
        parts = []
        for head, k_scale in enumerate(scales):
            own = slice(head, head + 1) if heads else slice(None)
            readers = slice(head * group, (head + 1) * group) if heads else slice(None)
            with sdpa_kernel(self.kernel):
                attended = scaled_dot_product_attention(
                    query[:, readers],
                    k[:, own],
                    v[:, own],
                    attn_mask=seen,
                    scale=geometry.sm_scale * inputs.q_scale * k_scale,
                    enable_gqa=group > 1,
                )
            scale = (stored.v_scales[head] if heads else stored.v_scale) / inputs.out_scale
            answer = attended[0].transpose(0, 1)[..., : geometry.value_dim]
            parts.append(answer if scale == 1.0 else answer.float() * scale)
        return torch.cat(parts, dim=1)

    def _keys_and_values(
        self, cache: KVCache, table: torch.Tensor, first: int, last: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values of one request, [tokens, num_kv_heads, width], those of 4 bits as numbers."""
        parts = {name: self._gather(part, table, first, last) for name, part in cache.paged.items()}
        if "k_block_scales" not in parts:
            return parts["k"], parts["v"]
        return unpacked(parts["k"], parts["k_block_scales"]), unpacked(parts["v"], parts["v_block_scales"])

    def _visible(self, layer: int, rows: slice, kv_len: int, spans: torch.Tensor | None) -> torch.Tensor:
        """Return which keys the query tokens of one request see; ``spans`` [q_len, 2] are those that count."""
        geometry, q_len = self.batch.layers[layer].geometry, rows.stop - rows.start
        first, device = _first_visible(geometry, q_len, kv_len), self.batch.device
        if self.batch.tree_mask is None or self.batch.row_depths is None:
            return _visible(geometry, q_len, first, kv_len, device, spans)
        mask, depths = self.batch.tree_mask[rows, :q_len], self.batch.row_depths[rows].long()
        return _visible_in_tree(geometry, mask, depths, first, kv_len - q_len)

    def _gather(self, cache: torch.Tensor, table: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """Return tokens [first, last) of one sequence as [tokens, num_kv_heads, head_dim]: no other slot is read."""
        tokens = torch.arange(first, last, device=table.device)
        pages, slots = table.long()[tokens // self.batch.page_size], tokens % self.batch.page_size
        return cache[pages, slots] if self.batch.kv_layout == "NHD" else cache[pages, :, slots]


def _unsupported(*, soft_cap: bool, sinks: bool) -> Unsupported | None:
    if soft_cap:
        return Unsupported("scaled_dot_product_attention has no logits soft cap")
    return Unsupported("scaled_dot_product_attention has no sinks") if sinks else None


def _first_visible(geometry: Layer, q_len: int, kv_len: int) -> int:
    """Return the first key that the first query token sees."""
    return geometry.first_seen(max(0, kv_len - q_len))


def _visible(  # noqa: PLR0913 - one mask of one request
    geometry: Layer, q_len: int, first: int, kv_len: int, device: torch.device, spans: torch.Tensor | None
) -> torch.Tensor:
    """Return which of the keys [first, kv_len) each query token sees, [q_len, keys] bool."""
    keys = torch.arange(first, kv_len, device=device)[None, :]
    positions = torch.arange(kv_len - q_len, kv_len, device=device)[:, None]
    behind = keys <= positions
    if geometry.bidirectional:
        reach = geometry.window_left if geometry.window_left >= 0 else kv_len
        return (keys >= positions - reach) & (keys <= positions + reach)
    if spans is not None:
        behind = behind | ((keys >= spans[:, :1]) & (keys < spans[:, 1:]))
    if geometry.chunk_size is not None:
        return behind & (keys // geometry.chunk_size == positions // geometry.chunk_size)
    return behind if geometry.window_left < 0 else behind & (keys >= positions - geometry.window_left)


def _visible_in_tree(
    geometry: Layer, mask: torch.Tensor, depths: torch.Tensor, first: int, cached: int
) -> torch.Tensor:
    """Return which keys from ``first`` on the rows of a tree see behind ``cached`` ones, [q_len, keys] bool."""
    before = torch.arange(min(first, cached), cached, device=mask.device)
    positions = (cached + depths)[:, None]
    places = torch.cat([before, cached + depths])[None, :]
    seen = torch.cat([mask.new_ones((len(mask), len(before))), mask], dim=1)
    if geometry.window_left >= 0:
        seen = seen & (places >= positions - geometry.window_left)
    if geometry.chunk_size is not None:
        seen = seen & (places // geometry.chunk_size == positions // geometry.chunk_size)
    return seen
