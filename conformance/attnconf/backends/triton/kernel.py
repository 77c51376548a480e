"""The paged attention kernels: a block of query rows over a range of its keys, and the merge of such ranges.

Every program first finds its place: an entry of the work list is (request, first query token of the block), and all
else is read from the lengths on the device. Which keys a program visits depends on its own request's lengths and on
constants of the layer alone, never on the neighbours or on a host hint; a program of the grid that has no keys stops.
A graph may be replayed over fewer query tokens than it was captured with: its programs behind them visit no key.
"""

# ruff: noqa: ANN001, ANN201, N803, PLR0913 - kernels: Triton reads only constexpr annotations, which it writes in capitals
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from attnconf.backends.triton.tile import (
    LN_2,
    LOG2_E,
    LOWEST,
    device_function,
    load_or_zero,
    round_to_bf16,
    round_to_e4m3,
    visit_tile,
)

_BY_BATCH = ("num_qo_heads", "num_splits", "lse_token", "window_left")
"""Integers that change with a batch, or from layer to layer, and address no tile of keys or values: specialised, each
multiple of 16 would be compiled anew in the middle of a run."""


@device_function
def split_range(low, high, MAX_SPLITS: tl.constexpr, MIN_SPLIT: tl.constexpr, BLOCK_N: tl.constexpr):
    """Return (keys per split, number of splits >= 1) of the keys [low, high): a function of its arguments alone."""
    keys = high - low
    width = (keys + (MAX_SPLITS - 1)) // MAX_SPLITS
    width = (width + (BLOCK_N - 1)) // BLOCK_N * BLOCK_N
    width = tl.maximum(width, MIN_SPLIT)
    return width, tl.maximum((keys + (width - 1)) // width, 1)


@device_function
def block_range(
    work, qo_indptr, seq_lens, window_left,
    row_spans,
    GROUP: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WINDOWED: tl.constexpr, CHUNKED: tl.constexpr,
    SPANS: tl.constexpr, BOTH_WAYS: tl.constexpr, TREE: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """Read this program's entry of the work list.

    Return its request, the first token of its block in the batch, the number of tokens in the block, the position of
    the first one, the first key that it sees, the tile-aligned keys [low, high) that the block has to visit, and the
    number of cached keys. ``window_left`` is the chunk size of a chunked layer. A row of a tree may stand as far ahead
    as the request's first new token, whichever it is, and see any new key.
    """
    entry = work + tl.program_id(0).to(INDEX) * 2
    request = tl.load(entry).to(INDEX)
    first = tl.load(entry + 1).to(INDEX)
    begin = tl.load(qo_indptr + request).to(INDEX)
    q_len = tl.load(qo_indptr + request + 1).to(INDEX) - begin
    position = tl.load(seq_lens + request).to(INDEX) - q_len + first
    tokens = tl.minimum(q_len - first, BLOCK_M // GROUP)
    high = tl.maximum(position + tokens, 0)
    if SPANS:
        # The last row's span is the furthest: spans of a request lie apart, and rows are in order.
        end = tl.load(row_spans + tl.maximum(begin + first + tokens - 1, 0) * 2 + 1).to(INDEX)
        high = tl.maximum(high, tl.minimum(end, position - first + q_len))
    if BOTH_WAYS:
        ahead = position - first + q_len
        high = tl.maximum(high, tl.minimum(high + window_left, ahead) if WINDOWED else ahead)
    cached = position - first
    if TREE:
        high = tl.maximum(cached + q_len, 0)
        position = cached
    first_key = 0
    low = 0
    if WINDOWED:
        first_key = tl.maximum(position - window_left, 0)
        low = first_key // BLOCK_N * BLOCK_N
    if CHUNKED:
        first_key = tl.maximum(position, 0) // window_left * window_left
        low = first_key // BLOCK_N * BLOCK_N
    high = tl.where(tokens > 0, high, low)
    return request, begin + first, tokens, cached + first, first_key, low, high, cached


@device_function
def sight_of_rows(
    position, token, mask, cached, end, window_left, row_spans, row_depths,
    WINDOWED: tl.constexpr, CHUNKED: tl.constexpr, SPANS: tl.constexpr, BOTH_WAYS: tl.constexpr, TREE: tl.constexpr,
    INDEX: tl.constexpr,
):  # fmt: skip
    """Return the oldest and the newest key that the rows at ``position`` see, of a request whose block ends at ``end``.

    In a TREE the newest key says nothing, and the oldest one is a position.
    """
    newest = position
    if TREE:
        position = cached + tl.load(row_depths + token, mask=mask, other=0).to(INDEX)
    if SPANS:
        span_end = tl.load(row_spans + token * 2 + 1, mask=mask, other=0).to(INDEX)
        newest = tl.maximum(position, tl.minimum(span_end, end) - 1)
    if BOTH_WAYS:
        newest = tl.minimum(position + window_left, end - 1) if WINDOWED else tl.maximum(position, end - 1)
    oldest = position
    if WINDOWED:
        oldest = position - window_left
    if CHUNKED:
        oldest = position // window_left * window_left
    return oldest, newest


@device_function
def store_rows(
    acc, m, total, token, head, mask, d, out, lse, sinks,
    out_token, out_head, out_dim, lse_token, lse_head, v_scale,
    VALUE_DIM: tl.constexpr, SINKS: tl.constexpr, LSE: tl.constexpr, OUT_FORMAT: tl.constexpr,
):  # fmt: skip
    """Write the output and log-sum-exp of complete rows from their softmax state; rows over no key become 0."""
    largest = m
    if SINKS:
        sink = tl.load(sinks + head, mask=mask, other=0.0) * LOG2_E
        largest = tl.maximum(m, sink)
        kept = tl.exp2(m - largest)
        total = total * kept + tl.exp2(sink - largest)
        acc = acc * kept[:, None]
    empty = total == 0.0
    total = tl.where(empty, 1.0, total)
    result = acc * (v_scale / total)[:, None]
    where_out = (out + (token * out_token + head * out_head))[:, None] + (d * out_dim)[None, :]
    mask_out = mask[:, None] & (d < VALUE_DIM)[None, :]
    if OUT_FORMAT == "bf16":
        tl.store(where_out, round_to_bf16(result).to(tl.int16), mask=mask_out)
    elif OUT_FORMAT == "e4m3":
        tl.store(where_out, round_to_e4m3(result).to(tl.uint8), mask=mask_out)
    else:
        tl.store(where_out, result.to(out.dtype.element_ty), mask=mask_out)
    if LSE:
        value = tl.where(empty, float("-inf"), (largest + tl.log2(total)) * LN_2)
        tl.store(lse + (token * lse_token + head * lse_head), value, mask=mask)


@triton.jit(do_not_specialize=(*_BY_BATCH, "table_row", "tree_row"))
def attend(
    q, k, v, out, lse, sinks, partial, stats, work, qo_indptr, seq_lens, row_spans, tree_mask, row_depths, tables,
    q_token, q_head, q_dim, k_page, k_slot, k_head, k_dim, v_page, v_slot, v_head, v_dim,
    out_token, out_head, out_dim, lse_token, lse_head, table_row, table_column,
    num_qo_heads, num_splits, scale, cap, v_scale, window_left, tree_row, k_scales, v_scales,
    k_blocks, v_blocks, kb_page, kb_slot, kb_head, kb_dim, vb_page, vb_slot, vb_head, vb_dim,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr, PAGE_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
    MAX_SPLITS: tl.constexpr, MIN_SPLIT: tl.constexpr,
    SAME_STRIDES: tl.constexpr, WINDOWED: tl.constexpr, CHUNKED: tl.constexpr, SOFT_CAP: tl.constexpr,
    SINKS: tl.constexpr, SPANS: tl.constexpr, BOTH_WAYS: tl.constexpr, TREE: tl.constexpr, LSE: tl.constexpr,
    HEAD_SCALES: tl.constexpr, Q_FORMAT: tl.constexpr, KV_FORMAT: tl.constexpr, OUT_FORMAT: tl.constexpr,
    P_BITS: tl.constexpr, DOT: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """Attend one block of rows of one KV head to one split of its keys. Grid: work entries, KV heads, splits.

    A row of one split is finished here; the splits of others leave their softmax state: ``partial``
    [tokens, num_qo_heads, num_splits, VALUE_DIM] and ``stats`` [tokens, num_qo_heads, num_splits, 2], float32.
    """
    request, begin, tokens, first_position, first_key, low, high, cached = block_range(
        work, qo_indptr, seq_lens, window_left, row_spans,
        GROUP, BLOCK_M, BLOCK_N, WINDOWED, CHUNKED, SPANS, BOTH_WAYS, TREE, INDEX,
    )  # fmt: skip
    end = high
    splits = 1
    if MAX_SPLITS > 1:
        split = tl.program_id(2).to(INDEX)
        width, splits = split_range(low, high, MAX_SPLITS, MIN_SPLIT, BLOCK_N)
        if split >= splits:
            return
        low = low + split * width
        high = tl.minimum(high, low + width)

    kv_head = tl.program_id(1).to(tl.int64)
    if HEAD_SCALES:
        scale = scale * tl.load(k_scales + kv_head)
        v_scale = v_scale * tl.load(v_scales + kv_head)
    row = tl.arange(0, BLOCK_M).to(INDEX)
    row_token = row // GROUP
    mask = row_token < tokens
    position = first_position + row_token
    token = (begin + row_token).to(tl.int64)
    oldest, newest = sight_of_rows(
        position, token, mask, cached, end, window_left, row_spans, row_depths,
        WINDOWED, CHUNKED, SPANS, BOTH_WAYS, TREE, INDEX,
    )  # fmt: skip
    head = kv_head * GROUP + (row - row_token * GROUP)
    d = tl.arange(0, BLOCK_D).to(tl.int64)
    mask_q = mask[:, None] & (d < HEAD_DIM)[None, :]
    rows = (q + (token * q_token + head * q_head))[:, None] + (d * q_dim)[None, :]
    rows = load_or_zero(rows, mask_q, Q_FORMAT, DOT)
    dv = tl.arange(0, BLOCK_V).to(tl.int64)

    m = tl.full([BLOCK_M], LOWEST, tl.float32)
    total = tl.full([BLOCK_M], 0.0, tl.float32)
    acc = tl.full([BLOCK_M, BLOCK_V], 0.0, tl.float32)
    table = tables + request.to(tl.int64) * table_row
    k = k + kv_head * k_head
    v = v + kv_head * v_head
    if KV_FORMAT == "nvfp4":
        k_blocks = k_blocks + kv_head * kb_head
        v_blocks = v_blocks + kv_head * vb_head
    for start in range(low, high, BLOCK_N):
        m, total, acc = visit_tile(
            rows, m, total, acc, start, first_key, high, oldest, newest, table, k, v, d, dv,
            tree_mask + token * tree_row, row_depths + (begin - first_position + cached), mask, cached,
            k_page, k_slot, k_dim, v_page, v_slot, v_dim, table_column, scale, cap,
            k_blocks, v_blocks, kb_page, kb_slot, kb_dim, vb_page, vb_slot, vb_dim,
            HEAD_DIM, VALUE_DIM, BLOCK_N, BLOCK_D, BLOCK_V, PAGE_SIZE, SAME_STRIDES, WINDOWED or CHUNKED, TREE,
            SOFT_CAP, KV_FORMAT, P_BITS, DOT, INDEX,
        )  # fmt: skip

    if splits == 1:
        store_rows(
            acc, m, total, token, head, mask, dv, out, lse, sinks,
            out_token, out_head, out_dim, lse_token, lse_head, v_scale, VALUE_DIM, SINKS, LSE, OUT_FORMAT,
        )  # fmt: skip
    elif MAX_SPLITS > 1:
        place = (token * num_qo_heads + head) * num_splits + split
        mask_v = mask[:, None] & (dv < VALUE_DIM)[None, :]
        tl.store((partial + place * VALUE_DIM)[:, None] + dv[None, :], acc, mask=mask_v)
        tl.store(stats + place * 2, m, mask=mask)
        tl.store(stats + place * 2 + 1, total, mask=mask)


@triton.jit(do_not_specialize=_BY_BATCH)
def merge(
    out, lse, sinks, partial, stats, work, qo_indptr, seq_lens, row_spans,
    out_token, out_head, out_dim, lse_token, lse_head, num_qo_heads, num_splits, v_scale, window_left, v_scales,
    GROUP: tl.constexpr, VALUE_DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, MAX_SPLITS: tl.constexpr, MIN_SPLIT: tl.constexpr,
    WINDOWED: tl.constexpr, CHUNKED: tl.constexpr, SINKS: tl.constexpr, SPANS: tl.constexpr, BOTH_WAYS: tl.constexpr,
    TREE: tl.constexpr, LSE: tl.constexpr, HEAD_SCALES: tl.constexpr, OUT_FORMAT: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """Merge the splits of one block of rows of one KV head, in order. Grid: work entries, KV heads.

    ``BLOCK_ROWS`` is the rows in use of ``BLOCK_M``, rounded up to a power of two: nothing is multiplied here, so no
    row has to be padded for the sake of the tensor cores.
    """
    _, begin, tokens, _, _, low, high, _ = block_range(
        work, qo_indptr, seq_lens, window_left, row_spans,
        GROUP, BLOCK_M, BLOCK_N, WINDOWED, CHUNKED, SPANS, BOTH_WAYS, TREE, INDEX,
    )  # fmt: skip
    _, splits = split_range(low, high, MAX_SPLITS, MIN_SPLIT, BLOCK_N)
    if splits == 1:
        return
    if HEAD_SCALES:
        v_scale = v_scale * tl.load(v_scales + tl.program_id(1))
    row = tl.arange(0, BLOCK_ROWS).to(INDEX)
    row_token = row // GROUP
    mask = row_token < tokens
    token = (begin + row_token).to(tl.int64)
    head = tl.program_id(1).to(tl.int64) * GROUP + (row - row_token * GROUP)
    d = tl.arange(0, BLOCK_V).to(tl.int64)
    mask_acc = mask[:, None] & (d < VALUE_DIM)[None, :]
    m = tl.full([BLOCK_ROWS], LOWEST, tl.float32)
    total = tl.full([BLOCK_ROWS], 0.0, tl.float32)
    acc = tl.full([BLOCK_ROWS, BLOCK_V], 0.0, tl.float32)
    first_place = (token * num_qo_heads + head) * num_splits
    for split in range(splits):
        place = first_place + split
        part = tl.load((partial + place * VALUE_DIM)[:, None] + d[None, :], mask=mask_acc, other=0.0)
        part_m = tl.load(stats + place * 2, mask=mask, other=LOWEST)
        part_total = tl.load(stats + place * 2 + 1, mask=mask, other=0.0)
        largest = tl.maximum(m, part_m)
        kept = tl.exp2(m - largest)
        added = tl.exp2(part_m - largest)
        total = total * kept + part_total * added
        acc = acc * kept[:, None] + part * added[:, None]
        m = largest
    store_rows(
        acc, m, total, token, head, mask, d, out, lse, sinks,
        out_token, out_head, out_dim, lse_token, lse_head, v_scale, VALUE_DIM, SINKS, LSE, OUT_FORMAT,
    )  # fmt: skip
