"""Reading: what tensors of an engine say of lengths, tables, strides and dtypes; no key, value or query is read."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, get_args

from attnconf.capture.call import UnsayableError
from attnconf.cases.case import QuerySide
from attnconf.cases.dtypes import KVDtype

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from attnconf.capture.call import Table
    from attnconf.cases.case import KVLayout, Storage, TableTail

_DTYPES = get_args(KVDtype)


def dtype_name(dtype: torch.dtype, what: str) -> str:
    """Return the name of ``dtype`` as cases say it. Raises ``UnsayableError`` for another one; ``what`` has it."""
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise UnsayableError(f"{what} of {name}")
    return name


def host(values: torch.Tensor) -> tuple[int, ...]:
    """Return whole numbers on the host."""
    return tuple(int(value) for value in values.tolist())


def differences(starts: Sequence[int]) -> tuple[int, ...]:
    """Return the lengths between cumulated ``starts``."""
    return tuple(stop - start for start, stop in pairwise(starts))


def table_rows(table: torch.Tensor, kv_lens: Sequence[int], page_size: int) -> tuple[tuple[Table, ...], TableTail]:
    """Return the page ids that each request's tokens need, and what stands behind them in their rows.

    ``table`` is [rows, columns], on any device; it is read once.
    """
    rows = table.tolist()
    needed = [-(-length // page_size) for length in kv_lens]
    used = tuple(tuple(int(page) for page in row[:count]) for row, count in zip(rows, needed, strict=False))
    behind = {int(page) for row, count in zip(rows, needed, strict=False) for page in row[count:]}
    if not behind - {0}:
        return used, "null"
    return used, "invalid" if min(behind) < 0 else "stale"


def pages_of_slots(slots: Sequence[int], stride: int) -> Table:
    """Return the pages in which the tokens of one request lie, whose slots are ``stride`` apart from page to page."""
    found: list[int] = []
    for slot in slots:
        page = slot // stride
        if not found or found[-1] != page:
            found.append(page)
    return tuple(found)


def cache_form(k: torch.Tensor, v: torch.Tensor) -> tuple[KVLayout, Storage]:
    """Return layout and storage of the views ``k`` and ``v``, both [pages, page_size, num_kv_heads, width]."""
    pages, size, heads, dim = k.shape
    page, token, head = k.stride()[:3]
    layout: KVLayout = "HND" if head > token and heads > 1 and size > 1 else "NHD"
    inner, width = size * heads * dim, v.shape[3]
    values = size * heads * width
    if k.untyped_storage().data_ptr() == v.untyped_storage().data_ptr():
        apart = v.storage_offset() - k.storage_offset()
        if apart == dim and min(token, head) >= dim + width:
            return layout, "sliced"
        if apart == inner and page == inner + values:
            return layout, "interleaved"
    if pages > 1 and page > inner:
        return layout, "padded" if v.stride(0) > values else "unlike"
    return layout, "apart"


def query_side(q: torch.Tensor, rows: int, hint: int) -> QuerySide:
    """Return how the queries lie, [rows, num_qo_heads, head_dim], and what the host says of the lengths."""
    packed = q.dim() == 3 and q.shape[0] > 1 and q.stride(0) > q.shape[1] * q.shape[2]  # noqa: PLR2004
    return QuerySide(
        storage="packed" if packed else "apart", slack_rows=max(0, q.shape[0] - rows), context_len=max(0, hint)
    )
