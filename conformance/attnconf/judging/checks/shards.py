"""Shards of context parallelism: of what degrees, over how many requests, and how much memory they take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.inputs.pages import pages_needed

if TYPE_CHECKING:
    from attnconf.cases.case import Case

SHARDS = (2, 3, 4, 8)
"""Degrees of context parallelism; some cases get one by which a request has fewer keys than there are shards."""

MOST_SHARDS = 16
MOST_REQUESTS = 64
"""Requests of a sharded batch: more of them repeat each other."""


def pools_of_shards(case: Case) -> int:
    """Return how often the memory of all pools holds the shards of one layer: a short request has a page in each."""
    weights = [one.num_kv_heads * (one.head_dim + one.value_dim) for one in case.layers if one.kind == "full"]
    size, keys = case.paging.page_size, [request.kv_len for request in case.requests]
    count = max(SHARDS) if min(keys) >= MOST_SHARDS else MOST_SHARDS
    lengths = (len(range(shard, one, count)) for one in keys[:MOST_REQUESTS] for shard in range(count))
    pages = 1 + sum(pages_needed(one, size) for one in lengths)
    owned = 1 + sum(pages_needed(one.kv_len, size) - one.shared_pages for one in case.requests)
    return -(-pages * max(weights) // (owned * sum(weights))) if weights else 0
