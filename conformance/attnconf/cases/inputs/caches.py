"""Caches: the memory of one layer's keys and values, with what is in dead slots, or with the pages of another one."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from attnconf.cases.inputs.batch import KVCache
from attnconf.cases.inputs.guards import guarded
from attnconf.cases.inputs.pages import pool_of
from attnconf.cases.inputs.poison import bits, fill
from attnconf.cases.inputs.storage import Store, allocate, by_token
from attnconf.cases.inputs.stored import part_dtypes, widths_of
from attnconf.cases.recorded import NULL_PAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import Case
    from attnconf.cases.inputs.batch import Batch, Pool
    from attnconf.cases.inputs.layout import Layout


def stores_for(case: Case, pages: int, index: int, device: torch.device) -> tuple[Store, ...]:
    """Return uninitialised memory for ``pages`` pages of layer ``index``: numbers, and the scales of their blocks."""
    geometry, paging = case.layers[index], case.paging
    widths = zip(*(widths_of(width, case.kv_dtype) for width in (geometry.head_dim, geometry.value_dim)), strict=True)
    heads, layout, storage = geometry.num_kv_heads, paging.layout, paging.storage
    return tuple(
        allocate(pages, paging.page_size, heads, (key, value), layout, storage, dtype, device)
        for (key, value), dtype in zip(widths, part_dtypes(case.kv_dtype), strict=True)
    )


def fill_stores(stores: Sequence[Store], case: Case, rng: torch.Generator) -> None:
    """Fill all of a layer's stores with what the case has in dead slots."""
    for part, store in enumerate(stores):
        _fill(store, case, rng, part if len(stores) > 1 else None)


def _fill(store: Store, case: Case, rng: torch.Generator, part: int | None) -> None:
    fill(store.k_base, case.poison.k, rng, part)
    if not store.joint:
        fill(store.v_base, case.poison.v, rng, part)
        return
    _, v = store.views()
    values = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    fill(values, case.poison.v, rng, part)
    bits(v).copy_(bits(values))


def cache_over(stores: Sequence[Store], case: Case, index: int) -> KVCache:
    """Return layer ``index``'s cache over filled stores."""
    (k, v), *blocks = (store.views() for store in stores)
    scales = (_by_head(one, k.device) for one in (case.layers[index].k_scales, case.layers[index].v_scales))
    return KVCache(k, v, pool_of(case, index), *scales, *chain.from_iterable(blocks))


def _by_head(scales: tuple[float, ...], device: torch.device) -> torch.Tensor | None:
    """Return the scales of KV heads as a backend receives them, float32."""
    return guarded(torch.tensor(scales, dtype=torch.float32).to(device, non_blocking=True)) if scales else None


def copied_caches(case: Case, layout: Layout, batch: Batch, own: Layout) -> tuple[KVCache, ...]:
    """Return the caches of ``case`` under ``layout``, page by page from those of ``batch`` under its ``own`` layout.

    A page that nobody has here is one that nobody has there.
    """
    rng = torch.Generator().manual_seed(case.seed)
    sources = {pool: _sources(layout, own, pool, batch.device) for pool in layout.num_pages}
    caches = []
    for index, cache in enumerate(batch.caches):
        stores = stores_for(case, layout.num_pages[cache.pool], index, batch.device)
        if stores[0].padded:
            fill_stores(stores, case, rng)
        source, views = sources[cache.pool], chain.from_iterable(store.views() for store in stores)
        for view, stored in zip(views, cache.paged.values(), strict=True):
            pages = bits(by_token(stored, batch.kv_layout))
            bits(by_token(view, case.paging.layout)).copy_(pages if source is None else pages[source])
        caches.append(cache_over(stores, case, index))
    return tuple(caches)


def _sources(layout: Layout, own: Layout, pool: Pool, device: torch.device) -> torch.Tensor | None:
    """Return the page under ``own`` whose contents each page of ``pool`` gets, [pages] int64; None: its own."""
    if layout is own:
        return None
    requests = range(len(layout.tables))
    there = [page for request in requests for page in own.pages(pool, request)]
    free = np.array(sorted({NULL_PAGE, *range(own.num_pages[pool])} - (set(there) - {NULL_PAGE})))
    found = free[np.arange(layout.num_pages[pool]) % len(free)]
    found[[page for request in requests for page in layout.pages(pool, request)]] = there
    found[NULL_PAGE] = NULL_PAGE
    return torch.from_numpy(found).to(device, non_blocking=True)
