"""Deliberately broken backends: each the smallest change to the reference backend that breaks one clause.

``Slip`` names the change; ``Broken`` is the reference backend with it. The change is made where a real backend would
make it: in the batch that it reads, in one line of the attention loop, or in what it writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from attnconf.backends.protocol import Prepared, Promises, Unsupported, Workspace
from attnconf.backends.reference import KERNEL, ReferenceBackend
from attnconf.backends.tables import block_tables_for
from attnconf.batch import Batch
from attnconf.errors import UnsupportedError
from attnconf.geometry import LayerGeometry

LOG2E = math.log2(math.e)
BIT = 2.0**-22
"""A relative change that shows in the bits of a float32 output, and is far below its bound."""
SEMAPHORES, SCRATCH = 16, 64
"""The bytes of the workspace that are zero at every launch, and those behind them."""


@dataclass(frozen=True)
class Slip:
    """What is done wrong; every field's default is right."""

    batch: Callable[[Batch], Batch] = lambda batch: batch
    tables: Callable[[Batch, int], torch.Tensor] = block_tables_for
    positions: Callable[[torch.Tensor, int], torch.Tensor] = lambda positions, _q_len: positions
    causal: bool = True
    heads: Callable[[torch.Tensor, int, int], torch.Tensor] = lambda heads, group, _kv_heads: heads // group
    cap_after_sink: bool = False
    sink_in_numerator: bool = False
    reads_past_end: int = 0
    whole_pages: bool = False
    mask: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    old_keys_mask: float | None = None
    gather: Callable[[torch.Tensor, Batch], torch.Tensor] | None = None
    cache: Callable[[Batch, int], int] = lambda batch, layer: batch.layers[layer].cache
    scales: Callable[[float, float], tuple[float, float]] = lambda k, v: (k, v)
    own_scales: bool = False
    factor: Callable[[Any, Batch, int, int], float] = lambda _backend, _batch, _layer, _row: 1.0
    lse_factor: float = 1.0
    empty: tuple[float, float] = (0.0, -math.inf)
    after: Callable[[Batch, int, torch.Tensor, torch.Tensor | None], None] = lambda _batch, _layer, _out, _lse: None
    scratch: Callable[[torch.Tensor, torch.Tensor], None] | None = None


@dataclass
class Broken(ReferenceBackend):
    """The reference backend with ``slip``."""

    slip: Slip
    name: str = "broken"
    promises: Promises = field(default_factory=lambda: Promises(lse="natural"))
    runs: int = 0
    previous: object = None
    memory: torch.Tensor = field(default_factory=lambda: torch.zeros(SEMAPHORES + SCRATCH, dtype=torch.uint8))

    def prepare(self, batch: Batch) -> BrokenRun:
        return BrokenRun(self, self.slip.batch(batch))


@dataclass
class BrokenRun:
    backend: Broken
    batch: Batch

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        slip, batch = self.backend.slip, self.batch
        tables = slip.tables(batch, layer)
        start = 0
        for row, (q_len, kv_len) in enumerate(zip(batch.q_lens, batch.kv_lens, strict=True)):
            rows = slice(start, start + q_len)
            start += q_len
            if q_len == 0:
                continue
            factor = slip.factor(self.backend, batch, layer, row)
            row_out, row_lse = self._attend(layer, tables[row], rows, kv_len)
            out[rows] = (row_out * factor).to(out.dtype)
            if lse is not None:
                lse[rows] = row_lse * slip.lse_factor
        slip.after(batch, layer, out, lse)
        if slip.scratch is not None:
            slip.scratch(self.backend.memory, out)
        self.backend.runs += 1
        self.backend.previous = batch
        return KERNEL

    def workspaces(self) -> tuple[Workspace, ...]:
        if self.backend.slip.scratch is None:
            return ()
        return (Workspace(memory=self.backend.memory, zero_bytes=SEMAPHORES),)

    def _attend(self, layer: int, table: torch.Tensor, rows: slice, kv_len: int) -> tuple[torch.Tensor, torch.Tensor]:
        slip, batch = self.backend.slip, self.batch
        geometry = batch.layers[layer].geometry
        q = batch.layers[layer].q[rows].float()
        q_len = q.shape[0]
        if kv_len == 0:
            return torch.full_like(q, slip.empty[0]), q.new_full(q.shape[:2], slip.empty[1])
        window = geometry.window_left if geometry.window_left >= 0 else kv_len
        index = slip.cache(batch, layer)
        owner = batch.layers[layer if slip.own_scales else index].geometry
        k_scale, v_scale = slip.scales(owner.k_scale, owner.v_scale)
        positions = slip.positions(torch.arange(kv_len - q_len, kv_len), q_len)[:, None]
        first = 0 if slip.old_keys_mask is not None else max(0, int(positions.min()) - window)
        last = kv_len + slip.reads_past_end
        if slip.whole_pages:
            last = -(-kv_len // batch.page_size) * batch.page_size
        k, v = (self._gather(cache, table, first, last) for cache in (batch.caches[index].k, batch.caches[index].v))
        mapping = slip.heads(torch.arange(geometry.num_qo_heads), geometry.group_size, geometry.num_kv_heads)
        scores = torch.einsum("mhd,nhd->hmn", q, k.float()[:, mapping]) * (geometry.sm_scale * k_scale)
        sinks = None if batch.layers[layer].sinks is None else batch.layers[layer].sinks.float()
        if geometry.logits_soft_cap is not None:
            scores = geometry.logits_soft_cap * torch.tanh(scores / geometry.logits_soft_cap)
            if sinks is not None and slip.cap_after_sink:
                sinks = geometry.logits_soft_cap * torch.tanh(4 * sinks / geometry.logits_soft_cap)
        keys = torch.arange(first, last)[None, :]
        hidden = keys >= kv_len + slip.reads_past_end
        if slip.causal:
            hidden = hidden | (keys > positions + slip.reads_past_end)
        old = keys < positions - window
        if slip.old_keys_mask is not None:
            scores = torch.where(old, slip.old_keys_mask + scores.nan_to_num(0.0).clamp(-5, 5), scores)
        else:
            hidden = hidden | old
        scores = scores.masked_fill(hidden, -math.inf) if slip.mask is None else slip.mask(scores, hidden)
        logits = scores if sinks is None else torch.cat([scores, sinks[:, None, None].expand(-1, q_len, 1)], dim=2)
        lse = torch.logsumexp(logits, dim=2)
        p = torch.softmax(logits, dim=2)
        weights = p[..., : k.shape[0]]
        if sinks is not None and slip.sink_in_numerator:
            weights = weights + p[..., -1:] / k.shape[0]
        out = torch.einsum("hmn,nhd->mhd", weights, v.float()[:, mapping]) * v_scale
        return out, lse.transpose(0, 1)

    def _gather(self, cache: torch.Tensor, table: torch.Tensor, first: int, last: int) -> torch.Tensor:
        batch = self.batch
        tokens = torch.arange(first, last)
        columns = (tokens // batch.page_size).clamp_max(table.shape[0] - 1)
        if self.backend.slip.gather is not None:
            by_token = self.backend.slip.gather(cache, batch)
        else:
            by_token = cache if batch.kv_layout == "NHD" else cache.transpose(1, 2)
        pages = table.long()[columns].clamp(0, cache.shape[0] - 1)
        return by_token[pages, tokens % batch.page_size]


def geometry(change: Callable[[Any, Batch], dict[str, Any]]) -> Callable[[Batch], Batch]:
    """Return a slip of the batch that changes fields of every layer's geometry."""

    def edit(batch: Batch) -> Batch:
        layers = tuple(
            replace(layer, geometry=layer.geometry.model_copy(update=change(layer.geometry, batch)))
            for layer in batch.layers
        )
        return replace(batch, layers=layers)

    return edit


def window(step: int, modes: tuple[str, ...] = ("decode", "extend", "mixed", "verify")) -> Callable[[Batch], Batch]:
    def change(layer: LayerGeometry, batch: Batch) -> dict[str, int]:
        moved = max(0, layer.window_left + step)
        return {"window_left": moved} if layer.window_left >= 0 and batch.mode in modes else {}

    return geometry(change)


def without_sinks(batch: Batch) -> Batch:
    return replace(batch, layers=tuple(replace(layer, sinks=None) for layer in batch.layers))


def next_page(batch: Batch, layer: int) -> torch.Tensor:
    return block_tables_for(batch, layer) + 1


def first_row(batch: Batch, layer: int) -> torch.Tensor:
    tables = block_tables_for(batch, layer)
    return tables[:1].expand_as(tables)


def untranslated(batch: Batch, layer: int) -> torch.Tensor:
    pages = batch.caches[batch.layers[layer].cache].k.shape[0]
    return torch.where(batch.block_tables.clamp_min(0) < pages, batch.block_tables, 0)


def as_nhd(cache: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Read HND memory as if it were NHD."""
    if batch.kv_layout == "NHD":
        return cache
    pages, heads, size, dim = cache.shape
    return cache.reshape(pages, size, heads, dim)


def densely(cache: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Ignore the strides: pages follow each other without a gap."""
    strides = [math.prod(cache.shape[axis + 1 :]) for axis in range(4)]
    dense = cache.as_strided(cache.shape, strides)
    return dense if batch.kv_layout == "NHD" else dense.transpose(1, 2)


def additive(scores: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Mask by adding, so that a NaN stays one."""
    return scores + torch.where(hidden, -math.inf, 0.0)


def write_null_page(batch: Batch, layer: int, _out: torch.Tensor, _lse: torch.Tensor | None) -> None:
    batch.caches[batch.layers[layer].cache].k.view(torch.uint8)[0] = 7


def write_owner(batch: Batch, layer: int, _out: torch.Tensor, _lse: torch.Tensor | None) -> None:
    """Write the newest key of request 0 again, into the cache that belongs to another layer."""
    cache = batch.layers[layer].cache
    if cache != layer:
        pages = block_tables_for(batch, layer)
        page = int(pages[0, (batch.kv_lens[0] - 1) // batch.page_size])
        batch.caches[cache].v.view(torch.uint8)[page] = 3


def scale_q(batch: Batch, layer: int, _out: torch.Tensor, _lse: torch.Tensor | None) -> None:
    batch.layers[layer].q.mul_(0.5)


def fill_sentinel(tensor: torch.Tensor) -> None:
    patterns = {2: (torch.int16, 0x7FA5), 4: (torch.int32, 0x7FC5A5A5)}
    dtype, pattern = patterns[tensor.element_size()]
    tensor.view(dtype).fill_(pattern)


def forget_last(_batch: Batch, _layer: int, out: torch.Tensor, _lse: torch.Tensor | None) -> None:
    fill_sentinel(out[-1, -1, -1:])


def forget_lse(_batch: Batch, _layer: int, _out: torch.Tensor, lse: torch.Tensor | None) -> None:
    if lse is not None:
        fill_sentinel(lse[-1, -1:])


def write_past(_batch: Batch, _layer: int, out: torch.Tensor, _lse: torch.Tensor | None) -> None:
    out.as_strided((1,), (1,), out.storage_offset() + out.numel()).fill_(1.0)


def many_rows(_backend: Broken, batch: Batch, _layer: int, _row: int) -> float:
    return 1.0 + BIT * (len(batch.q_lens) > 1)


def odd_row(_backend: Broken, _batch: Batch, _layer: int, row: int) -> float:
    return 1.0 + BIT * (row % 2)


def last_page(_backend: Broken, batch: Batch, layer: int, row: int) -> float:
    column = max(0, batch.kv_lens[row] - 1) // batch.page_size
    return 1.0 + BIT * (int(block_tables_for(batch, layer)[row, column]) % 2)


def coin(backend: Broken, _batch: Batch, _layer: int, _row: int) -> float:
    return 1.0 + BIT * (backend.runs % 2)


def leak(backend: Broken, batch: Batch, _layer: int, _row: int) -> float:
    return 1.0 + BIT * (backend.previous is not None and backend.previous is not batch)


def splits(_backend: Broken, batch: Batch, _layer: int, _row: int) -> float:
    return 1.0 + BIT * (batch.max_seq_len > max(batch.kv_lens) + 50)


def right_scratch(memory: torch.Tensor, _out: torch.Tensor) -> None:
    """Write before reading, and leave the semaphores as they were."""
    memory[SEMAPHORES:] = 0x7F
    memory[:SEMAPHORES] += 1
    memory[:SEMAPHORES] -= 1


def stale_sum(memory: torch.Tensor, out: torch.Tensor) -> None:
    """Merge one partial result more than was written: zero for as long as nobody else used the workspace."""
    out += memory[SEMAPHORES:].view(torch.float32)[-1].to(out.dtype)


def semaphore_left(memory: torch.Tensor, _out: torch.Tensor) -> None:
    """Count the blocks that are done, and forget to count back."""
    memory[4] = 3


@dataclass
class Declared(Broken):
    """A backend that declares everything unsupported, and does ``instead`` when it is asked all the same."""

    instead: Callable[[torch.Tensor], None] = lambda _out: None

    def supports(self, _shape: object, _platform: object) -> Unsupported | None:
        return Unsupported("head_dim is not one of the kernel's")

    def prepare(self, batch: Batch) -> Prepared:
        inner, instead = super().prepare(batch), self.instead

        class Run:
            def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
                instead(out)
                return inner.run(layer, out, lse)

        return Run()


def refuse(_out: torch.Tensor) -> None:
    message = "head_dim 17 has no kernel"
    raise UnsupportedError(message)


def refuse_late(out: torch.Tensor) -> None:
    out[0].fill_(0.0)
    refuse(out)


def refuse_bare(_out: torch.Tensor) -> None:
    raise NotImplementedError


def crash(_out: torch.Tensor) -> None:
    message = "CUDA error: an illegal memory access was encountered"
    raise RuntimeError(message)


def run_out(_out: torch.Tensor) -> None:
    raise MemoryError
