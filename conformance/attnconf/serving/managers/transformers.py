"""transformers' own cache of continuous batching (5.23, 5.24): its full-attention allocator, ledger and prefix sharing.

Its sliding layers keep a ring: token t lies in slot t modulo the window, and a batch reads the ring before it writes.
Such a table rolls, which no case can say yet, so they are left out.
"""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from attnconf.serving.managers.protocol import Census, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnconf.cases.inputs.batch import Pool

_BATCHING = "transformers.generation.continuous_batching"


class TransformersManager:
    """``blocks`` of ``page_size`` tokens for two full layers."""

    name = "transformers"
    one_memory = False
    pools: tuple[Pool, ...] = ("full",)
    window_left = -1

    def __init__(self, *, blocks: int = 18, page_size: int = 4) -> None:
        batching = importlib.import_module("transformers.generation.configuration_utils").ContinuousBatchingConfig
        config = importlib.import_module("transformers").LlamaConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, vocab_size=8
        )
        config._attn_implementation = "sdpa_paged"  # noqa: SLF001 - as transformers sets it
        self.page_size = page_size
        self._status = importlib.import_module(f"{_BATCHING}.requests").RequestStatus
        self._cache = importlib.import_module(f"{_BATCHING}.cache").PagedAttentionCache(
            config,
            batching(
                page_size=page_size,
                num_blocks=blocks,
                max_batch_tokens=64,
                allow_block_sharing=True,
                max_memory_percent=0.5,
                max_blocks_per_request=32,
                use_async_batching=False,
                return_logprobs=False,
                max_requests_per_batch=8,
            ),
            device="cpu",
            distributed_helper=SimpleNamespace(tp_size=1),
            dtype=torch.float32,
        )
        self._full = next(iter(self._cache.cache_allocators.values()))
        self._live: dict[int, Any] = {}

    @property
    def _blocks(self) -> int:
        return int(self._cache.num_sectors * self._full.blocks_per_sector)

    def fits(self, tokens: int) -> bool:
        """Whether so many blocks exist."""
        return -(-tokens // self.page_size) <= self._blocks

    def match_prefix(self, tokens: Sequence[int]) -> Table:
        """Return the blocks that the ledger knows for all tokens but the last."""
        blocks = self._full.match_prefix_blocks(list(tokens))
        return self._table(blocks)

    def allocate(self, request: int, tokens: Sequence[int]) -> int | None:
        """Share the blocks of a known prefix."""
        hit = self._cache.search_prefix_match(str(request), list(tokens))
        made = SimpleNamespace(
            request_id=str(request),
            written=hit,
            initial_tokens=list(tokens),
            generated_tokens=[],
            status=self._status.DECODING,
        )
        made.current_len = lambda: made.written
        self._live[request] = made
        self._full.block_table.setdefault(made.request_id, [])
        return int(hit)

    def extend(self, request: int, tokens: Sequence[int], upto: int) -> bool:
        """Allocate; where there is no room, evict every cached block first, as the scheduler does."""
        made = self._live[request]
        made.initial_tokens = list(tokens)
        new = upto - made.written
        if self._cache.can_store_request_tokens(made, new):
            return True
        return bool(self._cache.evict_cached_blocks() and self._cache.can_store_request_tokens(made, new))

    def commit(self, request: int, tokens: Sequence[int]) -> None:
        """Register the blocks that the batch completed; one that another request has already is given up for it."""
        made = self._live[request]
        made.initial_tokens = list(tokens)
        complete = self._cache.count_new_complete_blocks(made, len(tokens) - made.written)
        made.written = len(tokens)
        self._cache.mark_complete_blocks(made, complete)

    def free(self, request: int) -> None:
        """Free the request's blocks; complete ones stay cached."""
        self._cache.free_blocks(self._live.pop(request).request_id)

    def evict(self) -> None:
        """Evict every cached block."""
        self._cache.evict_cached_blocks()

    def table(self, request: int) -> Table:
        """Return the request's blocks."""
        return self._table(self._full.block_table[str(request)])

    def census(self) -> Mapping[Pool, Census]:
        """Return all blocks by state; those of a sector that the allocator has not taken are free."""
        pool, size = self._cache.pool, self._full.blocks_per_sector
        first = pool.num_reserved_sectors
        every = frozenset(range(first * size, (first + pool.num_sectors) * size))
        unused = [block for sector in pool.free_sectors for block in range(sector * size, (sector + 1) * size)]
        # The pool has no public view of its free blocks.
        trees = pool._free_blocks[self._full.index].trees  # noqa: SLF001
        free = [block for tree in trees.values() for block in tree]
        return {"full": Census(every, (*unused, *free), frozenset(self._full.ledger.cached_blocks))}

    def _table(self, blocks: Sequence[int]) -> Table:
        """Return a table; the first sectors are never given out, so no block has the id of the null page."""
        return Table(self.page_size, len(blocks) * self.page_size, {"full": tuple(blocks)})
