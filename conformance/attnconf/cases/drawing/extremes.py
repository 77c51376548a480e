"""Extremes: cases in which one dimension is far larger than all others, and the features that each of them meets.

Kernels have tiles, grids, splits and integer widths that no case of a few small requests crosses. One at a time, and
over a narrow layer, an extreme costs little. A ladder has both sides of each power of two, up to where it is cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import Mode
    from attnconf.cases.drawing.choices import Choices

Extreme = Literal["none", "requests", "rows", "keys", "far keys", "heads", "layers", "page ids", "page size", "scores"]
EXTREMES: tuple[Extreme, ...] = get_args(Extreme)[1:]

Feature = Literal["window", "sinks", "cap", "fp8", "redirected", "hybrid"]
FEATURES: tuple[Feature, ...] = get_args(Feature)
"""What an extreme is paired with."""


def sides(*rungs: int) -> tuple[int, ...]:
    """Return each of ``rungs`` with its neighbours, in order."""
    return tuple(sorted({rung + step for rung in rungs for step in (-1, 0, 1)}))


MANY_REQUESTS = sides(16, 32, 64, 128)
MANY_ROWS = (*sides(64, 128, 256), 300, *sides(512))
"""New tokens of one request: past two tiles of query rows of each kernel."""

MANY_KEYS = (600, *sides(1024, 2048, 4096, 8192), 20_000)
FAR_KEYS = (*sides(2**15, 2**16), 70_000)
MANY_KV_HEADS = sides(8, 16, 32, 64)
MANY_LAYERS = sides(8, 16)
LARGE_PAGES = (48, 96, 160, 192, 256, 512, 544, 784)
"""Page sizes beyond those that are served, some of them no power of two, as of engines with hybrid state."""

FAINT = (0.001, 0.001, 0.01)
"""Values of sm_scale for products of q and k beyond float16, or near its end, under scores as everywhere else."""

_ONE_IN = 4
"""One case in four is extreme, besides those of the deck."""

_BUILT: tuple[Extreme, ...] = ("requests", "rows", "keys", "far keys", "scores")
"""Extremes that need no build of their own."""


@dataclass(frozen=True)
class Card:
    """An extreme, and the feature that it must meet in one case; the rest of the case is drawn.

    Its rung is of one ``part`` of the extreme's ladder, of as many as there are features: so each part is met, and the
    last rung alone is one.
    """

    extreme: Extreme
    feature: Feature
    part: int


def extremes(*, built: bool, far: bool) -> tuple[Extreme, ...]:
    """Return the extremes; where kernel shapes are ``built`` from a list, those that need no build."""
    return tuple(extreme for extreme in (_BUILT if built else EXTREMES) if far or extreme != "far keys")


def deck(count: int, turn: int, *, built: bool, far: bool) -> tuple[Card, ...]:
    """Return ``count`` cards of all pairs of an extreme and a feature, each extreme in turn; ``turn`` varies the pairs.

    ``built`` and ``far`` are those of ``extremes``.
    """
    cards = (
        Card(extreme, FEATURES[(place + round_ + turn) % len(FEATURES)], (round_ + turn) % len(FEATURES))
        for round_ in range(len(FEATURES))
        for place, extreme in enumerate(extremes(built=built, far=far))
    )
    return tuple(islice(cards, count))


_NEAR: dict[Extreme, int] = {"requests": 65, "rows": 257, "heads": 33, "layers": 9}
"""Where a ladder ends for a profile that has no time for its last rungs."""


def ladder(extreme: Extreme, rungs: Sequence[int], *, far: bool, part: int | None = None) -> tuple[int, ...]:
    """Return the ``rungs`` of an extreme, all if ``far``, else those that cost little; or a ``part`` of these."""
    found = tuple(rung for rung in rungs if far or rung <= _NEAR.get(extreme, rung))
    if part is None:
        return found
    others = len(FEATURES) - 1
    if part == others:
        return found[-1:]
    start, end = (place * (len(found) - 1) // others for place in (part, part + 1))
    return found[start : max(end, start + 1)]


def draw_extreme(choices: Choices, mode: Mode, *, built: bool, far: bool) -> Extreme:
    """Draw which dimension is extreme, if any is, among ``extremes``."""
    large = [extreme for extreme in extremes(built=built, far=far) if has_rows(mode) or extreme != "rows"]
    usual: list[Extreme] = ["none"] * ((_ONE_IN - 1) * len(large))
    return choices.pick("extreme", usual + large)


def has_rows(mode: Mode) -> bool:
    """Return whether a request of ``mode`` may bring any number of new tokens."""
    return mode in {"extend", "mixed"}


def modes_of(card: Card, modes: Sequence[Mode]) -> tuple[Mode, ...]:
    """Return those of ``modes`` in which a case can have the card's extreme; all of them if it can in none."""
    fitting = tuple(mode for mode in modes if card.extreme != "rows" or has_rows(mode))
    return fitting or tuple(modes)
