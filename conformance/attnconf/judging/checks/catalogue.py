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
from attnconf.judging.checks.rotation import rotated

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

CheckSelection = Literal["rotated", "all", "base"]


_BY_NAME = {check.name: check for check in CHECKS}


def all_checks(_case: Case) -> tuple[Check, ...]:
    """Return every check."""
    return CHECKS


def rotated_checks(case: Case) -> tuple[Check, ...]:
    """Return the checks of ``rotation.rotated``."""
    return tuple(_BY_NAME[one.name] for one in rotated(case))


def base_checks(_case: Case) -> tuple[Check, ...]:
    """Return the checks that inspect the base run alone: for thousands of batches."""
    return tuple(check for check in CHECKS if not check.extra)


SELECTIONS: dict[CheckSelection, Callable[[Case], tuple[Check, ...]]] = {
    "rotated": rotated_checks,
    "all": all_checks,
    "base": base_checks,
}
"""The selections by name; another process gets the name."""
