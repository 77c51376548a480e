"""Batch: the tensors of one case, the same for every backend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from attnconf.cases.inputs.sending import sent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attnconf.cases.case import KVLayout, Layer, Mode, Storage
    from attnconf.cases.request import Span

Pool = Literal["full", "swa"]

_ALIGNED = 16
"""Bytes that a kernel reads at once."""


@dataclass(frozen=True)
class KVCache:
    """One layer's paged keys and values.

    ``k`` and ``v`` are strided views, [num_pages, page_size, num_kv_heads, head_dim] in layout NHD and
    [num_pages, num_kv_heads, page_size, head_dim] in HND; ``v`` has the layer's ``value_dim`` in the place of head_dim,
    and strides of its own where these differ. ``pool`` says which page ids index it: the ids of the block
    table (full), or their translations through ``Batch.full_to_swa`` (swa). ``k_scales`` and ``v_scales``
    [num_kv_heads] float32 are the scales of its heads, None where all have the one number of the layer.

    In NVFP4 ``k`` and ``v`` are uint8 and half as wide: a byte has two numbers of 4 bits, the first one in its low
    bits. ``k_block_scales`` and ``v_block_scales`` are float8_e4m3fn views of pools of their own, with the same
    pages, slots and heads and a scale for each 16 numbers; elsewhere they are None.
    """

    k: torch.Tensor
    v: torch.Tensor
    pool: Pool
    k_scales: torch.Tensor | None = None
    v_scales: torch.Tensor | None = None
    k_block_scales: torch.Tensor | None = None
    v_block_scales: torch.Tensor | None = None

    @property
    def paged(self) -> dict[str, torch.Tensor]:
        """What has pages, by its name: keys and values, and the scales of their blocks."""
        found = {"k": self.k, "v": self.v, "k_block_scales": self.k_block_scales, "v_block_scales": self.v_block_scales}
        return {name: tensor for name, tensor in found.items() if tensor is not None}


@dataclass(frozen=True)
class LayerInputs:
    """One layer's inputs: ``q`` [rows, num_qo_heads, head_dim], ``sinks`` [num_qo_heads] float32 or None.

    ``q`` may be a slice of a packed tensor, with rows further apart than their width, and may have more rows than the
    batch has query tokens (``Batch.num_rows``): those behind belong to nobody.
    ``out_dtype`` is the dtype of its answer. ``cache`` indexes ``Batch.caches``: the layer's own, or its owner's when
    the layer is redirected.
    """

    geometry: Layer
    q: torch.Tensor
    sinks: torch.Tensor | None
    cache: int
    out_dtype: torch.dtype

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """The shape of its answer: a row for each of ``q``, [rows, num_qo_heads, value_dim]."""
        return self.q.shape[0], self.q.shape[1], self.geometry.value_dim

    @property
    def q_scale(self) -> float:
        """How many times a stored query counts: the layer's q_scale, or 1 for a query that is not of 8 bits."""
        return self.geometry.q_scale if self.q.element_size() == 1 else 1.0

    @property
    def out_scale(self) -> float:
        """How many times a stored answer counts: the layer's out_scale, or 1 for one that is not of 8 bits."""
        return self.geometry.out_scale if self.out_dtype.itemsize == 1 else 1.0


@dataclass(frozen=True)
class BatchRow:
    """One request of a derived batch: query rows [q_start, q_stop) of ``request``, over keys [kv_start, kv_stop).

    ``kv_start`` must be a multiple of the page size: the block table row begins at its page.
    """

    request: int
    q_start: int
    q_stop: int
    kv_stop: int
    kv_start: int = 0


@dataclass(frozen=True)
class Batch:
    """The inputs that an engine passes to its attention backend in one step.

    The caches already hold the KV of all tokens, new ones included. ``qo_indptr`` [rows + 1], ``seq_lens``
    [rows] (cached plus new tokens) and ``block_tables`` [rows, columns], which may be a slice of a wider table, are
    int32 on the device; ``q_lens`` and
    ``kv_lens`` are these lengths on the host. Block tables hold page ids of the full pool; page 0 is the null page.
    ``full_to_swa`` maps a token slot of the full pool to one of the swa pool (int64, 0 where there is none); it is None
    without a hybrid pool. ``row_spans`` [query tokens, 2] int32 are the first token of the span that each query row
    lies in and the end of it, within the request, 0 and 0 outside; it is None where no row lies in one, and layers that
    do not follow spans ignore it. Where the drafts of some request of a verify step are a tree, ``tree_mask`` [query
    tokens, max_q_len] bool says which of its request's new tokens each row sees beside the whole prefix, and
    ``row_depths`` [query tokens] int32 how far behind the prefix its position is; rows of other requests have those of
    a chain. Windows and chunks are not in the mask: they go by position. ``max_q_len`` and ``max_seq_len`` are host
    hints: at least the true maxima. A
    redirected layer has a cache, too, which it must not read.
    """

    mode: Mode
    page_size: int
    kv_layout: KVLayout
    storage: Storage
    qo_indptr: torch.Tensor
    seq_lens: torch.Tensor
    block_tables: torch.Tensor
    full_to_swa: torch.Tensor | None
    q_lens: tuple[int, ...]
    kv_lens: tuple[int, ...]
    max_q_len: int
    max_seq_len: int
    layers: tuple[LayerInputs, ...]
    caches: tuple[KVCache, ...]
    row_spans: torch.Tensor | None = None
    tree_mask: torch.Tensor | None = None
    row_depths: torch.Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where all tensors of the batch live."""
        return self.seq_lens.device

    @property
    def num_rows(self) -> int:
        """Query tokens of the whole batch, padding rows included: ``qo_indptr[-1]``. Slack rows follow them."""
        return sum(self.q_lens)

    def queries(self, layer: int) -> torch.Tensor:
        """Return the queries of a layer without slack rows, [num_rows, num_qo_heads, head_dim]."""
        return self.layers[layer].q[: self.num_rows]

    def tensors(self) -> list[tuple[str, torch.Tensor]]:
        """Return every input tensor by name; a check uses it to find inputs that a run has changed."""
        named = [("qo_indptr", self.qo_indptr), ("seq_lens", self.seq_lens), ("block_tables", self.block_tables)]
        if self.full_to_swa is not None:
            named.append(("full_to_swa", self.full_to_swa))
        if self.row_spans is not None:
            named.append(("row_spans", self.row_spans))
        if self.tree_mask is not None and self.row_depths is not None:
            named += [("tree_mask", self.tree_mask), ("row_depths", self.row_depths)]
        for index, layer in enumerate(self.layers):
            named.append((f"layers[{index}].q", layer.q))
            if layer.sinks is not None:
                named.append((f"layers[{index}].sinks", layer.sinks))
        for index, cache in enumerate(self.caches):
            named += [(f"caches[{index}].{name}", tensor) for name, tensor in cache.paged.items()]
            scales = ((f"caches[{index}].k_scales", cache.k_scales), (f"caches[{index}].v_scales", cache.v_scales))
            named += [(name, tensor) for name, tensor in scales if tensor is not None]
        return named

    def memory(self) -> list[tuple[str, torch.Tensor]]:
        """Return the whole memory behind each input tensor as bytes, including what lies between pages."""
        found: dict[int, tuple[str, torch.Tensor]] = {}
        for name, tensor in self.tensors():
            storage = tensor.untyped_storage()
            whole = torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)
            found.setdefault(storage.data_ptr(), (name, whole))
        return list(found.values())

    def derive(self, rows: Sequence[BatchRow], mode: Mode) -> Batch:
        """Return a batch of ``rows`` over the same caches, such as a part of this batch or one request twice.

        Queries that follow each other are not copied.

        The host hint of the longest sequence stays: only a check of hints changes it. Raises ``ValueError`` for a part
        of a tree that leaves out its first rows.
        """
        if self.tree_mask is not None and any(row.q_start for row in rows):
            raise ValueError("a tree without its first rows is none")
        q_lens = tuple(row.q_stop - row.q_start for row in rows)
        kv_lens = tuple(row.kv_stop - row.kv_start for row in rows)
        tables = np.zeros((len(rows), self.block_tables.shape[1]), dtype=np.int32)
        for target, row in enumerate(rows):
            ids = self._host_tables[row.request, row.kv_start // self.page_size :]
            tables[target, : len(ids)] = ids
        indptr, seq_lens, block_tables = sent(self.device, list(accumulate(q_lens, initial=0)), kv_lens, tables)
        picked = self._picked(rows)
        return replace(
            self,
            mode=mode,
            qo_indptr=indptr,
            seq_lens=seq_lens,
            block_tables=block_tables,
            q_lens=q_lens,
            kv_lens=kv_lens,
            max_q_len=max(q_lens),
            max_seq_len=max(self.max_seq_len, *kv_lens),
            layers=tuple(replace(layer, q=_rows_of(layer.q, picked)) for layer in self.layers),
            row_spans=self._derived_spans(rows, picked),
            tree_mask=None if self.tree_mask is None else self.tree_mask[picked][:, : max(q_lens)],
            row_depths=None if self.row_depths is None else self.row_depths[picked],
        )

    @cached_property
    def _host_tables(self) -> NDArray[np.int32]:
        """The block tables on the host, which a GPU is asked for once."""
        found: NDArray[np.int32] = self.block_tables.cpu().numpy()
        return found

    def _picked(self, rows: Sequence[BatchRow]) -> slice | torch.Tensor:
        """Return the query rows of ``rows``: a slice where they follow each other, else their indices."""
        starts = list(accumulate(self.q_lens, initial=0))
        runs = [(starts[row.request] + row.q_start, starts[row.request] + row.q_stop) for row in rows]
        if all(one[1] == other[0] for one, other in pairwise(runs)):
            return slice(runs[0][0], runs[-1][1])
        found = [row for begin, end in runs for row in range(begin, end)]
        return torch.tensor(found, dtype=torch.int64).to(self.device, non_blocking=True)

    def spans_by_request(self) -> list[list[Span]]:
        """Return the spans of each request that a query row lies in, in order: the others change no mask."""
        rows = [] if self.row_spans is None else self.row_spans.tolist()
        ends = pairwise(accumulate(self.q_lens, initial=0))
        return [list(dict.fromkeys((begin, end) for begin, end in rows[start:stop] if end)) for start, stop in ends]

    def _derived_spans(self, rows: Sequence[BatchRow], picked: slice | torch.Tensor) -> torch.Tensor | None:
        """Return the spans of the ``picked`` query rows, counted from the first key of each of ``rows``."""
        if self.row_spans is None:
            return None
        starts = [row.kv_start for row in rows for _ in range(row.q_start, row.q_stop)]
        shift = torch.tensor(starts, dtype=torch.int32).to(self.device)[:, None]
        return (self.row_spans[picked] - shift).clamp_min(0)


def _rows_of(q: torch.Tensor, picked: slice | torch.Tensor) -> torch.Tensor:
    """Return some rows of queries: a view of rows that follow each other, unless it begins where no kernel reads."""
    if isinstance(picked, slice) and picked.start * q.stride(0) * q.element_size() % _ALIGNED:
        return q[picked].clone()
    return q[picked]
