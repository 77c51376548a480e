"""The scales of blocks as the kernels are given them: pools of bits, with the strides of pages, slots and heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from attnconf.cases.inputs.batch import KVCache

_STRIDES = ("page", "slot", "head", "dim")


def block_arguments(stored: KVCache, order: tuple[int, ...], absent: torch.Tensor) -> dict[str, Any]:
    """Return the arguments about the block scales of ``stored``, whose pages, slots, heads and scales are in ``order``.

    Without any, the kernels read none, and are given ``absent`` in their place.
    """
    found: dict[str, Any] = {}
    for name, pool in (("k", stored.k_block_scales), ("v", stored.v_block_scales)):
        found[f"{name}_blocks"] = absent if pool is None else pool.view(torch.uint8)
        for what, dim in zip(_STRIDES, order, strict=True):
            found[f"{name}b_{what}"] = 0 if pool is None else pool.stride(dim)
    return found
