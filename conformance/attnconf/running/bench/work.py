"""Work: the bytes that a launch must move and the operations it must do, whichever kernel does them.

Every byte is counted once: q read and out written, K and V of each key that some row of its request sees. Tables,
scales and partial results are left out, and a page that requests share counts for each: this is the least of any kernel
for requests that share none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.sight import seen

if TYPE_CHECKING:
    from attnconf.cases.case import Case
    from attnconf.cases.geometry import LayerGeometry

_SIZE = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "nvfp4": 9 / 16}


def work(case: Case, layer: int) -> tuple[int, int]:
    """Return the least bytes of one launch of ``layer``, and its multiplications and additions.

    A pair of a query row and a key that it sees costs ``2 * num_qo_heads * (head_dim + value_dim)``: two operations for
    each number of the key and of the value.
    """
    geometry = case.layers[layer]
    pairs = keys = 0
    for request in case.requests:
        if not request.new_tokens:
            continue
        keys += request.kv_len - geometry.first_seen(request.prefix_len)
        if request.tree or geometry.bidirectional:
            pairs += sum(seen(geometry, request, row).keys for row in range(request.new_tokens))
        else:
            pairs += _pairs(request.prefix_len, request.new_tokens, geometry)
    rows = sum(request.new_tokens for request in case.requests)
    both = geometry.head_dim * _SIZE[case.q_dtype] + geometry.value_dim * _SIZE[case.answer_dtype]
    widths = geometry.head_dim + geometry.value_dim
    cached = int(keys * geometry.num_kv_heads * widths * _SIZE[case.kv_dtype])
    return int(rows * geometry.num_qo_heads * both) + cached, 2 * pairs * geometry.num_qo_heads * widths


def _pairs(prefix: int, tokens: int, layer: LayerGeometry) -> int:
    """Return how many pairs of a row and a key that it sees the new ``tokens`` behind a ``prefix`` have."""
    positions, window = range(prefix, prefix + tokens), layer.window_left
    if layer.chunk_size is not None:
        return sum(position % layer.chunk_size + 1 for position in positions)
    if window < 0:
        return (positions[0] + positions[-1] + 2) * tokens // 2
    whole = min(tokens, max(0, prefix + tokens - window - 1))  # rows whose window is full without their first keys
    part = tokens - whole
    return whole * (window + 1) + (2 * (prefix + 1) + part - 1) * part // 2
