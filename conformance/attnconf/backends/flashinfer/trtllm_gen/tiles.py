"""Tiles: FlashInfer's estimate of which query tile is fastest for several query tokens a request.

``selectTileSizeQForGqaGeneration`` of fmhaKernels.cuh. It loads the kernel of every tile that it compares, so that a
launch fails for one kernel that is missing, even where it would run another.
"""

from __future__ import annotations

from ctypes import c_float
from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.trtllm_gen.launch import lay_out
from attnconf.backends.flashinfer.trtllm_gen.traits import KernelType

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.flashinfer.trtllm_gen.launch import Selection
    from attnconf.backends.flashinfer.trtllm_gen.question import Question
    from attnconf.backends.flashinfer.trtllm_gen.row import Row

LEAST_TILE = 8
_KEEPS_FROM = 64
_MAIN = {128: 2.2, 64: 1.68, 32: 1.48, 16: 1.2, 8: 1.0}
_REDUCTION = {128: 1.32, 64: 1.2, 32: 1.08, 16: 1.03, 8: 1.0}
_REDUCTION_KEYS = 128.0


def type_of(tile: int) -> KernelType:
    """Return the type of the kernels with this query tile."""
    return KernelType.KEEPS if tile >= _KEEPS_FROM else KernelType.SWAPS


def fastest_tile(
    question: Question,
    selection: Selection,
    find: Callable[[Selection], Row],
    sync: Callable[[Selection], None],
) -> int:
    """Return the query tile that FlashInfer estimates to be fastest; ``selection`` stays as it is.

    ``find`` returns the kernel of a selection, ``sync`` fits the other traits to its type. Raises what these raise.
    """
    trial = replace(selection)
    grid = lay_out(question, find(trial), trial)
    if grid.ctas * 2 > question.multiprocessors or trial.tile_q <= LEAST_TILE:
        return selection.tile_q
    best, least = selection.tile_q, float("inf")
    for tile in _MAIN:
        if tile > selection.tile_q or tile < question.group_size:
            continue
        trial.tile_q, trial.kernel_type = tile, type_of(tile)
        sync(trial)
        row = find(trial)
        grid = lay_out(question, row, trial)
        keys = _ceil(_ceil(question.max_kv_len, row.step_kv), grid.splits) * row.step_kv
        waves = _ceil(grid.ctas, question.multiprocessors)
        cost = _single(_cost(tile, keys, grid.splits) * waves)
        if cost < least:
            best, least = tile, cost
    return best


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _cost(tile: int, keys: int, splits: int) -> float:
    """Return the cost of a wave in single precision, in which FlashInfer compares: a tie there must be one here."""
    main = _single(_single(_MAIN[tile]) * keys)
    reduction = _single(_single(_single(_REDUCTION[tile]) * _REDUCTION_KEYS) * splits)
    return _single(main + reduction)


def _single(value: float) -> float:
    return c_float(value).value
