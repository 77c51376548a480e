"""Fleet plan: which required cell each runner of a fleet must execute, as a sealed file; nothing is executed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from attnconf.fields import quote
from attnconf.gate.git import git_sha
from attnconf.gate.listed import why_unlisted
from attnconf.gate.plans.fleet import Fleet, read_fleet
from attnconf.gate.plans.repository import repository_of
from attnconf.gate.plans.touched import Base, base_of, touched
from attnconf.gate.receipt import PolicyRef
from attnconf.gate.sealed import Sealed
from attnconf.gate.verdict import elsewhere
from attnconf.policy.policy import policy_digest, policy_path
from attnconf.policy.requirements import RequiredCell, grouped, merged
from attnconf.policy.resolution import resolve_all
from attnconf.values import Value
from attnconf.version import __version__
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from attnconf.gate.plans.fleet import Runner
    from attnconf.gate.receipt import Receipt
    from attnconf.policy.policy import Policy
    from attnconf.policy.resolution import Resolution


class Job(Value):
    """What one run on ``runner`` must execute; ``name`` is what its receipt calls itself.

    A fleet with several runners of a kind has several jobs there, each with models of its own.
    """

    name: str
    runner: str
    cells: Annotated[tuple[RequiredCell, ...], Field(min_length=1)]

    @property
    def backends(self) -> tuple[str, ...]:
        """The backends of its cells, each once."""
        return tuple(dict.fromkeys(cell.backend for cell in self.cells))

    @property
    def models(self) -> tuple[str, ...]:
        """The models of its cells, each once."""
        return tuple(dict.fromkeys(cell.model for cell in self.cells))


class FleetPlan(Sealed):
    """What a policy asks of a fleet for one commit.

    ``git_sha`` is the commit that every receipt must be of. ``base`` is the commit since which a change was asked for,
    None for a plan of everything; ``reasons`` then say what the change touches. ``nowhere`` are sentences: what the
    policy requires and no runner can execute.
    """

    schema_id: Literal["attnconf.plan/1"] = Field(default="attnconf.plan/1", alias="schema")
    attnconf: str = __version__
    git_sha: Annotated[str, Field(pattern=r"^[0-9a-f]{40}(-dirty)?$")] | None
    policy: PolicyRef
    fleet: Fleet
    base: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    reasons: tuple[str, ...] = ()
    jobs: Annotated[tuple[Job, ...], Field(max_length=10_000)]
    nowhere: tuple[str, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [job.name for job in self.jobs]
        for job in self.jobs:
            if job.runner not in self.fleet.by_name:
                message = f"jobs on runners of the fleet, and {quote(job.name)} is on {quote(job.runner)}"
                raise ValueError(message)
            if names.count(job.name) > 1:
                message = f"jobs of distinct names, but two are called {quote(job.name)}"
                raise ValueError(message)
        return self

    def runner_of(self, job: str) -> Runner | None:
        """Return the runner of the job of this name, None if there is no such job."""
        name = next((one.runner for one in self.jobs if one.name == job), None)
        return None if name is None else self.fleet.by_name[name]

    def job_named(self, name: str) -> Job:
        """Return the job of this name. Raises ``KeyError`` if there is none."""
        return {job.name: job for job in self.jobs}[name]

    @property
    def lines(self) -> list[str]:
        """The plan in lines of plain text."""
        scope = "" if self.base is None else f", as far as the change since {self.base[:12]} touches it"
        lines = [f"policy {self.policy.name} at {self.git_sha or 'no commit'}{scope}"]
        lines += [f"  touched: {reason}" for reason in self.reasons]
        for job in self.jobs:
            where = self.fleet.text(self.fleet.by_name[job.runner])
            lines += ["", f"job {job.name}: {_count(job.cells)} on {where}"]
            lines += [f"  {line}" for line in grouped(job.cells)]
        if not self.jobs:
            lines += ["", "no required cell must be executed"]
        return lines


def plan_fleet(policy: Policy, fleet: Fleet, git_sha: str | None, base: Base | None = None) -> FleetPlan:
    """Return what each runner must execute: all that ``policy`` requires there, or what differs from ``base``.

    Whether everything can be executed somewhere is asked of the whole policy, also for a change.
    """
    found: list[Resolution] = []
    jobs: list[Job] = []
    nowhere: list[str] = []
    reasons: list[str] = []
    for runner in fleet.runners:
        resolutions = resolve_all(policy, fleet.platform(runner))
        found += [one for one in resolutions if one.by == "rule" and not one.unmet_floors]
        floors = dict.fromkeys(f"{name} {floor.sentence}" for one in resolutions for name, floor in one.unmet_floors)
        nowhere += [f"runner {fleet.text(runner)} cannot be used: {sentence}" for sentence in floors]
        holes = [one.sentence for one in resolutions if one.by == "refused" and not one.stated]
        nowhere += [f"runner {runner.name}: {sentence}" for sentence in holes]
        cells = required_on(resolutions)
        reasons_of = ((cell, why_unlisted(cell, fleet.platform(runner))) for cell in cells)
        nowhere += [
            f"runner {runner.name}: {cell.text} can be executed nowhere: {why}" for cell, why in reasons_of if why
        ]
        if base is not None:
            cells, why = touched(policy, fleet, runner, cells, base)
            reasons += why
        jobs += _jobs(runner, cells)
    for other in elsewhere(policy, found):
        names = ", ".join(other.architectures)
        nowhere.append(
            f"{_count(other.cells)} of {other.backend} for {names}, by rule {other.rule}, can be executed nowhere:"
            f" no runner of the fleet is {other.where}"
        )
    return FleetPlan(
        git_sha=git_sha,
        policy=PolicyRef(name=policy.name, digest=policy_digest(policy)),
        fleet=fleet,
        base=None if base is None else base.commit,
        reasons=tuple(dict.fromkeys(reasons)),
        jobs=tuple(jobs),
        nowhere=tuple(nowhere),
    )


def required_on(resolutions: Iterable[Resolution]) -> tuple[RequiredCell, ...]:
    """Return what the ``resolutions`` of one platform require together, each cell once."""
    return merged(cell for resolution in resolutions for cell in resolution.required)


def _jobs(runner: Runner, cells: Sequence[RequiredCell]) -> Iterator[Job]:
    """Yield at most ``count`` jobs, each with whole models, in turn from the one with most cells."""
    by_model: dict[str, list[RequiredCell]] = {}
    for cell in cells:
        by_model.setdefault(cell.model, []).append(cell)
    shares: list[list[RequiredCell]] = [[] for _ in range(min(runner.count, len(by_model)))]
    for some in sorted(by_model.values(), key=len, reverse=True):
        min(shares, key=len).extend(some)
    for number, share in enumerate(shares, start=1):
        name = runner.name if len(shares) == 1 else f"{runner.name}.{number}"
        yield Job(name=name, runner=runner.name, cells=tuple(share))


def _count(cells: Sequence[object]) -> str:
    return counted(len(cells), "required cell")


def make_fleet_plan(policy: Policy, policy_name: str, fleet_file: Path, diff: str | None) -> FleetPlan:
    """Return the plan of a fleet for the commit of the working directory, or for what it changes since ``diff``."""
    fleet, here = read_fleet(fleet_file), Path.cwd()
    base = None if diff is None else base_of(repository_of(here), diff, policy_path(policy_name), fleet_file)
    return plan_fleet(policy, fleet, git_sha(here), base)


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
