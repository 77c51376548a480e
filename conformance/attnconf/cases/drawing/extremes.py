"""Extremes: cases in which one dimension is far larger than all others.

Kernels have tiles, grids, splits and integer widths that no case of a few small requests crosses. One at a time, and
over a narrow layer, an extreme costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from attnconf.cases.case import Mode
    from attnconf.cases.drawing.choices import Choices

Extreme = Literal["none", "requests", "rows", "keys", "heads", "layers", "page ids"]

MANY_REQUESTS = (17, 65)
MANY_ROWS = (130, 200)
"""New tokens of one request: past each tile of query rows that kernels use."""

MANY_KEYS = (5_000, 33_000)
MANY_KV_HEADS = (9, 33)
MANY_LAYERS = (6, 8)
_ONE_IN = 3
"""One case in three is extreme."""


def draw_extreme(choices: Choices, mode: Mode, *, built: bool) -> Extreme:
    """Draw which dimension is extreme; where kernel shapes are ``built`` from a list, only one that needs no build."""
    large: list[Extreme] = ["requests", "keys"] if built else ["requests", "keys", "heads", "layers", "page ids"]
    if mode in {"extend", "mixed"}:
        large.append("rows")
    usual: list[Extreme] = ["none"] * ((_ONE_IN - 1) * len(large))
    return choices.pick("extreme", usual + large)
