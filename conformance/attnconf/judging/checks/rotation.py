"""Rotation: which checks a case of a campaign gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.judging.checks.check import in_turn
from attnconf.judging.checks.outlines import OUTLINES

if TYPE_CHECKING:
    from attnconf.cases.case import Case
    from attnconf.judging.checks.check import Outline

ROTATED = 4
"""Extra checks per case in a campaign: checks that run the backend again."""

_STRIDE = 5
"""Distance between the checks of one case in the list: neighbours are of one kind."""


def rotated(case: Case) -> tuple[Outline, ...]:
    """Return all checks of the base run, and extra ones chosen by the case's id, so that a replay gets the same.

    Checks that are ``on_top`` are added to the rotation, each as often as one of the others, and those that rarely bite
    wherever they do.
    """
    rare = [check for check in OUTLINES if check.bites is not in_turn]
    extra = [check for check in OUTLINES if check.extra and not check.on_top and check not in rare]
    on_top = [check for check in reversed(OUTLINES) if check.on_top]  # the last first, so that no case is asked anew
    start = int(case.id, 16)
    chosen = {extra[(start + _STRIDE * step) % len(extra)].name for step in range(ROTATED)}
    chosen |= {check.name for turn, check in enumerate(on_top) if start % ROTATED == turn}
    chosen |= {check.name for check in rare if check.bites(case)}
    return tuple(check for check in OUTLINES if not check.extra or check.name in chosen)


def every(_case: Case) -> tuple[Outline, ...]:
    """Return every check."""
    return OUTLINES
