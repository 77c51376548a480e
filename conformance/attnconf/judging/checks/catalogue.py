"""All checks, and which of them a case gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attnconf.judging.checks import (
    consistency,
    dead_slots,
    empty_rows,
    fallback,
    graphs,
    independence,
    labels,
    numerics,
    read_only,
    workspace,
)
from attnconf.judging.checks import determinism as repetition

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.case import Case
    from attnconf.judging.checks.check import Check

CHECKS: tuple[Check, ...] = (
    numerics.CHECK,
    read_only.OUTPUTS,
    read_only.INPUTS,
    fallback.CHECK,
    empty_rows.CHECK,
    dead_slots.DEAD_SLOTS,
    dead_slots.RECLAIMED,
    independence.CHECK,
    labels.RELABELLED,
    labels.LAYOUT,
    repetition.REPEATED,
    workspace.CHECK,
    consistency.CHECK,
    repetition.HOST_HINTS,
    graphs.CHECK,
)

ROTATED = 3
"""How many of the checks that run the backend again a case gets in a campaign."""


def all_checks(case: Case) -> tuple[Check, ...]:
    """Return every check."""
    del case
    return CHECKS


def rotated_checks(case: Case) -> tuple[Check, ...]:
    """Return the checks of the base run and some of the others, chosen by the case's id: the same at every replay.

    The graph check needs a GPU, and the workspace check a backend that has one: each comes on top of the others, so
    that it takes nobody's turn where it does not apply, and as often as one of them.
    """
    on_top = (graphs.CHECK, workspace.CHECK)
    extra = [check for check in CHECKS if check.extra and check not in on_top]
    start = int(case.id, 16)
    chosen = {extra[(start + 5 * step) % len(extra)].name for step in range(ROTATED)}
    chosen |= {check.name for turn, check in enumerate(on_top) if start % ROTATED == turn}
    return tuple(check for check in CHECKS if not check.extra or check.name in chosen)


Choice = Literal["rotated", "all"]

CHOICES: dict[Choice, Callable[[Case], tuple[Check, ...]]] = {"rotated": rotated_checks, "all": all_checks}
"""How the checks of a case are chosen, by a name that another process is told."""
