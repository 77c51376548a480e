"""Effective coverage that a run owes without any policy: what each family is about must have mattered in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.precision import EFFECTIVE_UNITS
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.drawing.families import Family
    from attnconf.cases.features import Feature
    from attnconf.cases.geometry import CellKind
    from attnconf.gate.cells import Cell

_SLIDING: tuple[CellKind, ...] = ("sliding", "sliding-shared")
_CHUNKED: tuple[CellKind, ...] = ("chunked", "chunked-shared")
_SHARED: tuple[CellKind, ...] = ("sliding-shared", "full-shared", "chunked-shared")
_ALL: tuple[CellKind, ...] = ("sliding", "full", "chunked", "sliding-shared", "full-shared", "chunked-shared")

_OF_KIND: dict[Feature, tuple[CellKind, ...]] = {"window": _SLIDING, "chunk": _CHUNKED, "shared_kv": _SHARED}
"""Every family asks layers past their window or chunk, and redirected ones with a decoy of their own."""

_OF_FAMILY: dict[Family, dict[Feature, tuple[CellKind, ...]]] = {
    "decode": {"paging": _ALL},
    "extend": {"causal": _ALL, "prefix": _ALL},
    "mixed": {"causal": _ALL},
    "verify": {"causal": _ALL},
    "windows": {},
    "shared_kv": {},
    "hybrid_pools": {"hybrid": _SLIDING},
    "free": {"paging": _ALL},
}


def required_features(family: Family) -> dict[Feature, tuple[CellKind, ...]]:
    """Return the features that must matter in some judged layer of ``family``, each with the kinds of layers."""
    return _OF_KIND | _OF_FAMILY[family]


def unseen_features(family: Family, cells: Iterable[Cell]) -> list[str]:
    """Say of each backend of ``cells``, which are those of ``family``, which required feature never mattered on it.

    A backend that judged no layer of a feature's kinds owes nothing for it: it declared them unsupported, or did not
    run, and is reported as that. One that breaks such a layer owes nothing either: its cases were cut short by the
    failure, and what failed did matter.
    """
    kept = list(cells)
    sentences = []
    for backend in sorted({cell.shown_backend for cell in kept}):
        for feature, kinds in required_features(family).items():
            own = [cell for cell in kept if cell.shown_backend == backend and cell.layer_kind in kinds]
            executed = sum(cell.executed for cell in own)
            is_broken = any(cell.broken for cell in own)
            if executed and not is_broken and not sum(cell.effect_of(feature) for cell in own):
                judged = f"{backend} judged {counted(executed, 'layer')} in the tests of {family}"
                sentences.append(
                    f"{judged}, but none in which {feature} mattered by {EFFECTIVE_UNITS:.0f} units:"
                    " a mistake there would have passed"
                )
    return sentences
