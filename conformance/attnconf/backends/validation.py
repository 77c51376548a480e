"""Validation: what metadata no batch can have, said in one sentence before anything runs.

It reads lengths and tables on the host, which on a GPU waits for the device: for a backend that puts safety first.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.inputs.batch import Batch


def why_corrupt(batch: Batch) -> str | None:
    """Return the first thing in the metadata of ``batch`` that cannot be, or None."""
    return next(_faults(batch), None)


def _faults(batch: Batch) -> Iterator[str]:
    starts, lengths = batch.qo_indptr.tolist(), batch.seq_lens.tolist()
    rows = min(len(layer.q) for layer in batch.layers)
    if starts[0] != 0 or any(after < before for before, after in pairwise(starts)):
        yield f"qo_indptr {_shown(starts)} does not rise from 0"
        return
    if starts[-1] > rows:
        yield f"qo_indptr ends at {starts[-1]}, and the queries have {rows} rows"
    tokens = [after - before for before, after in pairwise(starts)]
    columns = batch.block_tables.shape[1]
    for request, (count, length) in enumerate(zip(tokens, lengths, strict=True)):
        if length < 0:
            yield f"request {request} has seq_len {length}, which is negative"
        if length > columns * batch.page_size:
            room = columns * batch.page_size
            yield f"request {request} has seq_len {length}, and its table has room for {room} tokens"
        if length and count > length:
            yield f"request {request} has {count} query tokens and seq_len {length}"
    if batch.max_seq_len < max(lengths) or batch.max_q_len < max(tokens):
        given = f"max_seq_len {batch.max_seq_len} and max_q_len {batch.max_q_len}"
        yield f"{given} are below the longest request, of {max(lengths)} keys and {max(tokens)} query tokens"
    yield from _page_faults(batch, lengths)


def _page_faults(batch: Batch, lengths: list[int]) -> Iterator[str]:
    """Yield the first page id in a used column that is outside the pool whose ids the table has."""
    pages = next((len(cache.k) for cache in batch.caches if cache.pool == "full"), None)
    if pages is None and batch.full_to_swa is not None:
        pages = len(batch.full_to_swa) // batch.page_size
    if pages is None:
        return
    tables = batch.block_tables.cpu().numpy()
    used = (np.array(lengths) + batch.page_size - 1) // batch.page_size
    in_use = np.arange(tables.shape[1]) < used[:, None]
    found = np.argwhere(((tables < 0) | (tables >= pages)) & in_use)
    if len(found):
        request, column = found[0].tolist()
        yield f"request {request} has page {tables[request, column]} in column {column}, and the pool has {pages} pages"


def _shown(numbers: list[int]) -> str:
    most = 8
    return f"[{', '.join(map(str, numbers[:most]))}{', ...' if len(numbers) > most else ''}]"
