"""A batch prepared for the kernels: work lists, tables, workspace, and the launches of a layer."""

from __future__ import annotations

import importlib
import math
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.protocol import Workspace
from attnconf.backends.tables import block_tables_for
from attnconf.backends.triton.blocks import block_arguments
from attnconf.backends.triton.interpreting import interpreting
from attnconf.backends.triton.stack import call_with_room
from attnconf.backends.triton.tuning import (
    MAX_SPLIT_TOKENS,
    LayerSizes,
    Tuning,
    extend_tuning,
    merge_warps,
    padded,
    power_of_two,
    split_tuning,
)
from attnconf.backends.triton.variants import STAGES
from attnconf.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from attnconf.cases.inputs.batch import Batch, LayerInputs

LOG2E = math.log2(math.e)


@cache
def kernels() -> ModuleType:
    """Import the kernels' module, interpreted without a GPU or if ``TRITON_INTERPRET`` is set already.

    Triton decides this at the decorator. The variable is set for this import only, so that other kernels of the process
    are not affected.
    """
    before = os.environ.get("TRITON_INTERPRET")
    if before is None and not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        return importlib.import_module("attnconf.backends.triton.kernel")
    finally:
        if before is None:
            os.environ.pop("TRITON_INTERPRET", None)


@cache
def interpreted() -> bool:
    """Whether the kernels run in Triton's interpreter, as their type says."""
    from triton.runtime.interpreter import InterpretedFunction

    return isinstance(kernels().attend, InterpretedFunction)


class Launches:
    """The launches of one batch. They are as many as its query lengths need; everything else is read on the device."""

    def __init__(self, batch: Batch, refusals: dict[int, str] | None = None) -> None:
        """``refusals`` has the reason for each layer that cannot run."""
        self._refusals = refusals or {}
        self._interpreted = interpreted()
        if not self._interpreted:
            _require_cuda(batch)
        self._batch = batch
        pools = [batch.caches[layer.cache].pool for layer in batch.layers]
        by_pool = {
            pool: block_tables_for(batch, index) for index, pool in enumerate(pools) if pool not in pools[:index]
        }
        self._tables = [by_pool[pool] for pool in pools]
        self._work: dict[tuple[str, int], torch.Tensor] = {}
        self._stages = [
            [] if index in self._refusals else self._plan(layer) for index, layer in enumerate(batch.layers)
        ]
        partial = max((s.partial_size for stages in self._stages for s in stages), default=0)
        stats = max((s.stats_size for stages in self._stages for s in stages), default=0)
        # All layers share one workspace: a layer reads only what it has just written.
        self._partial = torch.empty(max(partial, 1), dtype=torch.float32, device=batch.device)
        self._stats = torch.empty(max(stats, 1), dtype=torch.float32, device=batch.device)

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        """Run one layer and return the kernels that ran, and how. Raises ``UnsupportedError`` before any launch."""
        if layer in self._refusals:
            raise UnsupportedError(f"layer {layer}: {self._refusals[layer]}")
        inputs, stages = self._batch.layers[layer], self._stages[layer]

        def launch() -> None:
            for stage in stages:
                self._launch(stage, inputs, self._tables[layer], out, lse, _start)

        if self._interpreted:
            with interpreting():
                call_with_room(launch)
        else:
            launch()
        how = "interpreted" if self._interpreted else "compiled"
        return "+".join(stage.name for stage in stages) + f"[{how}]"

    def workspaces(self) -> tuple[Workspace, ...]:
        """Return the memory between the splits of a layer and their merge."""
        return Workspace(memory=self._partial), Workspace(memory=self._stats)

    def compile(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> None:
        """Compile the launches of ``run`` without launching them."""
        for stage in self._stages[layer]:
            self._launch(stage, self._batch.layers[layer], self._tables[layer], out, lse, _compile)

    def update(self, batch: Batch) -> None:
        """Refresh the translated block tables in place. The kernels read all other changes on the device."""
        for index, kept in enumerate(self._tables):
            if all(kept is not earlier for earlier in self._tables[:index]):
                kept.copy_(block_tables_for(batch, index))

    def _plan(self, layer: LayerInputs) -> list[Stage]:
        """Return the stages of a layer. A request's q_len alone decides which stage takes it."""
        geometry = layer.geometry
        sizes = LayerSizes(
            geometry.group_size,
            geometry.head_dim,
            geometry.num_kv_heads,
            max(2, layer.q.element_size()),
            geometry.value_dim,
        )
        stages = []
        for name, fewest, most in STAGES:
            requests = [row for row, length in enumerate(self._batch.q_lens) if fewest <= length <= most]
            if not requests:
                continue
            if most > MAX_SPLIT_TOKENS:
                tuning, splits = self._extend_tuning(sizes, layer.q.device), 1
            else:
                tuning = split_tuning(sizes, most, interpreted=self._interpreted)
                keys = self._batch.max_seq_len
                if geometry.reach >= 0:
                    keys = min(keys, geometry.reach + most + tuning.block_n)
                splits = max(1, min(tuning.max_splits, -(-keys // tuning.min_split)))
            stages.append(self._stage(name, tuning, requests, layer, splits))
        return stages

    def _extend_tuning(self, sizes: LayerSizes, device: torch.device) -> Tuning:
        from triton.compiler.compiler import max_shared_mem

        shared = 0 if self._interpreted else max_shared_mem(device.index)
        return extend_tuning(sizes, shared_memory=shared, interpreted=self._interpreted)

    def _stage(self, name: str, tuning: Tuning, requests: list[int], layer: LayerInputs, splits: int) -> Stage:
        tokens = tuning.block_m // layer.geometry.group_size
        lens, kv_lens = self._batch.q_lens, self._batch.kv_lens
        widest = max(min(lens[row], tokens) for row in requests) * layer.geometry.group_size
        if (name, tokens) not in self._work:  # most layers of a batch share it
            work = [(row, first) for row in requests for first in range(0, lens[row], tokens)]
            # The longest blocks start first, so that none of them is the last to end.
            work.sort(key=lambda item: -(kv_lens[item[0]] - lens[item[0]] + item[1]))
            self._work[name, tokens] = torch.tensor(work, dtype=torch.int32, device=self._batch.device)
        states = layer.q.shape[0] * layer.geometry.num_qo_heads * splits if splits > 1 else 0
        return Stage(
            name=name,
            tuning=tuning,
            work=self._work[name, tokens],
            splits=splits,
            rows=power_of_two(widest),
            partial_size=states * layer.geometry.value_dim,
            stats_size=states * 2,
        )

    def _launch(  # noqa: PLR0913 - a stage, its layer's tensors, and the action
        self,
        stage: Stage,
        layer: LayerInputs,
        tables: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor | None,
        start: Callable[[Any, tuple[int, ...], dict[str, Any]], None],
    ) -> None:
        import triton.language as tl

        batch, geometry, tuning = self._batch, layer.geometry, stage.tuning
        stored = batch.caches[layer.cache]
        owner = batch.layers[layer.cache].geometry
        page, slot, head = (0, 1, 2) if batch.kv_layout == "NHD" else (0, 2, 1)
        by_head = stored.k_scales is not None and stored.v_scales is not None
        cap, spans = geometry.logits_soft_cap, geometry.spans and batch.row_spans is not None
        q_format, kv_format = self._format(layer.q.dtype), self._format(stored.k.dtype)
        kv_format = kv_format if stored.k_block_scales is None else "nvfp4"
        dot = torch.bfloat16 if layer.q.dtype is torch.float8_e4m3fn else layer.q.dtype
        q, k, v, target = (self._bits(tensor) for tensor in (layer.q, stored.k, stored.v, out))
        norm = lse if lse is not None else self._stats.view(-1, 1)
        sinks = layer.sinks if layer.sinks is not None else self._stats
        names = {torch.float32: tl.float32, torch.float16: tl.float16, torch.bfloat16: tl.bfloat16}
        common: dict[str, Any] = {
            "out": target, "lse": norm, "sinks": sinks, "partial": self._partial, "stats": self._stats,
            "work": stage.work, "qo_indptr": batch.qo_indptr, "seq_lens": batch.seq_lens,
            "row_spans": batch.row_spans if spans else batch.seq_lens,
            "out_token": out.stride(0), "out_head": out.stride(1), "out_dim": out.stride(2),
            "lse_token": norm.stride(0), "lse_head": norm.stride(1),
            "num_qo_heads": geometry.num_qo_heads, "num_splits": stage.splits,
            "v_scale": owner.v_scale / layer.out_scale, "window_left": geometry.chunk_size or geometry.window_left,
            "GROUP": geometry.group_size, "VALUE_DIM": geometry.value_dim,
            "BLOCK_M": tuning.block_m, "BLOCK_N": tuning.block_n, "BLOCK_V": padded(geometry.value_dim),
            "MAX_SPLITS": tuning.max_splits, "MIN_SPLIT": tuning.min_split,
            "WINDOWED": geometry.window_left >= 0, "CHUNKED": geometry.chunk_size is not None,
            "SINKS": layer.sinks is not None, "SPANS": spans,
            "BOTH_WAYS": geometry.bidirectional and max(batch.q_lens) > 1,
            "v_scales": stored.v_scales if by_head else self._stats, "HEAD_SCALES": by_head,
            "LSE": lse is not None, "OUT_FORMAT": self._format(out.dtype),
            "TREE": batch.tree_mask is not None, "INDEX": tl.int64 if self._interpreted else tl.int32,
        }  # fmt: skip
        grid = (stage.work.shape[0], geometry.num_kv_heads, stage.splits)
        attend: dict[str, Any] = {
            "q": q, "k": k, "v": v, "tables": tables,
            "q_token": layer.q.stride(0), "q_head": layer.q.stride(1), "q_dim": layer.q.stride(2),
            "k_page": k.stride(page), "k_slot": k.stride(slot), "k_head": k.stride(head), "k_dim": k.stride(3),
            "v_page": v.stride(page), "v_slot": v.stride(slot), "v_head": v.stride(head), "v_dim": v.stride(3),
            "table_row": tables.stride(0), "table_column": tables.stride(1),
            "scale": geometry.sm_scale * layer.q_scale * owner.k_scale * (LOG2E if cap is None else 1.0),
            "cap": cap or 1.0, "k_scales": stored.k_scales if by_head else self._stats,
            "HEAD_DIM": geometry.head_dim, "BLOCK_D": padded(geometry.head_dim),
            "tree_mask": batch.seq_lens if batch.tree_mask is None else batch.tree_mask.view(torch.uint8),
            "row_depths": batch.seq_lens if batch.row_depths is None else batch.row_depths,
            "tree_row": 0 if batch.tree_mask is None else batch.tree_mask.stride(0),
            "PAGE_SIZE": batch.page_size, "SOFT_CAP": cap is not None, "Q_FORMAT": q_format, "KV_FORMAT": kv_format,
            "SAME_STRIDES": k.stride() == v.stride(),
            "P_BITS": self._p_bits(dot),
            **block_arguments(stored, (page, slot, head, 3), self._stats),
            "DOT": tl.float32 if self._interpreted else names[dot],
            "num_warps": tuning.num_warps, "num_stages": tuning.num_stages,
        }  # fmt: skip
        start(kernels().attend, grid, common | attend)
        if stage.splits > 1:
            warps = merge_warps(stage.rows * padded(geometry.value_dim))
            start(kernels().merge, grid[:2], common | {"BLOCK_ROWS": stage.rows, "num_warps": warps})

    def _p_bits(self, dtype: torch.dtype) -> str:
        """Return the dtype to which P is rounded by hand; in compiled kernels the cast to the dot's dtype does it."""
        return {torch.float16: "fp16", torch.bfloat16: "bf16"}.get(dtype, "none") if self._interpreted else "none"

    def _format(self, dtype: torch.dtype) -> str:
        if not self._interpreted:
            return "native"
        return {torch.bfloat16: "bf16", torch.float8_e4m3fn: "e4m3", torch.float8_e5m2: "e5m2"}.get(dtype, "native")

    def _bits(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a view as bits of a tensor that the interpreter cannot read; any other tensor is unchanged."""
        bits = {"bf16": torch.int16, "e4m3": torch.uint8, "e5m2": torch.uint8}.get(self._format(tensor.dtype))
        return tensor if bits is None else tensor.view(bits)


@dataclass(frozen=True)
class Stage:
    """One launch, or two with the merge: ``work`` [entries, 2] int32 are (request, first query token of a block)."""

    name: str
    tuning: Tuning
    work: torch.Tensor
    splits: int
    rows: int
    partial_size: int
    stats_size: int


def _start(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any]) -> None:  # noqa: ANN401 - a jitted function
    kernel[grid](**arguments)


def _compile(kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any]) -> None:  # noqa: ANN401 - a jitted function
    kernel.warmup(grid=grid, **arguments)


def _require_cuda(batch: Batch) -> None:
    if batch.device.type != "cuda":
        raise UnsupportedError(
            f"the kernels of this process are compiled for CUDA and the batch is on {batch.device.type}; "
            "TRITON_INTERPRET=1 interprets them"
        )
