"""Block sizes, warps and splits. They depend on a layer's shape only, so that a batch cannot change a bit."""

from __future__ import annotations

from dataclasses import dataclass, replace

MAX_SPLIT_TOKENS = 8
"""Largest number of query tokens of a request (decode, verify) whose keys are split."""

MAX_BLOCK = 128 * 256
"""The largest accumulator of a block, in elements, with both sides padded to powers of two: on SM 9.0, shared memory
and registers do not suffice for more."""


@dataclass(frozen=True)
class LayerSizes:
    """The sizes that decide the tuning of a layer. ``itemsize`` is the bytes of an element of q, for shared memory.

    ``value_dim`` is the width of values, 0 for that of keys.
    """

    group: int
    head_dim: int
    num_kv_heads: int
    itemsize: int
    value_dim: int = 0

    @property
    def widest(self) -> int:
        """The numbers of a key or of a value, whichever has more, padded."""
        return padded(max(self.head_dim, self.value_dim))


@dataclass(frozen=True)
class Tuning:
    """The tuning of one layer: rows and keys of a block, splits, and the compiler's options.

    A request's keys are split into at most ``max_splits`` ranges of at least ``min_split`` keys.
    """

    block_m: int
    block_n: int
    max_splits: int
    min_split: int
    num_warps: int
    num_stages: int


_EXTENDS = {
    128: (Tuning(128, 64, 1, 1, num_warps=8, num_stages=3), Tuning(64, 64, 1, 1, num_warps=4, num_stages=2)),
    256: (
        Tuning(128, 64, 1, 1, num_warps=8, num_stages=2),
        Tuning(64, 64, 1, 1, num_warps=8, num_stages=2),
        Tuning(64, 32, 1, 1, num_warps=4, num_stages=2),
    ),
    512: (Tuning(64, 32, 1, 1, num_warps=8, num_stages=2), Tuning(64, 16, 1, 1, num_warps=8, num_stages=1)),
}
"""Blocks of 16-bit extends by the width of keys, the fastest first: the first one that fits shared memory is taken."""


def power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least ``n``, for ``n`` of 1 or more."""
    return 1 << (n - 1).bit_length()


def padded(n: int) -> int:
    """Return the side of a block for ``n`` elements: a power of two of at least 16, for tensor cores."""
    return max(16, power_of_two(n))


def _interpreted_keys(block_d: int) -> int:
    """Return the keys of an interpreted tile: many, since every operation costs 20 microseconds, but not too many.

    numpy also computes the lanes behind the end.
    """
    return 256 if block_d <= 128 else 128  # noqa: PLR2004 - measured


def split_tuning(sizes: LayerSizes, tokens: int, *, interpreted: bool) -> Tuning:
    """Return the tuning for requests of at most ``tokens`` query tokens: rows are few, so the keys are split.

    A block takes all tokens of a request where 64 rows suffice, so that each key is read once.
    """
    block_d = sizes.widest
    registers = sizes.itemsize == 4 and not interpreted  # noqa: PLR2004 - float32: no tensor cores, operands sit there
    rows = max(power_of_two(sizes.group), min(16 if registers else 64, power_of_two(sizes.group * tokens)))
    block_m = padded(rows)
    if interpreted:
        # Without tensor cores 16 rows are not needed. Products of few rows stay below OpenBLAS's threshold for threads,
        # which cost several times the work on two busy cores.
        return Tuning(rows, _interpreted_keys(block_d), max_splits=8, min_split=768, num_warps=4, num_stages=1)
    bytes_a_key = block_d * sizes.itemsize
    block_n = next(keys for limit, keys in ((128, 128), (512, 64), (1024, 32), (2048, 16)) if bytes_a_key <= limit)
    # 128 programs for one request fill the 132 SMs of a Hopper GPU.
    splits = min(64, max(8, power_of_two(max(1, 128 // sizes.num_kv_heads))))
    warps = 4 if block_m <= 32 else 8  # noqa: PLR2004 - two warp groups once there are rows for them
    if registers:
        return Tuning(block_m, min(block_n, 32), splits, 256, num_warps=8, num_stages=1)
    return Tuning(block_m, block_n, splits, 256, num_warps=warps, num_stages=2)


def extend_tuning(sizes: LayerSizes, *, shared_memory: int, interpreted: bool) -> Tuning:
    """Return the tuning for requests of many query tokens: large blocks of rows, each over all of its keys.

    ``shared_memory`` is what a block may have on the GPU, in bytes. 128 rows of 256 numbers are 1.6 times as fast as 64
    on SM 9.0, which has 227 KB. float32 with more than 16 query heads per KV head spills registers: it is right but
    slow.
    """
    rows, block_d = padded(sizes.group), sizes.widest
    if interpreted:
        return Tuning(max(64, rows), _interpreted_keys(block_d), 1, 1, num_warps=8, num_stages=1)
    if sizes.itemsize == 4:  # noqa: PLR2004 - float32: no tensor cores, the operands sit in registers
        block_m, block_n = (32, 32) if block_d <= 128 else (16, 32 if block_d == 256 else 16)  # noqa: PLR2004
        return Tuning(max(block_m, rows), block_n, 1, 1, num_warps=8, num_stages=1)
    wanted = _EXTENDS[min(max(block_d, 128), 512)]
    blocks = [replace(one, block_m=max(one.block_m, rows)) for one in wanted]
    fitting = (one for one in blocks if _operand_bytes(one, block_d, sizes.itemsize) <= shared_memory)
    return next(fitting, blocks[-1])


def _operand_bytes(tuning: Tuning, block_d: int, itemsize: int) -> int:
    """Return the bytes of the rows of a block and of the keys and values of all stages."""
    return (tuning.block_m + 2 * tuning.num_stages * tuning.block_n) * block_d * itemsize


def merge_warps(accumulator: int) -> int:
    """Return the number of warps with at most 64 elements of a merge's ``accumulator`` per thread."""
    return max(4, min(16, accumulator // (32 * 64)))
