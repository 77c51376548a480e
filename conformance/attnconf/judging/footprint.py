"""Footprint: the peak memory of a case in bytes, as a function of the case alone.

Let E be the elements of one layer's keys, or of its values if these have more, tokens x num_kv_heads x width, over all
requests; e the elements of its longest request; b the bytes of a stored element. K and V count separately, so a layer
stores at most 2 b E.

1. Drawing (``inputs/logical.py``), where the oracle works. Every layer is drafted in float32, 2 x 4 E and its queries
   twice, before one is stored; the layer being stored takes K and V gathered, scaled and, in 8 bits, clamped: at most
   16 E. On a GPU a small case is drawn on the host, and its stored tensors are copied (``sizes.HOST_WORK``).
2. Pools (``inputs/assemble.py``), on the device, where filling one takes as much again: 2 b x slots x num_kv_heads x
   width x (1 + padding), with the pages of ``pages.num_pages``. A trial has the batch, a pristine copy of it, and the
   pools of the checks that need others: dead slots, reclaimed pages, another layout for each kind of layer, other
   labels (in a pool of twice the pages), and for a CUDA graph a shorter batch, its copy, and one with room for both.
   Few cases get all of them, so the estimate is generous here.
3. The oracle (``oracle/limits.py``, ``numerics.py``): the answer and the bound of every layer in float64, twice where
   decode and extend have profiles of their own, and six temporaries like the output of one layer while it is compared.
   Then one block: six temporaries like its keys, and fourteen like its scores, each of at most ``MOST_KEYS`` and
   ``MOST_SCORES`` or of one KV head of one row. Mistaken keys and values are stored numbers: 2 b e a mistake, of as
   many mistakes at once as ``sizes.MOST_BYTES`` allows.
4. The backend, on the device: one that runs in PyTorch takes six float32 tensors like the visible keys of the longest
   request, expanded to every query head. A kernel takes less.

Drawing is over before the rest starts: the peak is the larger of 1 and (the stored tensors and 2 to 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.cases.inputs.pages import PAGE_PADDING, num_pages, pages_needed, pool_of
from attnconf.judging.checks.outlines import OUTLINES
from attnconf.judging.sizes import CLAIMED_MISTAKES, HOST_WORK, MOST_BYTES, work
from attnconf.oracle.limits import MOST_KEYS, MOST_SCORES

if TYPE_CHECKING:
    from attnconf.cases.case import Case, Layer

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "nvfp4": 9 / 16}
_DOUBLE = 8
_SINGLE = 4
"""Bytes of an element: by its dtype, and in float64 and float32."""

_ANSWERS, _COMPARED = 4, 6
"""Tensors like the output in step 3, that are kept for each layer, and while one is compared."""

_BLOCK_KEYS, _BLOCK_SCORES = 6, 14
"""Temporaries of a block in step 3, like its keys and like its scores."""

_BACKEND_TENSORS = 6
"""Tensors like the expanded keys in step 4."""
_OWNED_PAGE = 250
_FREE_PAGE = 8


@dataclass(frozen=True)
class Footprint:
    """Peak bytes on the ``host`` and on the ``device``; without an accelerator everything is on the host."""

    host: int
    device: int


def least_bytes(case: Case) -> int:
    """Return a lower limit of the bytes of ``case``. It places no page, so it is cheap for any case.

    The limit is the larger of two: drawing, and the queries, the block table and pools for the longest request.
    """
    paging = case.paging
    rows = _rows(case)
    queries = _SINGLE * rows * sum(layer.num_qo_heads * layer.head_dim for layer in case.layers)
    pages = pages_needed(case.max_kv_len, paging.page_size)
    table = _SINGLE * (len(case.requests) + case.padding_rows) * (pages + paging.extra_columns + paging.table_slack)
    slots = (pages + paging.slack_pages) * paging.page_size
    numbers = sum(layer.num_kv_heads * (layer.head_dim + layer.value_dim) for layer in case.layers)
    pools = int(_BYTES[case.kv_dtype] * slots * numbers)
    return max(_drawing(case), queries + table + pools + _placing(case))


def footprint(case: Case, *, accelerated: bool) -> Footprint:
    """Return an upper limit of the peak bytes of ``case`` with one backend and all checks."""
    stored_bytes = _BYTES[case.kv_dtype]
    stored, drawing = _stored(case), _drawing(case)
    pools = _pools(case, stored_bytes)
    pool_bytes = sum(pools) * _copies(case, accelerated=accelerated) + max(pools)
    kind = "cuda" if accelerated else "cpu"
    outputs = [_DOUBLE * _rows(case) * layer.num_qo_heads * layer.value_dim for layer in case.layers]
    answers = _ANSWERS * sum(outputs) + _COMPARED * max(outputs)
    answering = stored + pool_bytes + answers + max(_working(case, layer, kind) for layer in case.layers)
    if not accelerated:
        return Footprint(host=max(drawing, answering), device=0)
    if work(case) <= HOST_WORK:
        return Footprint(host=max(drawing, stored + answers), device=answering)
    return Footprint(host=_placing(case), device=max(drawing, answering))


def _rows(case: Case) -> int:
    return (
        sum(request.new_tokens for request in case.requests)
        + case.padding_rows * case.padding_tokens
        + case.query.slack_rows
    )


def _placing(case: Case) -> int:
    """Return the bytes of Python's own numbers: the tables of owned pages, and a permutation of all of them."""
    owned = sum(pages_needed(request.kv_len, case.paging.page_size) for request in case.requests)
    return _OWNED_PAGE * owned + _FREE_PAGE * case.paging.slack_pages


def _elements(case: Case) -> list[int]:
    """Return the elements of each layer's keys, or of its values where these have more."""
    tokens = sum(request.kv_len for request in case.requests)
    return [tokens * layer.num_kv_heads * _widest(layer) for layer in case.layers]


def _widest(layer: Layer) -> int:
    return max(layer.head_dim, layer.value_dim)


def _stored(case: Case) -> int:
    return int(2 * _BYTES[case.kv_dtype] * sum(_elements(case)))


def _drawing(case: Case) -> int:
    elements = _elements(case)
    queries = 2 * _SINGLE * _rows(case) * sum(layer.num_qo_heads * layer.head_dim for layer in case.layers)
    return 2 * _SINGLE * sum(elements) + queries + _stored(case) + 4 * _SINGLE * max(elements)


def _pools(case: Case, stored_bytes: float) -> list[int]:
    """Return the bytes of each layer's cache, K and V together, in one batch."""
    pages = num_pages(case)
    slots = [pages[pool_of(case, index)] * case.paging.page_size for index in range(len(case.layers))]
    padding = PAGE_PADDING / case.paging.page_size
    return [
        int(stored_bytes * count * (layer.num_kv_heads * (layer.head_dim + layer.value_dim) + 2 * padding))
        for count, layer in zip(slots, case.layers, strict=True)
    ]


def _copies(case: Case, *, accelerated: bool) -> int:
    """Return the number of copies of the pools: the batch, its pristine copy, and the pools of every check."""
    checks = [check for check in OUTLINES if accelerated or not check.needs_gpu]
    return 2 + sum(check.pools(case) for check in checks)


def _working(case: Case, layer: Layer, kind: str) -> int:
    """Return the bytes of a block of the oracle, of mistakes, and of a backend on the longest request of ``layer``."""
    keys = case.max_kv_len
    rows = max(1, *(request.new_tokens for request in case.requests))
    visible = keys - layer.first_seen(max(0, keys - rows))
    dim, heads = _widest(layer), layer.num_qo_heads
    scores = max(MOST_SCORES[kind], layer.group_size * keys)
    block = _DOUBLE * (_BLOCK_KEYS * max(MOST_KEYS[kind], keys * dim) + _BLOCK_SCORES * scores)
    total = sum(request.kv_len for request in case.requests)
    small = _DOUBLE * total * (_BLOCK_KEYS * layer.num_kv_heads * dim + _BLOCK_SCORES * heads * rows)
    one = int(2 * _BYTES[case.kv_dtype] * keys * layer.num_kv_heads * dim)
    mistaken = one + min(MOST_BYTES, CLAIMED_MISTAKES * one)
    return max(min(block, small) + mistaken, _BACKEND_TENSORS * _SINGLE * visible * heads * (dim + rows))
