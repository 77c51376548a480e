"""The paged tensor of stacked keys and values that FMHA v2 reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import Batch, KVCache


@dataclass(frozen=True)
class PageCopy:
    """The pages of a block table that a batch reads, in the order of their copies, and the table over the copies.

    ``rows`` and ``columns`` are int64 on the device; ``table`` is [rows, columns] int32.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    table: torch.Tensor


def page_copy(batch: Batch) -> PageCopy:
    """Return a numbering of the pages that the requests of ``batch`` own, request by request."""
    counts = [-(-length // batch.page_size) for length in batch.kv_lens]
    table = torch.zeros(batch.block_tables.shape, dtype=torch.int32)
    start = 0
    for row, count in enumerate(counts):
        table[row, :count] = torch.arange(start, start + count, dtype=torch.int32)
        start += count
    rows = [row for row, count in enumerate(counts) for _ in range(count)]
    columns = [column for count in counts for column in range(count)]
    return PageCopy(
        torch.tensor(rows, dtype=torch.int64, device=batch.device),
        torch.tensor(columns, dtype=torch.int64, device=batch.device),
        table.to(batch.device),
    )


def stacked_view(cache: KVCache) -> torch.Tensor | None:
    """Return [num_pages, 2, ...] over the same memory, or None unless each page's values directly follow its keys.

    FMHA v2 computes strides from the shape, so any other memory needs a copy.
    """
    k, v = cache.k, cache.v
    block = k[0].numel()
    adjacent = (
        k.untyped_storage().data_ptr() == v.untyped_storage().data_ptr()
        and v.storage_offset() - k.storage_offset() == block
        and k.stride() == v.stride()
    )
    if not (adjacent and k[0].is_contiguous() and k.stride(0) == 2 * block):
        return None
    return k.as_strided((k.shape[0], 2, *k.shape[1:]), (2 * block, block, *k.stride()[1:]))


def stacked_copy(cache: KVCache, tables: torch.Tensor, copy: PageCopy) -> torch.Tensor:
    """Return a new [pages, 2, ...] tensor with the whole pages of ``copy``, including dead slots."""
    pages = tables[copy.rows, copy.columns].long()
    return torch.stack([cache.k[pages], cache.v[pages]], dim=1)
