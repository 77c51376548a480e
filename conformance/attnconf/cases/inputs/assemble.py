"""Put logical inputs into pages: the Batch that a backend receives."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import torch

from attnconf.cases import trees
from attnconf.cases.inputs.batch import Batch, LayerInputs
from attnconf.cases.inputs.caches import cache_over, copied_caches, fill_stores, stores_for
from attnconf.cases.inputs.guards import guarded
from attnconf.cases.inputs.layout import Layout
from attnconf.cases.inputs.levels import raised_score
from attnconf.cases.inputs.noise import normal
from attnconf.cases.inputs.pages import pool_of
from attnconf.cases.inputs.planting import aimed
from attnconf.cases.inputs.poison import STALE_SCALE, bits
from attnconf.cases.inputs.query_side import laid_out, sliced_table
from attnconf.cases.inputs.storage import by_token
from attnconf.cases.inputs.stored import divided, largest_stored, parts_of, stored
from attnconf.cases.recorded import NULL_PAGE
from attnconf.cases.request import Request
from attnconf.cases.sight import follows_tree
from attnconf.oracle.packed import scaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attnconf.cases.case import Case
    from attnconf.cases.inputs.batch import KVCache, Pool
    from attnconf.cases.inputs.logical import Logical

    IntArray = NDArray[np.int64]

_BAITED_PAGES = (8, 32)
_BAITED_SLOTS = 512
"""Bait fills about this many slots of free pages, in at least and at most so many pages: it is what costs most here."""

_FEW_AIMED = 2**20
"""Elements of a layer's queries up to which keys are aimed at all of them once, and not at those of each batch anew."""

_CONTENTS_STREAM = 0x5EED
"""Combined with a case's seed, so that poison and padding rows draw other numbers than the logical inputs."""


def assemble(
    case: Case, layout: Layout, logical: Logical, device: torch.device, like: tuple[Batch, Layout] | None = None
) -> Batch:
    """Build the batch of ``case`` under ``layout`` on ``device``.

    Paging and poison come from ``case``. Its requests, layers and dtypes must be those of ``logical``. With ``like``,
    another batch of the same inputs, pages and poison with its layout, the contents of pages are copied from there.
    """
    rng = torch.Generator().manual_seed(case.seed ^ _CONTENTS_STREAM)
    q_lens = (*(request.new_tokens for request in case.requests), *[case.padding_tokens] * case.padding_rows)
    kv_lens = (*(request.kv_len for request in case.requests), *[case.padding_keys] * case.padding_rows)
    if like is None:
        caches = tuple(_cache(case, layout, logical, index, rng, device) for index in range(len(case.layers)))
    else:
        caches = copied_caches(case, layout, *like)
    layers = tuple(
        LayerInputs(
            geometry=geometry,
            q=laid_out(case, index, own, _padded_q(case, own.q, rng) if like is None else like[0].queries(index)),
            sinks=None if own.sinks is None else guarded(own.sinks),
            cache=case.owner(index),
            out_dtype=getattr(torch, case.answer_dtype),
        )
        for index, (geometry, own) in enumerate(
            (geometry, logical.on(index, device)) for index, geometry in enumerate(case.layers)
        )
    )
    mapping = layout.full_to_swa()
    return Batch(
        mode=case.mode,
        page_size=case.paging.page_size,
        kv_layout=case.paging.layout,
        storage=case.paging.storage,
        qo_indptr=guarded(_lengths(list(accumulate(q_lens, initial=0))), device),
        seq_lens=guarded(_lengths(kv_lens), device),
        block_tables=sliced_table(case, layout.block_tables, device),
        full_to_swa=None if mapping is None else guarded(mapping, device),
        q_lens=q_lens,
        kv_lens=kv_lens,
        max_q_len=max(q_lens),
        max_seq_len=case.max_seq_len,
        layers=layers,
        caches=caches,
        row_spans=_row_spans(case, device),
        **_drafts(case, max(q_lens), device),
    )


def _row_spans(case: Case, device: torch.device) -> torch.Tensor | None:
    """Return the span of each query row, [rows, 2] int32; None where no row lies in one."""
    if not any(request.queried_spans for request in case.requests):
        return None
    found = [
        request.span_of(position) or (0, 0)
        for request in case.requests
        for position in range(request.prefix_len, request.kv_len)
    ]
    found += [(0, 0)] * case.padding_rows * case.padding_tokens
    return guarded(torch.tensor(found, dtype=torch.int32), device)


def _drafts(case: Case, width: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Return the mask and the depths of the rows of drafts where some are a tree, else nothing."""
    if not follows_tree(case.requests):
        return {}
    padding = [Request(new_tokens=case.padding_tokens)] * case.padding_rows
    parents = [one.tree or tuple(range(-1, one.new_tokens - 1)) for one in (*case.requests, *padding)]
    branches = [trees.branch(tree, token) for tree in parents for token in range(len(tree))]
    mask = torch.zeros((len(branches), width), dtype=torch.bool)
    for row, seen in enumerate(branches):
        mask[row, list(seen)] = True
    depths = torch.tensor([depth for tree in parents for depth in trees.depths(tree)], dtype=torch.int32)
    return {"tree_mask": guarded(mask, device), "row_depths": guarded(depths, device)}


def _lengths(lengths: Sequence[int]) -> torch.Tensor:
    return torch.tensor(lengths, dtype=torch.int32)


def _padded_q(case: Case, q: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    if not case.padding_rows:
        return q
    extra = normal((case.padding_rows * case.padding_tokens, *q.shape[1:]), rng, q.device, stream="queries").to(q.dtype)
    return torch.cat([bits(q), bits(extra)]).view(q.dtype)


def _cache(  # noqa: PLR0913 - one private step of assemble
    case: Case, layout: Layout, logical: Logical, index: int, rng: torch.Generator, device: torch.device
) -> KVCache:
    paging, pool = case.paging, pool_of(case, index)
    stores = stores_for(case, layout.num_pages[pool], index, device)
    fill_stores(stores, case, rng)
    views = [store.views() for store in stores]
    k, v = zip(*([by_token(view, paging.layout) for view in pair] for pair in views), strict=True)
    if case.poison.k == "stale":
        _bait(k, case, layout, logical, index, pool, rng)
    own, (kept, places) = logical.on(index, device), layout.places(pool, device)
    for parts, rows in ((k, own.k), (v, own.v)):
        for view, found in zip(parts, parts_of(rows), strict=True):
            bits(view)[places] = bits(found) if kept is None else bits(found)[kept]
    return cache_over(stores, case, index)


def _bait(  # noqa: PLR0913 - one private step of assemble
    k: Sequence[torch.Tensor],
    case: Case,
    layout: Layout,
    logical: Logical,
    index: int,
    pool: Pool,
    rng: torch.Generator,
) -> None:
    """Make stale keys matter: put a probe for a query row into each dead slot that a mistake would reach.

    ``k`` are the pools of keys, and of their block scales. Slots behind a request's last token are aimed at that
    request's last row, the null page and free pages at rows picked at random.
    """
    size, device = case.paging.page_size, k[0].device
    fewest, most = _BAITED_PAGES
    baited = min(most, max(fewest, _BAITED_SLOTS // size))
    free = [NULL_PAGE, *range(layout.num_pages[pool] - 1, 0, -1)][:baited]
    picks = torch.randint(0, logical.q_starts[-1], (len(free), size), generator=rng)
    slots = np.tile(np.arange(size), len(free))
    of_free = np.stack([np.repeat(free, size), slots, slots, picks.view(-1).numpy()])
    of_tails = _behind_ends(case, layout, logical, pool)
    page, slot, turn, row = _last_of_each(np.concatenate([of_free, of_tails], axis=1), size)
    keys = aimed_keys(case, index, logical, row, turn, device)
    pages, offsets = torch.from_numpy(np.stack([page, slot])).to(device, non_blocking=True)
    for view, found in zip(k, parts_of(keys), strict=True):
        bits(view)[pages, offsets] = bits(found)


def _behind_ends(case: Case, layout: Layout, logical: Logical, pool: Pool) -> IntArray:
    """Return the slots behind the last tokens of requests: their pages, slots, numbers from 0 on, and query rows."""
    size = case.paging.page_size
    tails = [
        (layout.page(pool, request, spec.kv_len - 1), spec.kv_len % size, logical.q_starts[request + 1] - 1)
        for request, spec in enumerate(case.requests)
        if spec.kv_len % size and spec.new_tokens
    ]
    page, used, row = np.array(tails, dtype=np.int64).reshape(-1, 3).T
    counts = size - used
    behind = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
    return np.stack([np.repeat(page, counts), np.repeat(used, counts) + behind, behind, np.repeat(row, counts)])


def _last_of_each(aimed_at: IntArray, size: int) -> IntArray:
    """Return the columns (page, slot and more) of ``aimed_at`` that no later one about the same slot replaces.

    A free page may be that of a tail, whose columns come last.
    """
    place = aimed_at[0] * size + aimed_at[1]
    _, from_end = np.unique(place[::-1], return_index=True)
    return aimed_at[:, len(place) - 1 - from_end]


def aimed_keys(  # noqa: PLR0913 - a cache, the queries that its keys attract, and where
    case: Case, index: int, logical: Logical, rows: IntArray, turns: IntArray, device: torch.device
) -> torch.Tensor:
    """Return keys [n, num_kv_heads, D] of layer ``index``, as stored, that attract the query ``rows`` [n].

    Slots take ``turns`` [n] among the layers that read the cache, and within each layer among the query heads of a
    group. A redirected layer's own cache is aimed at that layer, which must not read it.
    """
    readers = [reader for reader in range(len(case.layers)) if case.owner(reader) == index] or [index]
    longest = max(request.kv_len for request in case.requests)
    rise = math.log(max(longest, 2)) + STALE_SCALE
    found, order = [], []
    for turn, reader in enumerate(readers):
        mine = np.flatnonzero(turns % len(readers) == turn)
        layer = case.layers[reader]
        member = turns[mine] // len(readers) % layer.group_size
        heads = np.arange(layer.num_kv_heads) * layer.group_size + member[:, None]
        of_all = torch.from_numpy(rows[mine, None] * layer.num_qo_heads + heads).to(device, non_blocking=True)
        q, score = logical.on(reader, device).q.flatten(0, 1), raised_score(case, layer, rise)
        if q.numel() > _FEW_AIMED:
            found.append(aimed(scaled(q[of_all], case.q_scale(reader)), layer, score))
        else:
            if (reader, device) not in logical.aimed:
                logical.aimed[reader, device] = aimed(scaled(q, case.q_scale(reader)), layer, score)
            found.append(logical.aimed[reader, device][of_all])
        order.append(mine)
    keys = found[0]
    if len(readers) > 1:
        back = torch.from_numpy(np.argsort(np.concatenate(order), kind="stable"))
        keys = torch.cat(found)[back.to(device, non_blocking=True)]
    most, own = largest_stored(case.kv_dtype), case.layers[index]
    return stored(divided(keys, own.k_scale, own.k_scales).clamp(-most, most), 1.0, case.kv_dtype)
