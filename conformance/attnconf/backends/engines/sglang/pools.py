"""sglang's own pools, filled from a batch: the ids of its tables, the translation, and the cached keys and values.

sglang numbers token slots where a batch numbers pages, and its page 0 is for padding like a batch's null page: so slot
= page * page_size + offset, in both pools. Its pools are separate memory: the batch is copied into them, and its caches
do not change. The keys and values of new tokens are not copied: their slots contain NaN until sglang writes them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from attnconf.cases.inputs.storage import by_token

if TYPE_CHECKING:
    from attnconf.backends.engines.sglang.groups import Group
    from attnconf.backends.engines.sglang.library import Library
    from attnconf.cases.inputs.batch import Batch, Pool


@dataclass(frozen=True)
class Tokens:
    """The places of the new tokens of a batch, each [tokens] int64: ``slots`` in the full pool, and ``positions``."""

    slots: torch.Tensor
    positions: torch.Tensor


def slot_table(batch: Batch) -> torch.Tensor:
    """Return the token slots of the full pool, [rows, columns * page_size] int64, for the ids of each row.

    In sglang, a row may contain slots of earlier requests behind the end of a sequence, so ids of other pages stay. An
    id outside the pool becomes the null page.
    """
    pages = batch.block_tables.long()
    last = _slots(batch, "full") // batch.page_size - 1
    pages = torch.where((pages < 0) | (pages > last), 0, pages)
    offsets = torch.arange(batch.page_size, device=batch.device)
    return (pages[:, :, None] * batch.page_size + offsets).flatten(1)


def new_tokens(batch: Batch, table: torch.Tensor) -> Tokens:
    """Return the places of the query tokens of ``batch``, the last tokens of each request. Padding has slot 0."""
    positions = [
        torch.arange(kv_len - q_len, kv_len, device=batch.device).clamp_min(0)
        for q_len, kv_len in zip(batch.q_lens, batch.kv_lens, strict=True)
    ]
    slots = [table[row, places] for row, places in enumerate(positions)]
    return Tokens(torch.cat(slots), torch.cat(positions))


def make_rows(batch: Batch, table: torch.Tensor, sglang: Library) -> Any:  # noqa: ANN401 - sglang's ReqToTokenPool
    """Return a ``ReqToTokenPool`` in which request r of the batch has row r + 1; row 0 is for padding."""
    width = max(batch.max_seq_len, table.shape[1])
    pool = sglang.ReqToTokenPool(len(batch.kv_lens), width, str(batch.device), enable_memory_saver=False)
    pool.req_to_token[1:, : table.shape[1]] = table.to(torch.int32)
    return pool


def make_pools(batch: Batch, group: Group, sglang: Library) -> tuple[Any, Any]:
    """Return the KV pool and its allocator: one pool, or a full and a sliding one with the batch's translation."""
    sizes = {pool: _slots(batch, pool) for pool in group.shapes}
    common = {"page_size": batch.page_size, "device": str(batch.device), "enable_memory_saver": False}
    dtype = batch.caches[group.caches[0]].k.dtype
    if "swa" not in group.shapes:
        heads, dim = group.shapes["full"]
        size = sizes["full"] - batch.page_size
        pool = sglang.MHATokenToKVPool(
            size, dtype=dtype, head_num=heads, head_dim=dim, layer_num=len(group.caches), **common
        )
        kind = sglang.TokenToKVPoolAllocator if batch.page_size == 1 else sglang.PagedTokenToKVPoolAllocator
        page = () if batch.page_size == 1 else (batch.page_size,)
        return pool, kind(size, *page, dtype, str(batch.device), pool, need_sort=False)
    swa_heads, swa_dim = group.shapes["swa"]
    heads, dim = group.shapes.get("full", group.shapes["swa"])
    mapping = batch.full_to_swa
    if mapping is None:
        raise ValueError("a cache in the swa pool without full_to_swa")
    size, size_swa = _slots(batch, "full") - batch.page_size, sizes["swa"] - batch.page_size
    local = list(enumerate(group.caches))
    pool = sglang.SWAKVPool(
        size=size,
        size_swa=size_swa,
        dtype=dtype,
        head_num=heads,
        head_dim=dim,
        swa_head_num=swa_heads,
        swa_head_dim=swa_dim,
        swa_v_head_dim=swa_dim,
        swa_attention_layer_ids=[own for own, cache in local if batch.caches[cache].pool == "swa"],
        full_attention_layer_ids=[own for own, cache in local if batch.caches[cache].pool == "full"],
        **common,
    )
    allocator = sglang.SWATokenToKVPoolAllocator(
        size, size_swa, batch.page_size, dtype, str(batch.device), pool, need_sort=False
    )
    allocator.set_full_to_swa_mapping(torch.arange(mapping.shape[0], device=batch.device), mapping)
    return pool, allocator


def fill(batch: Batch, group: Group, pool: Any, new: torch.Tensor) -> None:  # noqa: ANN401 - a KV pool of sglang
    """Copy the caches of ``group`` into ``pool``, except the slots ``new`` of the full pool."""
    for own, cache in enumerate(group.caches):
        k, v = flat(batch, cache)
        blank = slots_in(batch, cache, new)
        for target, source in ((pool.get_key_buffer(own), k), (pool.get_value_buffer(own), v)):
            target[: source.shape[0]] = source
            target[blank[blank >= batch.page_size]] = math.nan


def flat(batch: Batch, cache: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the keys and values of a cache by token slot, each [slots, num_kv_heads, head_dim]."""
    stored = batch.caches[cache]
    k, v = (by_token(view, batch.kv_layout).flatten(0, 1) for view in (stored.k, stored.v))
    return k, v


def slots_in(batch: Batch, cache: int, slots: torch.Tensor) -> torch.Tensor:
    """Translate token slots of the full pool into slots of the pool of ``cache``."""
    if batch.caches[cache].pool == "full" or batch.full_to_swa is None:
        return slots
    return batch.full_to_swa[slots]


def _slots(batch: Batch, pool: Pool) -> int:
    """Return the number of token slots of a pool, with the null page."""
    if pool == "full" and batch.full_to_swa is not None:
        return batch.full_to_swa.shape[0]
    return next(cache.k.shape[0] for cache in batch.caches if cache.pool == pool) * batch.page_size
