"""vLLM's own ``KVCacheManager`` over its block pool: a group of full layers and one of sliding layers (0.33.0).

Both groups take blocks of one pool, and a block is the same memory for either. vLLM caches a block when it is
allocated, before it is written: a hit of the same batch is right, since the whole batch is written before it is read.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.engines.vllm.library import library
from attnconf.serving.managers.protocol import Census, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnconf.cases.inputs.batch import Pool

_LONGEST = 4096
_HEADS = {"num_kv_heads": 2, "head_size": 32, "dtype": torch.float32}


class VllmManager:
    """``blocks`` of ``page_size`` tokens, and its prefix cache. ``hybrid`` adds a group of sliding layers."""

    name = "vllm"
    one_memory = True

    def __init__(self, *, blocks: int = 32, page_size: int = 4, window_left: int = 7, hybrid: bool = True) -> None:
        library()  # vLLM is imported as its backend is
        self._utils = importlib.import_module("vllm.v1.core.kv_cache_utils")
        self._requests = importlib.import_module("vllm.v1.request")
        self._sampling = importlib.import_module("vllm.sampling_params").SamplingParams(max_tokens=_LONGEST)
        self.page_size = page_size
        self.pools: tuple[Pool, ...] = ("full", "swa") if hybrid else ("full",)
        self.window_left = window_left if hybrid else -1
        self._hash = importlib.import_module("vllm.utils.hashing").sha256
        self._utils.init_none_hash(self._hash)
        self._manager = self._made(blocks)
        self._live: dict[int, Any] = {}
        self._count = 0

    def _made(self, blocks: int) -> Any:  # noqa: ANN401 - vLLM's KVCacheManager
        kinds = importlib.import_module("vllm.v1.kv_cache_interface")
        specs = [kinds.FullAttentionSpec(block_size=self.page_size, **_HEADS)]
        if self.window_left >= 0:
            specs.append(
                kinds.SlidingWindowSpec(block_size=self.page_size, sliding_window=self.window_left + 1, **_HEADS)
            )
        groups = [kinds.KVCacheGroupSpec([f"layer.{place}"], spec) for place, spec in enumerate(specs)]
        config = kinds.KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=groups)
        return importlib.import_module("vllm.v1.core.kv_cache_manager").KVCacheManager(
            config, max_model_len=_LONGEST, scheduler_block_size=self.page_size, hash_block_size=self.page_size
        )

    def _request(self, tokens: Sequence[int]) -> Any:  # noqa: ANN401 - vLLM's Request
        self._count += 1
        return self._requests.Request(
            request_id=str(self._count),
            prompt_token_ids=list(tokens),
            sampling_params=self._sampling,
            pooling_params=None,
            block_hasher=self._utils.get_request_block_hasher(self.page_size, self._hash),
        )

    def fits(self, tokens: int) -> bool:
        """Whether every group has room for all tokens, the null block left out."""
        needed = len(self.pools) * (-(-tokens // self.page_size) + 1)
        return bool(needed < self._manager.block_pool.num_gpu_blocks)

    def match_prefix(self, tokens: Sequence[int]) -> Table:
        """Return the blocks that vLLM finds for all tokens but the last."""
        blocks, count, _ = self._manager.get_computed_blocks(self._request(tokens))
        return self._table(blocks.get_block_ids(), count)

    def allocate(self, request: int, tokens: Sequence[int]) -> int | None:
        """Adopt the computed blocks together with room for one new token, as vLLM's scheduler does."""
        made = self._request(tokens)
        blocks, count, _ = self._manager.get_computed_blocks(made)
        if self._manager.allocate_slots(made, 1, count, blocks) is None:
            return None
        made.num_computed_tokens = count
        self._live[request] = made
        return int(count)

    def extend(self, request: int, tokens: Sequence[int], upto: int) -> bool:
        """Allocate slots; drafts are tokens behind those that the request has."""
        made = self._live[request]
        self._tell(made, tokens)
        new = upto - made.num_computed_tokens
        return self._manager.allocate_slots(made, new) is not None

    def commit(self, request: int, tokens: Sequence[int]) -> None:
        """Count the tokens as computed."""
        made = self._live[request]
        self._tell(made, tokens)
        made.num_computed_tokens = len(tokens)

    def free(self, request: int) -> None:
        """Free the request's blocks."""
        self._manager.free(self._live.pop(request))

    def evict(self) -> None:
        """Take every block that is free out of the prefix cache."""
        self._manager.evict_blocks({block.block_id for block in self._free() if block.block_hash is not None})

    def table(self, request: int) -> Table:
        """Return the request's blocks; vLLM's null block is the null page."""
        ids = self._manager.get_block_ids(self._live[request].request_id)
        return self._table(ids, len(ids[0]) * self.page_size)

    def census(self) -> Mapping[Pool, Census]:
        """Return the blocks as each group sees them: those of the other group are not lost."""
        every = frozenset(range(1, self._manager.block_pool.num_gpu_blocks))
        free = self._free()
        idle = frozenset(block.block_id for block in free if block.block_hash is not None)
        unused = tuple(block.block_id for block in free if block.block_hash is None)
        tables = [self.table(request) for request in self._live]
        found: dict[Pool, Census] = {}
        for pool in self.pools:
            others = {page for table in tables for other in self.pools if other != pool for page in table.pages[other]}
            found[pool] = Census(every, unused, idle | frozenset(others - {0}))
        return found

    def _free(self) -> list[Any]:
        found: list[Any] = self._manager.block_pool.free_block_queue.get_all_free_blocks()
        return found

    def _table(self, ids: Sequence[Sequence[int]], tokens: int) -> Table:
        return Table(self.page_size, tokens, {pool: tuple(own) for pool, own in zip(self.pools, ids, strict=True)})

    def _tell(self, made: Any, tokens: Sequence[int]) -> None:  # noqa: ANN401 - vLLM's Request
        if len(tokens) > made.num_tokens:
            made.append_output_token_ids(list(tokens[made.num_tokens :]))
