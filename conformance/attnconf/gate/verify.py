"""Verify: whether receipts prove what a plan asks. Only what is named counts; everything else is a finding.

A receipt counts when its run has finished, nothing in it contradicts the rest, and it is sealed, of the planned commit,
policy, plan, versions and machine, and the only one of its job. What it says of each cell is then judged as the run
itself was, by ``attnconf.gate.verdict``.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from attnconf.cases.geometry import unsharded
from attnconf.gate.cells import merge_cells
from attnconf.gate.evidence import providers_in
from attnconf.gate.invariants import cell_contradictions, contradictions
from attnconf.gate.plans.fleet import differences
from attnconf.gate.plans.fleet_plan import required_on
from attnconf.gate.provider import provider_fault
from attnconf.gate.receipt import recorded_platform
from attnconf.gate.verdict import narrowed, reach_verdict
from attnconf.policy.resolution import resolve_all
from attnconf.version import __version__
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from attnconf.gate.cells import Cell
    from attnconf.gate.plans.fleet import Runner
    from attnconf.gate.plans.fleet_plan import FleetPlan, Job
    from attnconf.gate.provider import Provider
    from attnconf.gate.receipt import Receipt
    from attnconf.policy.policy import Policy
    from attnconf.policy.requirements import RequiredCell

FindingKind = Literal[
    "plan", "unreadable", "tampered", "unsealed", "unsigned", "simulated", "foreign", "stale", "unplanned",
    "duplicate", "provider", "missing", "not executed", "not proven", "broken", "contradictory", "red",
    "claim",
]  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One reason why the gate stays shut, in one sentence."""

    kind: FindingKind
    sentence: str


@dataclass(frozen=True)
class Verified:
    """The findings, none when everything planned is proven; ``notes`` are what fails nothing and must be seen."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    cells: int = 0


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is let pass. ``unsealed`` are names of receipts that need no digest and no plan: files of an older attnconf.

    ``rehearsal`` lets simulated receipts stand for real ones; who asks for it must not call the result a pass.
    """

    unsealed: frozenset[str] = frozenset()
    rehearsal: bool = False
    today: dt.date | None = None


def verify_plan(plan: FleetPlan, expected: FleetPlan) -> tuple[Finding, ...]:
    """Hold a plan against the one that the policy and the plan's own fleet give now, for the commit to be merged."""
    sentences = [*(f"the plan fails by itself: {sentence}" for sentence in plan.nowhere)]
    if plan.attnconf != expected.attnconf:
        sentences.append(f"the plan was made by attnconf {plan.attnconf}, and this is {expected.attnconf}")
    if plan.git_sha is None or plan.git_sha.endswith("-dirty"):
        sentences.append(f"the plan is of no commit, but of {plan.git_sha or 'no repository'}")
    elif plan.git_sha != expected.git_sha:
        sentences.append(f"the plan is of commit {plan.git_sha}, and what is to be merged is {expected.git_sha}")
    if plan.policy != expected.policy:
        sentences.append(f"the plan is of another policy than {expected.policy.name} as it is now")
    if plan.base != expected.base:
        given = expected.base or "none"
        sentences.append(f"the plan covers only what changed since {plan.base}, and --diff names {given}")
    if not sentences and plan.identity != expected.identity:
        sentences.append("the plan is not what attnconf plan makes of its policy and fleet")
    return tuple(Finding("plan", sentence) for sentence in sentences)


def verify(policy: Policy, plan: FleetPlan, receipts: Mapping[str, Receipt], terms: Terms) -> Verified:
    """Hold ``receipts``, by the names of their files, against the ``plan``, which itself is taken as it is."""
    findings: list[Finding] = []
    by_job: dict[str, dict[str, tuple[str, Receipt]]] = {}
    for name, receipt in receipts.items():
        findings += [Finding("contradictory", f"{name}: {text}") for text in contradictions(receipt)]
        if receipt.state == "begun":
            findings.append(Finding("red", f"{name}: {receipt.ending}"))
            continue
        job = _job_of(plan, receipt) if name in terms.unsealed else receipt.job
        faults = [Finding(kind, f"{name}: {text}") for kind, text in _faults(plan, receipt, job, name, terms)]
        findings += faults
        if not faults:
            findings += [Finding("provider", f"{name}: {text}") for text in _provider_faults(plan, receipt, job)]
        if receipt.ending:
            findings.append(Finding("red", f"{name}: {receipt.ending}"))
        if not faults and job is not None:
            by_job.setdefault(job, {}).setdefault(receipt.identity, (name, receipt))
    for job, found in by_job.items():
        if len(found) > 1:
            names = " and ".join(name for name, _ in found.values())
            sentence = f"job {job} has {len(found)} receipts that differ, {names}: its cells are claimed twice"
            findings.append(Finding("duplicate", sentence))
    notes: list[str] = []
    for runner in plan.fleet.runners:
        jobs = [job for job in plan.jobs if job.runner == runner.name]
        findings += [_missing(plan, runner, job) for job in jobs if job.name not in by_job]
        done = [job for job in jobs if job.name in by_job]
        if done:
            some = [receipt for job in done for _, receipt in by_job[job.name].values()]
            judged = _judge(policy, plan, runner, done, some, terms)
            findings += judged.findings
            notes += judged.notes
    planned = sum(len(job.cells) for job in plan.jobs)
    return Verified(tuple(dict.fromkeys(findings)), tuple(dict.fromkeys(notes)), planned)


def _job_of(plan: FleetPlan, receipt: Receipt) -> str | None:
    """Return the job of an older receipt, which names none: the first on such a machine."""
    platform = recorded_platform(receipt.platform)
    jobs = [
        job.name for job in plan.jobs if not differences(plan.fleet.platform(plan.fleet.by_name[job.runner]), platform)
    ]
    return receipt.job or next(iter(jobs), None)


def _faults(
    plan: FleetPlan, receipt: Receipt, job: str | None, name: str, terms: Terms
) -> Iterator[tuple[FindingKind, str]]:
    """Yield why a receipt does not count."""
    older = name in terms.unsealed and receipt.digest is None
    if receipt.digest is None and not older:
        yield "unsealed", f"has no digest, so an edit would not show; --allow-unsealed {name} would let it pass"
    if receipt.exit_status is None and not older:
        yield "stale", "does not say how its run ended"
    if receipt.platform.simulated and not terms.rehearsal:
        yield "simulated", f"is of a SIMULATED machine, {receipt.platform.device}: nothing ran there"
    if receipt.git_sha is None or receipt.git_sha != plan.git_sha:
        yield "foreign", f"is of commit {receipt.git_sha or 'none'}, not of {plan.git_sha}"
    if receipt.policy != plan.policy:
        given = "no policy" if receipt.policy is None else f"policy {receipt.policy.name} as it was then"
        yield "stale", f"was held to {given}, not to {plan.policy.name} as it is now"
    if receipt.plan != plan.identity and not (older and receipt.plan is None):
        yield "stale", f"is of {'another plan' if receipt.plan else 'no plan'}"
    if receipt.attnconf != __version__:
        yield "stale", f"was written by attnconf {receipt.attnconf}, and this is {__version__}"
    runner = None if job is None else plan.runner_of(job)
    if runner is None:
        yield "unplanned", f"is of {'no job' if job is None else f'job {job}'}, which the plan does not have"
        return
    wrong = differences(plan.fleet.platform(runner), recorded_platform(receipt.platform))
    if wrong:
        yield "stale", f"is not from runner {runner.name}: {', '.join(wrong)}"


def _provider_faults(plan: FleetPlan, receipt: Receipt, job: str | None) -> Iterator[str]:
    asked = () if job is None else plan.job_named(job).backends
    return provider_faults(receipt.cells, receipt.providers, asked)


def provider_faults(cells: Iterable[Cell], providers: Mapping[str, Provider], backends: Iterable[str]) -> Iterator[str]:
    """Yield why the evidence in ``cells`` of some ``backends`` is not the commit's, or not of who has the name."""
    judged = {cell.backend for cell in cells if cell.executed or cell.broken}
    faults = (provider_fault(name, providers.get(name)) for name in backends if name in judged)
    return (fault for fault in faults if fault)


def _missing(plan: FleetPlan, runner: Runner, job: Job) -> Finding:
    backends, models = ", ".join(job.backends), ", ".join(job.models)
    sentence = (
        f"{len(job.cells)} required cells of {backends} are missing ({models}): there is no receipt that counts of job"
        f" {job.name}, which needs runner {plan.fleet.text(runner)}"
    )
    return Finding("missing", sentence)


def _judge(  # noqa: PLR0913 - what is judged, by what, where
    policy: Policy,
    plan: FleetPlan,
    runner: Runner,
    jobs: Sequence[Job],
    receipts: Sequence[Receipt],
    terms: Terms,
) -> Verified:
    """Judge what the jobs of one runner say of their cells, as pytest does at the end of a run."""
    wanted = tuple(cell for job in jobs for cell in job.cells)
    findings: list[Finding] = []
    cells: list[Cell] = []
    for receipt in receipts:
        findings += [Finding("not executed", f"runner {runner.name}: {text}") for text in cell_contradictions(receipt)]
        cells = merge_cells(cells, receipt.cells)
    platform = recorded_platform(receipts[0].platform).model_copy(update={"simulated": False})
    resolutions = resolve_all(policy, platform)
    stated = required_on(resolve_all(policy, plan.fleet.platform(runner)))
    if set(required_on(resolutions)) != set(stated):
        sentence = f"runner {runner.name}: the policy asks for other cells of its real versions than the plan says"
        findings.append(Finding("stale", sentence))
    # whether a backend loads there is what the receipt itself shows
    working = dict.fromkeys(name for one in resolutions for name in one.backends)
    verdict = narrowed(
        reach_verdict(
            policy, resolutions, cells, platform, working, providers=providers_in(receipts), today=terms.today
        ),
        wanted,
    )
    for unmet in verdict.unmet:
        kind = "not proven" if unmet.cell is None else _kind(unmet.cell, cells)
        findings.append(Finding(kind, f"runner {runner.name}: {unmet.sentence}"))
    told = {_place(unmet.cell) for unmet in verdict.unmet if unmet.cell is not None}
    for cell in (cell for cell in cells if cell.broken and _place(cell) not in told):
        where = f"{cell.shown_backend} {cell.model} {cell.layer_kind} {cell.mode}"
        broken = f"{counted(cell.broken, 'layer')} of {where} {'is' if cell.broken == 1 else 'are'} broken"
        sentence = f"runner {runner.name}: {broken}, which the policy does not ask for"
        findings.append(Finding("broken", sentence))
    notes = [one.sentence for one in (*verdict.waived, *verdict.unsupported)]
    return Verified(tuple(findings), (*notes, *verdict.notes))


def _place(cell: Cell | RequiredCell) -> tuple[str, str, str, str]:
    return (cell.backend, unsharded(cell.model), cell.layer_kind, cell.mode)


def _kind(wanted: RequiredCell, cells: Iterable[Cell]) -> FindingKind:
    found = [cell for cell in cells if _place(cell) == _place(wanted)]
    if not found:
        return "missing"
    return "not proven" if any(cell.executed or cell.broken for cell in found) else "not executed"
