"""Traits: the properties of a case on which a bug may depend, in classes, and the pairs of them that a case covers.

Kernels are chosen, compiled and laid out by such classes, and most bugs need one or two of them at once. What half of
all cases have, such as a packed query, a sliced table or a long hint, meets the rest by chance: it is no trait.
"""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

from attnconf.cases.dtypes import EIGHT_BIT
from attnconf.cases.inputs.levels import cancels, raw_base
from attnconf.cases.inputs.pages import has_table_tail, pages_needed
from attnconf.cases.inputs.witnesses import saturates

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from attnconf.cases.case import Case, Layer
    from attnconf.cases.request import Request

TILE = 16
"""The smallest tile of keys, and of query heads or rows, that kernels use."""

_SHORT = 64
_FLOAT16 = 65_504
_FAR_SCORE = 1000.0
_CALM = ("zero", "stale")
_REQUESTS = 8
_STORED = 2.0**17
_PRODUCTS = 2.0**20
"""As many requests, stored elements, or products of q and k cost as much as the smallest case."""

_WIDTH = 256
"""Bits of a set of traits: more than there are."""

ALONE = sum(1 << number * (_WIDTH + 1) for number in range(_WIDTH))
"""The bits of a set of pairs in which a trait meets itself: those of the traits alone."""

_numbers: dict[str, int] = {}
_next_number = count()


def pairs(case: Case, layers: Collection[int] | None = None) -> int:
    """Return the pairs of traits that meet in one request on one layer of ``case``, as a set of bits.

    ``layers`` are those that count, all without it. Bit positions are valid within one process.
    """
    shared = _bits(_of_case(case))
    alike = Counter(request.kv_len for request in case.requests)
    requests = [
        (one, _bits(_of_request(case, i, alike=alike[one.kv_len] > 1)))
        for i, one in enumerate(case.requests)
        if one.new_tokens
    ]
    found = [0] * _WIDTH  # the traits that meet each trait
    for index, layer in enumerate(case.layers):
        if layers is not None and index not in layers:
            continue
        own = shared | _bits(_of_layer(case, index))
        for met in {own | asked | _bits(_of_window(case, layer, request)) for request, asked in requests}:
            rest = met
            while rest:
                lowest = rest & -rest
                found[lowest.bit_length() - 1] |= met
                rest ^= lowest
    return int.from_bytes(b"".join(one.to_bytes(_WIDTH // 8, "little") for one in found), "little")


def cost(case: Case) -> float:
    """Return about how long a case takes, in units of the smallest one: keys stored, and products of q and k."""
    size = case.paging.page_size
    slots = sum(pages_needed(request.kv_len, size) + case.paging.slack_pages for request in case.requests) * size
    stored = slots * sum(layer.num_kv_heads * (layer.head_dim + layer.value_dim) / 2 for layer in case.layers)
    rows = sum(request.new_tokens * request.kv_len for request in case.requests)
    products = rows * sum(layer.num_qo_heads * (layer.head_dim + layer.value_dim) / 2 for layer in case.layers)
    return len(case.layers) * (1.0 + len(case.requests) / _REQUESTS) + stored / _STORED + products / _PRODUCTS


def _bits(traits: Iterator[str]) -> int:
    found = 0
    for trait in traits:
        if trait not in _numbers:
            _numbers[trait] = next(_next_number)
        found |= 1 << _numbers[trait]
    return found


def _of_case(case: Case) -> Iterator[str]:
    paging = case.paging
    yield f"mode {case.mode}"
    yield f"query {case.q_dtype}"
    yield f"cache {8 if case.kv_dtype in EIGHT_BIT else case.kv_dtype}"
    yield f"answer {case.answer_dtype if case.out_dtype else 'as the query'}"
    yield f"page {_size_class(paging.page_size)}"
    yield f"layout {paging.layout}"
    yield f"storage {'padded' if paging.storage == 'unlike' else paging.storage}"
    yield f"placement {paging.placement if paging.placement in {'high', 'far'} else 'low'}"
    yield f"tail {paging.table_tail if has_table_tail(case) else 'none'}"
    yield f"padding {case.padding_kv_len if case.padding_rows else 'none'}"
    yield f"requests {_count_class(len(case.requests), 3, TILE, _SHORT, 2 * _SHORT)}"
    yield f"layers {_count_class(len(case.layers), 2, 4, 8, TILE)}"
    yield f"first empty {case.requests[0].new_tokens == 0}"
    yield f"dead keys {'calm' if case.poison.k in _CALM else 'harsh'}"
    yield f"dead values {'calm' if case.poison.v in _CALM else 'harsh'}"
    yield f"values cancel {cancels(case)}"
    yield f"empty {any(request.new_tokens == 0 for request in case.requests)}"


def _size_class(page_size: int) -> str:
    return str(page_size) if page_size in {1, 16, 32, 64} else ("large" if page_size > _SHORT else "odd")


def _of_layer(case: Case, index: int) -> Iterator[str]:
    layer = case.layers[index]
    others = [other for i, other in enumerate(case.layers) if i != index]
    dim, heads = layer.head_dim, layer.num_kv_heads
    yield f"group {_group_class(layer.group_size)}"
    yield f"kv heads {_count_class(heads, 2, 4, TILE)}"
    yield f"head_dim {dim if dim % _SHORT == 0 else ('small' if dim < _SHORT else 'odd')}"
    yield f"wide {dim > 2 * _SHORT}"
    yield f"values {'as keys' if layer.head_dim_v is None else ('narrower' if layer.value_dim < dim else 'wider')}"
    yield f"scales {'by head' if layer.k_scales else 'one'}"
    yield f"window {_window_class(layer.window_left)}"
    yield f"cap {layer.logits_soft_cap is not None}"
    yield f"sinks {layer.sinks}"
    yield f"scores {_scores_class(case, layer)}"
    yield f"scale {layer.sm_scale == dim**-0.5}"
    yield f"products {'beyond float16' if abs(raw_base(case, layer)) / layer.sm_scale > _FLOAT16 else 'within'}"
    yield f"place {_count_class(index, 1, 3)}"
    yield f"redirected {'no' if layer.kv_owner is None else ('to the first' if layer.kv_owner == 0 else 'to another')}"
    yield f"read by others {any(other.kv_owner == index for other in others)}"
    alike = (dim, layer.value_dim, layer.group_size)
    yield f"twin {any((other.head_dim, other.value_dim, other.group_size) == alike for other in others)}"
    own = layer.kind == "sliding" and case.paging.hybrid
    yield f"pool {'own' if own else ('mixed' if case.paging.hybrid else 'full')}"
    told = case.paging.page_size != heads
    yield f"strides tell the layout {told if heads > 1 else 'one head'}"


def _scores_class(case: Case, layer: Layer) -> str:
    if saturates(case, layer):
        return "far above the cap"
    base, cap = raw_base(case, layer), layer.logits_soft_cap
    if cap is not None and base < -cap:
        return "at the low end of the cap"
    if cap is None and abs(base) > _FAR_SCORE:
        return f"far {'above' if base > 0 else 'below'} zero"
    return "high" if base > 0 else ("low" if base < 0 else "around zero")


def _group_class(size: int) -> str:
    if size >= TILE:
        return "a tile" if size == TILE else "beyond a tile"
    return str(size) if size & (size - 1) == 0 else "no power of two"


def _window_class(window: int) -> str:
    if window < 0:
        return "none"
    if window < TILE - 2:
        return "tiny"
    return "border" if (window + 1) % TILE == 0 else ("short" if window < _SHORT else "long")


def _of_request(case: Case, index: int, *, alike: bool) -> Iterator[str]:
    request, size = case.requests[index], case.paging.page_size
    tokens, kv_len = request.new_tokens, request.kv_len
    rest = kv_len % size
    yield f"prefix {request.prefix_len > 0}"
    yield f"rows {_rows_class(tokens)}"
    yield f"last page {'full' if rest == 0 else ('one' if rest == 1 else 'part')}"
    yield f"pages {min(pages_needed(kv_len, size), 3)}"
    yield f"keys {_count_class(kv_len, 0, TILE, _SHORT, 1024, 4096, 2**15)}"
    yield f"behind {'others' if index else 'none'}"
    yield f"as long as others {alike}"
    yield f"shares {request.shared_pages > 0}"


def _rows_class(tokens: int) -> str:
    if tokens <= 2:  # noqa: PLR2004 - a decode, and the shortest block
        return str(tokens)
    return f"up to {_count_class(tokens, 0, TILE // 2, TILE, 2 * TILE, _SHORT, 2 * _SHORT, 4 * _SHORT)}"


def _count_class(count: int, exact: int, *borders: int) -> str:
    """Return ``count`` up to ``exact``, then the first of ``borders`` that it does not exceed."""
    if count <= exact:
        return str(count)
    return str(next((border for border in borders if count <= border), "more"))


def _spans_class(layer: Layer, request: Request) -> str:
    """Return whether the request has spans that ``layer`` follows, and whether one is cut by the end of its chunk."""
    if not (layer.spans and request.queried_spans):
        return "none"
    return "past the end" if request.queried_spans[-1][1] > request.kv_len else "whole"


def _chunks_class(layer: Layer, request: Request) -> str:
    """Return whether the rows of a request lie in its first chunk, in one, or in several."""
    if layer.chunk_size is None:
        return "none"
    first, last = request.prefix_len // layer.chunk_size, (request.kv_len - 1) // layer.chunk_size
    return "several" if first < last else "one"


def _of_window(case: Case, layer: Layer, request: Request) -> Iterator[str]:
    first = request.prefix_len - layer.window_left
    past = layer.window_left >= 0 and request.kv_len - 1 > layer.window_left
    fills = request.kv_len - 1 == layer.window_left
    yield f"past window {('every row' if first > 0 else 'some rows') if past else ('filled' if fills else 'no row')}"
    yield f"window starts at a tile {past and first > 0 and first % TILE == 0}"
    yield f"window starts at a large tile {past and first > 0 and first % (2 * _SHORT) == 0}"
    yield f"longer than its window {past and request.new_tokens > layer.window_left + 1}"
    yield f"spans {_spans_class(layer, request)}"
    yield f"both ways {layer.bidirectional and request.new_tokens > 1}"
    yield f"chunks {_chunks_class(layer, request)}"
    yield f"reclaimed {past and case.paging.reclaimed and first >= case.paging.page_size}"
