"""What the plugin knows of one run: its options, read once they are used, and the session that they make."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_attnconf.options import ISOLATE, flag, is_asked_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.profiles import Profile
    from attnconf.gate.plans.fleet_plan import FleetPlan
    from attnconf.gate.provider import Provider
    from attnconf.judging.memory import Memory
    from attnconf.platforms import Platform
    from attnconf.policy.policy import Policy
    from attnconf.policy.requirements import RequiredCell
    from attnconf.running.session import Session
    from pytest_attnconf.registrar import Registrar

KEY: pytest.StashKey[State] = pytest.StashKey()

MEMORY = "attnconf_memory"
SEED = "attnconf_seed"
PLATFORM = "attnconf_platform"
"""Under these names xdist's controller gives its workers what they cannot know: their share of memory, and the seed,
for a clock of their own would give each another. And the machine, for which each would have to import torch."""


class State:
    """One run's state; it imports torch and attnconf only once it is used."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.started = datetime.now(UTC)
        self.clock = time.perf_counter()

    def option(self, name: str) -> Any:  # noqa: ANN401 - pytest's options are untyped
        """Return the value of ``--attnconf-NAME``."""
        return self.config.getoption(f"attnconf_{name}")

    def path(self, text: str) -> Path:
        """Return a path of the command line, which a test that changes the working directory does not move."""
        return self.config.invocation_params.dir / text

    @cached_property
    def is_asked_for(self) -> bool:
        """Whether an option of ours is given, or the suite is on the command line."""
        return is_asked_for(self.config.option, self.config.args)

    @property
    def is_worker(self) -> bool:
        """Whether this is a worker of pytest-xdist: it reports, the controller judges."""
        return hasattr(self.config, "workerinput")

    @property
    def workers(self) -> int:
        """How many workers of pytest-xdist this process controls: 0 without them."""
        return len(getattr(self.config.option, "tx", None) or ())

    @cached_property
    def profile(self) -> Profile:
        """The profile, cut down to the models asked for."""
        from attnconf.cases.drawing.profiles import profile_named
        from attnconf.errors import AttnconfError

        profile = profile_named(self.option("profile") or "gate")
        models = tuple(self.option("model"))
        with suppress(AttnconfError):  # a wrong policy is refused where it is used
            _ = self.policy  # its own models are known by their names
        if models or not profile.models:
            return profile.of(models) if models else profile
        required = (cell.model for cell in self.required)
        return replace(profile, models=tuple(dict.fromkeys((*profile.models, *required))))

    @cached_property
    def required(self) -> tuple[RequiredCell, ...]:
        """The cells that the policy wants proven on this machine; none if it cannot be read, which others say."""
        from attnconf.errors import AttnconfError
        from attnconf.policy.requirements import merged
        from attnconf.policy.resolution import resolve_all

        try:
            resolutions = () if self.policy is None else resolve_all(self.policy, self.policy_platform)
        except AttnconfError:
            return ()
        return merged(cell for one in resolutions for cell in one.required)

    @cached_property
    def seed(self) -> int:
        """The seed: the controller's, or given, or 0, or of the clock for a profile that explores."""
        from attnconf.errors import InvalidInputError

        given = getattr(self.config, "workerinput", {}).get(SEED)
        if given is not None:
            return int(given)
        text = self.option("seed")
        if text is None:
            return 0 if self.profile.derandomised else int(self.started.timestamp())
        if not (text.isascii() and text.isdecimal() and len(text) < len(str(2**63))):
            raise InvalidInputError(flag("seed"), given=repr(text), allowed="a whole number of up to 18 digits")
        return int(text)

    @cached_property
    def platform(self) -> Platform:
        """This machine: told to a worker of it."""
        from attnconf.platforms import Platform, detect

        given = getattr(self.config, "workerinput", {}).get(PLATFORM)
        return detect() if given is None else Platform.from_data(given, PLATFORM)

    @cached_property
    def registrar(self) -> Registrar:
        """The registry that conftest files register backends with."""
        from pytest_attnconf.registrar import Registrar

        return Registrar()

    @cached_property
    def session(self) -> Session:
        """The session, with the backends that conftest files register, later ones included."""
        from attnconf.running.own_cases import required_layers
        from attnconf.running.session import Session

        session = Session(
            platform=self.platform,
            profile=self.profile,
            seed=self.seed,
            registry=self.registrar,
            required=required_layers(self.required),
        )
        if (budget := self.option("build_budget")) is not None:
            session.build_budget = budget
        if (limit := self.option("case_seconds")) is not None:
            session.case_seconds = limit
        session.isolate = ISOLATE[self.option("isolate")]
        session.memory = self.memory
        self.config.hook.pytest_attnconf_register_backends.call_historic(kwargs={"registry": session.registry})
        return session

    @cached_property
    def memory(self) -> Memory:
        """What one process may take of this machine: given to a worker, who knows neither the others nor the GPUs."""
        from attnconf.judging.memory import Memory, machine_memory
        from attnconf.running.processes.gpus import visible_gpus

        given = getattr(self.config, "workerinput", {}).get(MEMORY)
        if given is not None:
            return Memory(*given)
        workers = max(1, self.workers)
        return machine_memory(self.platform, processes=workers, per_gpu=-(-workers // max(1, len(visible_gpus()))))

    def close(self) -> None:
        """End the processes in which backends run, if there are any."""
        session: Session | None = self.__dict__.get("session")
        if session is not None:
            session.close()

    @cached_property
    def backends(self) -> tuple[str, ...]:
        """The backends to judge: those asked for, else every registered one but those of engines that are not here."""
        from attnconf.errors import UnknownBackendError
        from attnconf.platforms import ENGINES

        known = self.session.registry.names
        for name in self.option("backend"):
            if name not in known:
                raise UnknownBackendError(flag("backend"), given=repr(name), allowed=", ".join(known))
        absent = tuple(f"{engine}:" for engine in ENGINES if engine not in self.session.platform.packages)
        return tuple(dict.fromkeys(self.option("backend"))) or tuple(n for n in known if not n.startswith(absent))

    def providers(self, judged: Iterable[str] = ()) -> dict[str, Provider]:
        """Return who provides the backends asked for, and those that were ``judged``, by the names that they have."""
        from attnconf.running.providers import providers_of

        known = self.session.registry.names
        names = dict.fromkeys(self.backends)
        for own in judged:  # a variant in brackets is of the backend that is registered without, or with them
            names |= dict.fromkeys(name for name in known if own == name or own.startswith(f"{name}["))
        for name in names:
            self.session.why_not(name)  # makes it, if it was not yet
        return providers_of(self.session, names, self.config.invocation_params.dir)

    @cached_property
    def replayed(self) -> dict[str, Case]:
        """The recorded cases: those of ``--attnconf-replay``, else the shipped vectors."""
        from attnconf.cases.vectors import cases_to_replay

        return cases_to_replay([self.path(path) for path in self.option("replay")])

    @property
    def empty_replays(self) -> list[Path]:
        """The empty files in folders of recorded cases."""
        from attnconf.cases.vectors import empty_files

        return [file for path in self.option("replay") for file in empty_files(self.path(path))]

    @cached_property
    def policy(self) -> Policy | None:
        """The policy asked for, if any."""
        from attnconf.policy.policy import load_policy

        name = self.option("policy")
        return load_policy(name) if name else None

    @cached_property
    def plan(self) -> FleetPlan | None:
        """The plan that this run is a job of, if any. Raises ``InvalidInputError`` for one that cannot count."""
        from attnconf.errors import InvalidInputError
        from attnconf.gate.plans.fleet_plan import FleetPlan

        name, job = self.option("plan"), self.option("job")
        if not name and not job:
            return None
        if not (name and job and self.policy):
            allowed = f"{flag('plan')}, {flag('job')} and {flag('policy')} together"
            raise InvalidInputError(flag("plan"), given=repr(name), allowed=allowed)
        plan = FleetPlan.read(self.path(name))
        if plan.runner_of(job) is None:
            raise InvalidInputError(flag("job"), given=repr(job), allowed=", ".join(one.name for one in plan.jobs))
        for given, allowed in self._plan_faults(plan, self.policy):
            raise InvalidInputError(flag("plan"), given=f"{name}, {given}", allowed=allowed)
        return plan

    @cached_property
    def commit(self) -> tuple[str | None, str]:
        """The commit of the working directory, None where there is none, and then why git names none, if it says so."""
        from attnconf.errors import AttnconfError
        from attnconf.gate.git import git_sha

        try:
            return git_sha(self.config.invocation_params.dir), ""
        except AttnconfError as error:
            return None, str(error)

    def _plan_faults(self, plan: FleetPlan, policy: Policy) -> Iterator[tuple[str, str]]:
        """Yield why ``attnconf verify`` would let no receipt of this run count, and which plan would do."""
        from attnconf.policy.policy import policy_digest

        if plan.policy.digest != policy_digest(policy):
            yield "of another policy", f"a plan of {policy.name} as it is now"
        if plan.nowhere:
            yield f"which fails by itself: {plan.nowhere[0]}", "a plan that attnconf plan accepts"
        for fault in self._provider_faults(plan):
            yield f"for which {fault}", "a plan of a commit that contains what provides its backends"
        here, why = self.commit
        if why:
            yield "which cannot be held against the commit that is checked out", f"a repository that git reads; {why}"
        if plan.git_sha != here:
            yield f"of {plan.git_sha or 'no commit'}", f"a plan of {here or 'no commit'}, which is checked out"

    def _provider_faults(self, plan: FleetPlan) -> Iterator[str]:
        from attnconf.gate.provider import provider_fault

        given = self.providers()
        for name in plan.job_named(self.option("job")).backends:
            if name in given and (fault := provider_fault(name, given[name])):
                yield fault

    @cached_property
    def policy_platform(self) -> Platform:
        """The platform that the policy is resolved for: this machine, or the simulated one."""
        from attnconf.platforms import simulate

        return simulate(self.option("sm")) if self.option("sm") else self.platform
