"""sglang's own row pool, allocators and radix caches (0.5.23): plain, and with a sliding pool.

The calls are those of sglang's scheduler: match and lock a prefix, allocate an extension, checkpoint into the tree
while a prompt advances, free what the window has passed, release with a last checkpoint. Requests are substitutes with
the attributes that these read; their ``kv`` record is sglang's. Drafts are left out: sglang keeps their slots with the
request until the server's speculative configuration releases them.
"""

from __future__ import annotations

import importlib
from array import array
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.engines.sglang.library import library
from attnconf.cases.recorded import NULL_PAGE
from attnconf.serving.managers.protocol import Census, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnconf.cases.inputs.batch import Pool

_LONGEST = 512
_ROWS = 16
_CACHE = "sglang.srt.mem_cache"


class SglangManager:
    """``full`` and ``swa`` pages; without ``swa`` the plain ``RadixCache`` over one pool."""

    name = "sglang"
    one_memory = False

    def __init__(self, *, full: int = 18, swa: int = 0, page_size: int = 4, window_left: int = 7) -> None:
        self._library = library()
        self._common = importlib.import_module(f"{_CACHE}.common")
        self._base = importlib.import_module(f"{_CACHE}.base_prefix_cache")
        self._radix = importlib.import_module(f"{_CACHE}.radix_cache")
        self._record = importlib.import_module("sglang.srt.managers.schedule_batch").ReqKvInfo
        self.page_size = page_size
        self.pools: tuple[Pool, ...] = ("full", "swa") if swa else ("full",)
        self.window_left = window_left if swa else -1
        self._pages: dict[Pool, int] = {"full": full, "swa": swa}
        with self._library.running():
            self._allocator = self._made_allocator()
            self._rows = self._library.ReqToTokenPool(_ROWS, _LONGEST, "cpu", enable_memory_saver=False)
            self._tree = self._made_tree()
        self._live: dict[int, Any] = {}

    def _made_allocator(self) -> Any:  # noqa: ANN401 - an allocator of sglang
        sizes = {pool: count * self.page_size for pool, count in self._pages.items()}
        common = {"page_size": self.page_size, "device": "cpu", "enable_memory_saver": False}
        heads = {"dtype": torch.float32, "head_num": 1, "head_dim": 8}
        if self.window_left < 0:
            pool = self._library.MHATokenToKVPool(sizes["full"], layer_num=1, **heads, **common)
            if self.page_size == 1:
                return self._library.TokenToKVPoolAllocator(sizes["full"], torch.float32, "cpu", pool, need_sort=False)
            kind = self._library.PagedTokenToKVPoolAllocator
            return kind(sizes["full"], self.page_size, torch.float32, "cpu", pool, need_sort=False)
        pool = self._library.SWAKVPool(
            size=sizes["full"],
            size_swa=sizes["swa"],
            swa_head_num=1,
            swa_head_dim=8,
            swa_v_head_dim=8,
            swa_attention_layer_ids=[0],
            full_attention_layer_ids=[1],
            **heads,
            **common,
        )
        return self._library.SWATokenToKVPoolAllocator(
            sizes["full"], sizes["swa"], self.page_size, torch.float32, "cpu", pool, need_sort=False
        )

    def _made_tree(self) -> Any:  # noqa: ANN401 - a prefix cache of sglang
        params = importlib.import_module(f"{_CACHE}.cache_init_params").CacheInitParams(
            disable=False,
            req_to_token_pool=self._rows,
            token_to_kv_pool_allocator=self._allocator,
            page_size=self.page_size,
            sliding_window_size=self.window_left if self.window_left >= 0 else None,
        )
        if self.window_left < 0:
            return self._radix.RadixCache(params)
        kinds = importlib.import_module(f"{_CACHE}.unified_cache.components").ComponentType
        params.tree_components = (kinds.FULL, kinds.SWA)
        return importlib.import_module(f"{_CACHE}.unified_radix_cache").UnifiedRadixCache(params)

    def fits(self, tokens: int) -> bool:
        """Whether every pool has the pages of all tokens, and one more: sglang counts one in reserve."""
        sizes = [self._pages[pool] for pool in self.pools]
        return -(-tokens // self.page_size) + 2 <= min(sizes)

    def match_prefix(self, tokens: Sequence[int]) -> Table:
        """Return what the tree finds for all tokens but the last."""
        found = self._match(_request(self._record(), tokens), tokens)
        slots = self._tree.path_device_indices(found.last_device_node)[: found.device_prefix_len]
        return self._table(slots)

    def allocate(self, request: int, tokens: Sequence[int]) -> int | None:
        """Match, lock, and write the matched slots into a row."""
        made = _request(self._record(), tokens)
        found = self._match(made, tokens)
        made.prefix_len, made.last_node = found.device_prefix_len, found.last_device_node
        made.swa_branching_seqlen = found.swa_branching_seqlen
        made.lock = self._tree.lock(found.last_device_node)
        made.kv.cache_protected_len = made.prefix_len
        if found.cache_protected_len is not None:
            made.kv.cache_protected_len = found.cache_protected_len
        if self._rows.alloc([made]) is None:
            self._tree.unlock(made.lock)
            return None
        slots = self._tree.path_device_indices(made.last_node)[: made.prefix_len]
        self._rows.write((made.kv.req_pool_idx, slice(0, made.prefix_len)), slots.to(torch.int32))
        made.kv.kv_allocated_len = made.kv.kv_committed_len = made.prefix_len
        self._live[request] = made
        return int(made.prefix_len)

    def extend(self, request: int, tokens: Sequence[int], upto: int) -> bool:
        """Evict what the tree can give, then allocate the new slots; False where sglang would retract."""
        made = self._live[request]
        made.full_untruncated_fill_ids = array("q", tokens)
        have = made.kv.kv_allocated_len
        if upto <= have:
            return True
        with self._library.running():
            self._common.evict_from_tree_cache(self._tree, upto - have + self.page_size)
            slots = self._allocated(made, have, upto)
        if slots is None:
            return False
        self._rows.write((made.kv.req_pool_idx, slice(have, upto)), slots.to(torch.int32))
        made.kv.kv_allocated_len = upto
        return True

    def _allocated(self, made: Any, have: int, upto: int) -> torch.Tensor | None:  # noqa: ANN401 - a request
        if self.page_size == 1:
            found: torch.Tensor | None = self._allocator.alloc(upto - have)
            return found
        row = self._rows.req_to_token[made.kv.req_pool_idx]
        last = torch.tensor([int(row[have - 1]) if have else -1], dtype=torch.int64)
        before, behind = torch.tensor([have]), torch.tensor([upto])
        extended: torch.Tensor | None = self._allocator.alloc_extend(before, before, behind, behind, last, upto - have)
        return extended

    def commit(self, request: int, tokens: Sequence[int]) -> None:
        """Count the tokens as committed, checkpoint a prompt, and free what the window has passed."""
        made = self._live[request]
        made.kv.kv_committed_len = len(tokens)
        made.full_untruncated_fill_ids = array("q", tokens)
        with self._library.running():
            if len(tokens) <= made.prompt:
                made.extend_end = len(tokens)
                self._common.checkpoint_kv_cache(made, self._tree)
            if self.window_left >= 0:
                self._common.free_swa_out_of_window_slots(
                    made,
                    len(tokens),
                    sliding_window_size=self.window_left,
                    page_size=self.page_size,
                    req_to_token_pool=self._rows,
                    token_to_kv_pool_allocator=self._allocator,
                )

    def free(self, request: int) -> None:
        """Release the row, with a last checkpoint."""
        made = self._live.pop(request)
        if not made.kv.kv_allocated_len:  # admitted, and preempted before its first batch: sglang takes no row by then
            self._tree.unlock(made.lock)
            self._rows.free(made)
            return
        with self._library.running():
            made.full_untruncated_fill_ids = made.full_untruncated_fill_ids[: made.kv.kv_committed_len]
            made.ended = True
            self._common.release_kv_cache(made, self._tree, checkpoint=True)

    def evict(self) -> None:
        """Evict all that is not locked."""
        with self._library.running():
            self._tree.evict(self._base.EvictParams(num_tokens=10**6, swa_num_tokens=10**6))

    def table(self, request: int) -> Table:
        """Return the pages of the request's row, and their translations."""
        made = self._live[request]
        return self._table(self._rows.req_to_token[made.kv.req_pool_idx, : made.kv.kv_allocated_len])

    def census(self) -> Mapping[Pool, Census]:
        """Return the pages of each pool; those that are neither free nor in a table are taken to be the tree's.

        So a page that is lost is noticed when everything has been evicted.
        """
        found: dict[Pool, Census] = {}
        tables = [self.table(request) for request in self._live]
        for pool in self.pools:
            every = frozenset(range(1, self._pages[pool] + 1))
            free = tuple(self._free_pages(pool))
            held = {page for table in tables for page in table.pages[pool]}
            found[pool] = Census(every, free, every - set(free) - held)
        return found

    def _free_pages(self, pool: Pool) -> list[int]:
        allocator = self._allocator
        if self.window_left >= 0:
            allocator = allocator.full_attn_allocator if pool == "full" else allocator.swa_attn_allocator
        parts = [part for part in (allocator.free_pages, allocator.release_pages) if part is not None]
        pages: list[int] = torch.cat(parts).tolist()
        return pages

    def _table(self, slots: torch.Tensor) -> Table:
        heads = slots[:: self.page_size].long()
        pages: dict[Pool, tuple[int, ...]] = {"full": tuple((heads // self.page_size).tolist())}
        if self.window_left >= 0:
            translated = self._allocator.full_to_swa_index_mapping[heads]
            pages["swa"] = tuple((translated.clamp_min(NULL_PAGE) // self.page_size).tolist())
        return Table(self.page_size, len(heads) * self.page_size, pages)

    def _match(self, made: Any, tokens: Sequence[int]) -> Any:  # noqa: ANN401 - a request, and a MatchResult
        key = self._radix.RadixKey(array("q", tokens), limit=len(tokens) - 1)
        with self._library.running():
            return self._tree.match_prefix(self._base.MatchPrefixParams(key=key, req=made))


def sliding() -> SglangManager:
    """Return the unified radix cache with full and sliding layers."""
    made = SglangManager(swa=12)
    made.name = "sglang-swa"
    return made


def by_token() -> SglangManager:
    """Return the plain radix cache over pages of one token."""
    made = SglangManager(full=72, page_size=1)
    made.name = "sglang-token"
    return made


class _Request(SimpleNamespace):
    """What sglang's memory reads of a request."""

    def finished(self) -> bool:
        return bool(self.ended)

    def owned_kv_len(self) -> int:
        return int(self.kv.kv_committed_len)

    def refresh_fill_ids(self) -> None:
        """Do nothing: the fill ids are kept as they are committed."""

    def get_fill_ids(self) -> Any:  # noqa: ANN401 - an array of token ids
        return self.full_untruncated_fill_ids[: self.extend_end]


def _request(kv: Any, tokens: Sequence[int]) -> _Request:  # noqa: ANN401 - sglang's ReqKvInfo
    return _Request(
        rid="",
        kv=kv,
        prompt=len(tokens),
        origin_input_ids=array("q", tokens),
        output_ids=array("q"),
        full_untruncated_fill_ids=array("q", tokens),
        extend_end=len(tokens),
        prefix_len=0,
        extra_key=None,
        cache_salt=None,
        priority=0,
        lock=None,
        last_node=None,
        session=None,
        session_id=None,
        session_generation=None,
        kv_rotation_base=None,
        skip_radix_cache_insert=False,
        finished_len=None,
        finished_reason=None,
        discard_output_reason=None,
        swa_host_hit_length=0,
        swa_branching_seqlen=None,
        mamba_host_hit_length=0,
        ended=False,
    )
