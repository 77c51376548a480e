"""Composing: the document of some receipts, as each platform's evidence judges itself and the others'."""

from __future__ import annotations

from itertools import groupby, zip_longest
from typing import TYPE_CHECKING

from attnconf.cases.models import credited_model
from attnconf.gate.cells import merge_cells
from attnconf.gate.evidence import providers_in
from attnconf.gate.plans.fleet_plan import planned_cells
from attnconf.judging.units import EDGES, unit_bin
from attnconf.report.bugs import bugs_of
from attnconf.report.changes import changes
from attnconf.report.document import Backend, Document, Site
from attnconf.report.gaps import Gap
from attnconf.report.matrix import arrange, count_reasons
from attnconf.report.policy_status import held_rules, policies_of, verdict_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnconf.gate.cells import Cell
    from attnconf.gate.plans.fleet_plan import FleetPlan
    from attnconf.gate.proof import Providers
    from attnconf.gate.receipt import Receipt
    from attnconf.policy.policy import Policy


def compose(
    receipts: Mapping[str, Receipt],
    policy: Policy | None = None,
    plan: FleetPlan | None = None,
    old: Sequence[Receipt] = (),
) -> Document:
    """Compose the document of ``receipts`` by the names of their files.

    They are judged by ``policy``, else by the ones that they name, if those are shipped and have not changed since.
    Jobs of ``plan`` owe the cells that it asks of them, and no others.
    They are compared with ``old`` receipts, if given.
    """
    begun = {name: receipt for name, receipt in receipts.items() if receipt.state == "begun"}
    finished = {name: receipt for name, receipt in receipts.items() if name not in begun}
    ordered = sorted(finished.items(), key=lambda item: (repr(item[1].platform), item[0]))
    groups = [dict(runs) for _, runs in groupby(ordered, key=lambda item: item[1].platform)]
    sites = [_site(runs, policy, [other for other in groups if other is not runs], plan) for runs in groups]
    compared = changes(list(finished.values()), old) if old else None
    unfinished = tuple(Gap(f"{name}: {receipt.ending}") for name, receipt in sorted(begun.items()))
    return Document(tuple(sorted(sites, key=lambda site: not site.is_wrong)), compared, unfinished)


def _site(
    runs: Mapping[str, Receipt],
    policy: Policy | None,
    others: Sequence[Mapping[str, Receipt]],
    plan: FleetPlan | None,
) -> Site:
    receipts = list(runs.values())
    cells = merge_cells((cell for receipt in receipts for cell in receipt.cells), ())
    failures = {failed.key: failed for receipt in receipts for failed in receipt.failures}
    told = {(failed.shown_backend, credited_model(failed.case), failed.case.mode) for failed in failures.values()}
    held = frozenset(rule for other in others for rule in held_rules(other, policy))
    where = f"{receipts[0].platform.machine}: " if others else ""
    seconds, providers = _seconds(receipts), providers_in(receipts)
    names = dict.fromkeys(cell.shown_backend for cell in cells)
    backends = [
        _backend(name, tuple(cell for cell in cells if cell.shown_backend == name), seconds, providers)
        for name in names
    ]
    return Site(
        platform=receipts[0].platform,
        runs=runs,
        matrix=arrange([cell for one in backends if not one.is_asleep for cell in one.cells]),
        listed=arrange((), dict.fromkeys(one for receipt in receipts for one in receipt.listed)),
        backends=tuple(sorted(backends, key=lambda one: (not one.broken, one.is_asleep, -one.executed, one.name))),
        policy_statuses=tuple(
            verdict_of(name, found, receipts[0].platform, cells, providers, held, planned_cells(plan, receipts), where)
            for name, found in policies_of(receipts, policy).items()
        ),
        bugs=bugs_of(failures[key] for key in sorted(failures)),
        unexplained=tuple(
            cell for cell in cells if cell.broken and (cell.shown_backend, cell.model, cell.mode) not in told
        ),
        where=where,
    )


def _seconds(receipts: Sequence[Receipt]) -> dict[str, float]:
    """Return what the cases of each backend took in all runs together."""
    found: dict[str, float] = {}
    for receipt in receipts:
        for name, seconds in receipt.backend_seconds.items():
            found[name] = found.get(name, 0.0) + seconds
    return found


def _backend(name: str, cells: tuple[Cell, ...], seconds: Mapping[str, float], providers: Providers) -> Backend:
    judged = [cell for cell in cells if cell.worst_units is not None]
    by_layer = all(cell.histogram for cell in judged)
    bins = [0] * (len(EDGES) + 1)
    for cell in judged:
        if by_layer:
            bins = [a + b for a, b in zip_longest(bins, cell.histogram, fillvalue=0)]
        else:
            bins[unit_bin(cell.worst_units or 0.0)] += 1
    return Backend(
        name=name,
        cells=cells,
        executed=sum(cell.executed for cell in cells),
        contract=sum(cell.contract_only for cell in cells),
        broken=sum(cell.broken for cell in cells),
        bins=tuple(bins),
        counted="layers" if by_layer else "cells",
        worst=max((cell.worst_units for cell in judged if cell.worst_units is not None), default=None),
        reasons=tuple(count_reasons(cells)),
        seconds=seconds.get(cells[0].backend),
        providers=tuple(one.text for one in providers.get(cells[0].backend, ())),
    )
