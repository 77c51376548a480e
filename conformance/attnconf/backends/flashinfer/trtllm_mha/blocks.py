"""Scales of blocks of NVFP4 KV as trtllm-gen reads them: those of keys as they lie, those of values by four tokens.

In each tile [page_size, head_dim / 16] of a page and head, the scale s of token t of the values lies at place
``t // 4 * 4 * S + s * 4 + t % 4`` of it, S being their number (``nvfp4_quantize_paged_kv_cache``, 0.6.18.post1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnconf.backends.flashinfer.trtllm_mha.dispatch import SCALE_TOKENS

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import KVCache


def scale_pools(cache: KVCache) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the argument ``kv_cache_sf`` of a cache in layout HND, or None for one without scales of blocks.

    Those of values are copied at each call: a captured graph then copies what is in the pool when it is replayed.
    """
    if cache.k_block_scales is None or cache.v_block_scales is None:
        return None
    bits = cache.v_block_scales.view(torch.uint8)
    pages, heads, size, count = bits.shape
    tiles = bits.reshape(pages, heads, size // SCALE_TOKENS, SCALE_TOKENS, count).transpose(3, 4)
    return cache.k_block_scales, tiles.reshape(bits.shape).view(torch.float8_e4m3fn)


def gathered(pool: torch.Tensor, pages: torch.Tensor, slots: torch.Tensor, *, by_four: bool) -> torch.Tensor:
    """Return the block scales [tokens, num_kv_heads, S] of tokens at ``pages`` and ``slots`` [tokens] of a pool."""
    count = pool.shape[3]
    tiles = pool.view(torch.uint8).flatten(2)
    numbers = torch.arange(count, device=pool.device)
    first, step = (
        (slots // SCALE_TOKENS * SCALE_TOKENS * count + slots % SCALE_TOKENS, SCALE_TOKENS)
        if by_four
        else (slots * count, 1)
    )
    found = tiles[pages[:, None], :, first[:, None] + step * numbers]
    return found.transpose(1, 2).contiguous().view(torch.float8_e4m3fn)
