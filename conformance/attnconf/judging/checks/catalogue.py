"""All checks, and the selection of checks for a case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attnconf.judging.checks import (
    consistency,
    corrupted,
    dead_slots,
    determinism,
    empty_rows,
    graphs,
    independence,
    labels,
    numerics,
    read_only,
    refusal,
    siblings,
)
from attnconf.judging.checks.check import in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.case import Case
    from attnconf.judging.checks.check import Check

CHECKS: tuple[Check, ...] = (
    read_only.OUTPUTS,
    numerics.CHECK,
    read_only.INPUTS,
    refusal.FALLBACK,
    empty_rows.CHECK,
    dead_slots.DEAD_SLOTS,
    dead_slots.RECLAIMED,
    independence.CHECK,
    labels.RELABELLED,
    labels.LAYOUT,
    determinism.REPEATED,
    determinism.WORKSPACE,
    siblings.SIBLINGS,
    siblings.OVERWRITTEN,
    consistency.CHECK,
    determinism.HOST_HINTS,
    graphs.CHECK,
    corrupted.CHECK,
)

ROTATED = 4
"""Extra checks per case in a campaign: checks that run the backend again."""

_STRIDE = 5
"""Distance between the checks of one case in the list: neighbours are of one kind."""

CheckSelection = Literal["rotated", "all", "base"]


def all_checks(_case: Case) -> tuple[Check, ...]:
    """Return every check."""
    return CHECKS


def rotated_checks(case: Case) -> tuple[Check, ...]:
    """Return all checks of the base run, and extra ones chosen by the case's id, so that a replay gets the same.

    Checks that are ``on_top`` are added to the rotation, each as often as one of the others, and those that rarely bite
    wherever they do.
    """
    rare = [check for check in CHECKS if check.bites is not in_turn]
    extra = [check for check in CHECKS if check.extra and not check.on_top and check not in rare]
    on_top = [check for check in reversed(CHECKS) if check.on_top]  # the last one first, so that no case is asked anew
    start = int(case.id, 16)
    chosen = {extra[(start + _STRIDE * step) % len(extra)].name for step in range(ROTATED)}
    chosen |= {check.name for turn, check in enumerate(on_top) if start % ROTATED == turn}
    chosen |= {check.name for check in rare if check.bites(case)}
    return tuple(check for check in CHECKS if not check.extra or check.name in chosen)


def base_checks(_case: Case) -> tuple[Check, ...]:
    """Return the checks that inspect the base run alone: for thousands of batches."""
    return tuple(check for check in CHECKS if not check.extra)


SELECTIONS: dict[CheckSelection, Callable[[Case], tuple[Check, ...]]] = {
    "rotated": rotated_checks,
    "all": all_checks,
    "base": base_checks,
}
"""The selections by name; another process gets the name."""
