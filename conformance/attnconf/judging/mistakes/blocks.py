"""Numbers of 4 bits and the scales of their blocks, taken for others (clause 18)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from attnconf.cases.dtypes import NVFP4
from attnconf.cases.inputs.poison import bits
from attnconf.cases.inputs.stored import joined_parts, parts_of
from attnconf.clauses import Clause
from attnconf.judging.mistakes.mistake import Mistake

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.judging.mistakes.mistake import Apply
    from attnconf.judging.mistakes.scene import Scene
    from attnconf.oracle.problem import Problem

_ONE = 0x38
"""The bits of 1 in e4m3."""


def _read(change: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]) -> Apply:
    """Read the bytes of pairs and the block scales' bits, [tokens, KV heads, width / 2 and / 16] uint8, as others."""

    def apply(scene: Scene) -> Problem | None:
        problem = scene.problem
        if scene.case.kv_dtype != NVFP4:
            return None
        k, v = (joined_parts(change(*(bits(part) for part in parts_of(rows)))) for rows in (problem.k, problem.v))
        alike = torch.equal(k, problem.k) and torch.equal(v, problem.v)
        return None if alike else replace(problem, k=k, v=v)

    return apply


def _scaled(change: Callable[[torch.Tensor], torch.Tensor]) -> Apply:
    return _read(lambda pairs, scales: (pairs, change(scales)))


def _two_blocks(scales: torch.Tensor) -> torch.Tensor:
    """Return the scales that blocks of 32 numbers would have: each stands for two blocks, so the last are not read."""
    return scales.repeat_interleave(2, dim=-1)[..., : scales.shape[-1]]


def _swapped(scene: Scene) -> Problem | None:
    """Read keys with the scales of values, and values with those of keys, where both have as many."""
    problem = scene.problem
    if scene.case.kv_dtype != NVFP4 or problem.k.shape != problem.v.shape:
        return None
    return _with_scales(problem, problem.v, problem.k)


def _with_scales(problem: Problem, k: torch.Tensor, v: torch.Tensor) -> Problem:
    """Return the question with the block scales of the rows ``k`` and ``v``."""
    k, v = (joined_parts((parts_of(own)[0], parts_of(others)[1])) for own, others in ((problem.k, k), (problem.v, v)))
    return replace(problem, k=k, v=v)


def _page_before(scene: Scene) -> Problem | None:
    """Take the block scales of each page but the first from the page before it."""
    if scene.case.kv_dtype != NVFP4 or len(scene.pages) < 2:  # noqa: PLR2004 - one page has none before it
        return None
    return _with_scales(scene.problem, *scene.keys_at([scene.pages[0], *scene.pages[:-1]]))


BLOCKS = (
    Mistake(
        "nibbles swapped",
        "kv_format",
        Clause.QUANTISED,
        "the two numbers of a byte change places: the first one is taken from the high bits",
        _read(lambda pairs, scales: (pairs << 4 | pairs >> 4, scales)),
    ),
    Mistake(
        "no sign of 4 bits",
        "kv_format",
        Clause.QUANTISED,
        "the sign bit of numbers of 4 bits is lost",
        _read(lambda pairs, scales: (pairs & 0x77, scales)),
    ),
    Mistake(
        "scale of the next block",
        "block_scales",
        Clause.QUANTISED,
        "each block has the scale of the one behind it",
        _scaled(lambda scales: scales.roll(-1, -1)),
    ),
    Mistake(
        "blocks of 32",
        "block_scales",
        Clause.QUANTISED,
        "a block scale is taken for 32 numbers, not for 16",
        _scaled(_two_blocks),
    ),
    Mistake(
        "block scales off",
        "block_scales",
        Clause.QUANTISED,
        "the scales of blocks are ignored",
        _scaled(lambda scales: torch.full_like(scales, _ONE)),
    ),
    Mistake(
        "block scales swapped",
        "block_scales",
        Clause.QUANTISED,
        "the block scales of keys and of values are swapped",
        _swapped,
    ),
    Mistake(
        "block scales of the next head",
        "block_scales",
        Clause.QUANTISED,
        "each KV head has the block scales of the one behind it",
        _scaled(lambda scales: scales.roll(-1, 1)),
        claimed=False,
    ),
    Mistake(
        "block scales of the next token",
        "block_scales",
        Clause.QUANTISED,
        "each token has the block scales of the one behind it",
        _scaled(lambda scales: scales.roll(-1, 0)),
        claimed=False,
    ),
    Mistake(
        "block scales of the page before",
        "block_scales",
        Clause.PAGING,
        "block scales are read from the page before that of their numbers",
        _page_before,
        claimed=False,
    ),
)
