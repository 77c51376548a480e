"""Planned: which required cells the runs of a plan answer for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.fleet_plan import FleetPlan
    from attnconf.receipt import Receipt
    from attnconf.requirements import RequiredCell


def planned_cells(plan: FleetPlan | None, receipts: Iterable[Receipt]) -> tuple[RequiredCell, ...] | None:
    """Return what ``plan`` asks of the jobs that wrote ``receipts``.

    None, which is all that the policy requires, without a plan or where a receipt is of none of its jobs.
    """
    if plan is None:
        return None
    cells: list[RequiredCell] = []
    for receipt in receipts:
        if receipt.plan != plan.identity or receipt.job is None or plan.runner_of(receipt.job) is None:
            return None
        cells += plan.job_named(receipt.job).cells
    return tuple(cells)
