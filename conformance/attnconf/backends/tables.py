"""The page tables that an adapter around a bare kernel builds, as an engine would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import Batch


def block_tables_for(batch: Batch, layer: int) -> torch.Tensor:
    """Return the block tables, [rows, columns] int32, in the page ids of the pool that ``layer`` reads.

    For a layer in the swa pool each page is translated through ``full_to_swa`` by its first token slot; columns past
    the end of a sequence, whose ids need not be valid, become the null page.
    """
    if batch.caches[batch.layers[layer].cache].pool == "full":
        return batch.block_tables
    mapping = batch.full_to_swa
    if mapping is None:
        raise ValueError("a cache in the swa pool without full_to_swa")
    size = batch.page_size
    used = (batch.seq_lens.long() + size - 1) // size
    columns = torch.arange(batch.block_tables.shape[1], device=batch.device)
    needed = columns[None, :] < used[:, None]
    pages = torch.where(needed, batch.block_tables.long(), 0)
    return (mapping[pages * size] // size).to(torch.int32)
