"""FlashInfer's page metadata: the pages of all requests in one list instead of a table."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from attnconf.backends.tables import block_tables_for

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import Batch


@dataclass(frozen=True)
class PageIndices:
    """Pages ``kv_indices[kv_indptr[r]:kv_indptr[r + 1]]`` hold request r; all tensors are int32.

    Its last page has ``kv_last_page_len[r]`` tokens: 1 to page_size, or 0 if it has no page. ``kv_indptr`` [rows + 1]
    and ``kv_last_page_len`` [rows] are on the host, which makes the plan; ``kv_indices`` is on the device.
    """

    kv_indptr: torch.Tensor
    kv_indices: torch.Tensor
    kv_last_page_len: torch.Tensor


def page_indices(batch: Batch, layer: int) -> PageIndices:
    """Return the page metadata of ``batch`` in the page ids of the pool that ``layer`` reads."""
    size = batch.page_size
    counts = [-(-length // size) for length in batch.kv_lens]
    tables = block_tables_for(batch, layer)
    columns = torch.arange(tables.shape[1], device=batch.device)
    used = columns[None, :] < torch.tensor(counts, device=batch.device)[:, None]
    return PageIndices(
        kv_indptr=torch.tensor(list(accumulate(counts, initial=0)), dtype=torch.int32),
        kv_indices=tables[used].to(torch.int32),
        kv_last_page_len=torch.tensor(
            [length - (count - 1) * size if count else 0 for length, count in zip(batch.kv_lens, counts, strict=True)],
            dtype=torch.int32,
        ),
    )


def host_qo_indptr(batch: Batch) -> torch.Tensor:
    """Return ``qo_indptr`` [rows + 1] int32 on the host."""
    return torch.tensor(list(accumulate(batch.q_lens, initial=0)), dtype=torch.int32)
