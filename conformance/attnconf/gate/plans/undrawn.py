"""Undrawn: which required cells no drawn case of a profile is of, so that its run cannot meet them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.drawing.drawn import DrawnCases
from attnconf.cases.drawing.families import FAMILIES
from attnconf.cases.geometry import unsharded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.drawing.profiles import Profile
    from attnconf.policy.requirements import RequiredCell


def undrawn(
    cells: Iterable[RequiredCell], profile: Profile, *, seed: int = 0, accelerated: bool
) -> tuple[RequiredCell, ...]:
    """Return those of ``cells`` of which fewer layers are drawn than must be executed.

    The cases are those of ``profile`` and ``seed``, on a GPU if ``accelerated``. A profile that is not derandomised
    draws others every time, so nothing can be said of it: it leaves nothing undrawn.
    """
    wanted = tuple(cells)
    if not profile.derandomised:
        return ()
    drawn = DrawnCases(profile, seed, accelerated=accelerated)
    models = {cell.model for cell in wanted}
    counts: dict[tuple[str, str, str, str], int] = {}
    for family in FAMILIES:
        for model in (name for name in profile.targets(family) if name in models):
            for case in drawn.cases(family, model):
                same = case.q_dtype == case.kv_dtype
                dtypes = case.q_dtype if same else f"{case.q_dtype}+{case.kv_dtype}"
                for layer in case.layers:
                    for one in (dtypes, "any"):
                        key = (unsharded(case.model), layer.cell_kind, case.mode, one)
                        counts[key] = counts.get(key, 0) + 1
    return tuple(
        cell for cell in wanted if counts.get((cell.model, cell.layer_kind, cell.mode, cell.dtypes), 0) < cell.executed
    )
