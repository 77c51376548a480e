"""Block sizes, warps and splits: constants of a layer's shape, so that no bit of an answer depends on a batch."""

from __future__ import annotations

from dataclasses import dataclass

MAX_SPLIT_TOKENS = 8
"""Requests with at most so many query tokens (decode, verify) are split over their keys; longer ones are not."""

MAX_GROUP = 128
"""The largest number of query heads of a KV head: they share a block of rows."""

MAX_HEAD_DIM = 512


@dataclass(frozen=True)
class Tuning:
    """How one layer is cut: rows and keys of a block, padded head_dim, splits, and the compiler's knobs.

    A request's keys are cut into at most ``max_splits`` ranges of at least ``min_split`` keys.
    """

    block_m: int
    block_n: int
    block_d: int
    max_splits: int
    min_split: int
    num_warps: int
    num_stages: int


def power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least ``n``, for ``n`` of 1 or more."""
    return 1 << (n - 1).bit_length()


def _interpreted_keys(block_d: int) -> int:
    """Return the keys of an interpreted tile: large ones, because each operation costs 20 microseconds whatever its size.

    Not larger, because numpy loads the lanes behind the end too, and shares products above 2**18 multiplications among
    threads, which on two busy cores takes ten times as long.
    """
    return 256 if block_d <= 128 else 128  # noqa: PLR2004 - measured


def split_tuning(*, group: int, head_dim: int, num_kv_heads: int, itemsize: int, interpreted: bool) -> Tuning:
    """Return the cut for requests of few query tokens: rows are few, so the keys are split to fill the machine.

    ``itemsize`` is that of q, in bytes: what a tile takes in shared memory.
    """
    block_m, block_d = max(16, power_of_two(group)), max(16, power_of_two(head_dim))
    if interpreted:
        return Tuning(power_of_two(group), _interpreted_keys(block_d), block_d, max_splits=8, min_split=512, num_warps=4, num_stages=1)
    row = block_d * itemsize
    block_n = 128 if row <= 128 else 64 if row <= 512 else 32 if row <= 1024 else 16  # noqa: PLR2004 - a table
    # 128 programs for one request fill the 132 SMs of a Hopper GPU.
    splits = min(64, max(8, power_of_two(max(1, 128 // num_kv_heads))))
    return Tuning(block_m, block_n, block_d, splits, 256, num_warps=4 if block_m <= 32 else 8, num_stages=2)  # noqa: PLR2004


def extend_tuning(*, group: int, head_dim: int, itemsize: int, interpreted: bool) -> Tuning:
    """Return the cut for requests of many query tokens: large blocks of rows, each over all of its keys."""
    rows, block_d = max(16, power_of_two(group)), max(16, power_of_two(head_dim))
    if interpreted:
        return Tuning(rows, _interpreted_keys(block_d), block_d, max_splits=1, min_split=1, num_warps=4, num_stages=1)
    if itemsize == 4:  # noqa: PLR2004 - float32: no tensor cores, so the accumulator and both operands sit in registers
        return Tuning(max(16 if block_d > 128 else 32, rows), 32 if block_d <= 256 else 16, block_d, 1, 1, 8, 1)  # noqa: PLR2004
    if block_d <= 128:  # noqa: PLR2004
        return Tuning(max(128, rows), 64, block_d, 1, 1, num_warps=8, num_stages=3)
    return Tuning(max(64, rows), 64 if block_d == 256 else 32, block_d, 1, 1, num_warps=8, num_stages=2)  # noqa: PLR2004
