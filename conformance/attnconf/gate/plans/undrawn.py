"""Undrawn: which required cells no drawn case of a profile is of, so that its run cannot meet them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from attnconf.cases.drawing.drawn import DrawnCases
from attnconf.cases.drawing.families import FAMILIES
from attnconf.cases.geometry import unsharded
from attnconf.cases.sight import follows_spans, follows_tree, sees_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.drawing.profiles import Profile
    from attnconf.policy.requirements import RequiredCell


def undrawn(
    cells: Iterable[RequiredCell], profile: Profile, *, seed: int = 0, accelerated: bool
) -> tuple[RequiredCell, ...]:
    """Return those of ``cells`` of which fewer layers are drawn than must be executed, or show too little.

    Spans, trees and bidirectional rows count where a cell requires them.

    The cases are those of ``profile`` and ``seed``, on a GPU if ``accelerated``. A profile that is not derandomised
    draws others every time, so nothing can be said of it: it leaves nothing undrawn.
    """
    wanted = tuple(cells)
    if not profile.derandomised:
        return ()
    drawn = DrawnCases(profile, seed, accelerated=accelerated)
    models = {cell.model for cell in wanted}
    counts: Counter[tuple[str, str, str, str]] = Counter()
    spans: Counter[tuple[str, str, str, str]] = Counter()
    trees: Counter[tuple[str, str, str, str]] = Counter()
    ahead: Counter[tuple[str, str, str, str]] = Counter()
    for family in FAMILIES:
        for model in (name for name in profile.targets(family) if name in models):
            for case in drawn.cases(family, model):
                for layer in case.layers:
                    for one in (case.dtypes.text, "any"):
                        key = (unsharded(case.model), layer.cell_kind, case.mode, one)
                        counts[key] += 1
                        spans[key] += follows_spans(layer, case.requests)
                        trees[key] += follows_tree(case.requests)
                        ahead[key] += sees_ahead(layer, case.requests)

    def is_short(cell: RequiredCell) -> bool:
        key = (cell.model, cell.layer_kind, cell.mode, cell.dtypes)
        kinds = {"spans": spans, "tree": trees, "bidirectional": ahead}
        shown = [found[key] for name, found in kinds.items() if name in cell.effective]
        return counts[key] < cell.executed or any(count < cell.effective_cases for count in shown)

    return tuple(cell for cell in wanted if is_short(cell))
