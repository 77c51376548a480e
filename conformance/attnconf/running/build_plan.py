"""What a run will have to build: the shapes that its cases ask, the kernel modules behind them, and their cost."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from attnconf.backends.builds import Build, Builder, BuildReport, cost, cost_text, wall_seconds
from attnconf.cases.shape import KernelShape
from attnconf.errors import BackendUnavailableError
from attnconf.running.processes.asked import AskedBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from attnconf.running.session import Session

_NAMED = 3
"""The most unbuilt modules of a backend that are named, one by one, before the first test."""


def default_jobs() -> int:
    """Return how many jobs may build: MAX_JOBS, which compilers' users know, or the cores of this process."""
    given = os.environ.get("MAX_JOBS", "")
    return int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class BackendBuilds:
    """The modules that one backend needs: those to build, those that are built, and those beyond the budget.

    ``builder`` returns the backend in this process.
    """

    builder: Callable[[], Builder]
    missing: tuple[Build, ...]
    cached: tuple[Build, ...]
    beyond: tuple[Build, ...]


@dataclass(frozen=True)
class BuildPlan:
    """What is to be built before a run, backend by backend, and with how many jobs.

    ``lost`` says of each backend that could not be asked why not.
    """

    backends: dict[str, BackendBuilds]
    jobs: int
    lost: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[Build, ...]:
        """What ``build`` will build."""
        return tuple(build for needed in self.backends.values() for build in needed.missing)

    @property
    def cached(self) -> tuple[Build, ...]:
        """What is built."""
        return tuple(build for needed in self.backends.values() for build in needed.cached)

    @property
    def beyond(self) -> tuple[Build, ...]:
        """What is not built, and costs more than the budget allows."""
        return tuple(build for needed in self.backends.values() for build in needed.beyond)

    @property
    def lines(self) -> list[str]:
        """The plan in words: one line, and one for each module beyond the budget. Nothing if no module is needed."""
        first = self._opening
        return [*first, *(line for needed in self.backends.values() for line in _named(needed.beyond))]

    @property
    def brief(self) -> list[str]:
        """The plan in fewer words: where many modules of a backend are beyond the budget, one line says so."""
        found = self._opening
        for name, needed in self.backends.items():
            if len(needed.beyond) <= _NAMED:
                found += _named(needed.beyond)
                continue
            together = cost_text(sum(build.cpu_seconds for build in needed.beyond))
            found.append(
                f"not run without {len(needed.beyond)} modules of {name}, which are not built ({together};"
                " attnconf build --dry-run names them)"
            )
        return found

    @property
    def _opening(self) -> list[str]:
        count = len(self.missing) + len(self.cached) + len(self.beyond)
        if not count:
            return list(self.lost)
        seconds = wall_seconds(self.missing, self.jobs)
        todo = f"about {seconds:.0f} s with {self.jobs} jobs" if self.missing else "nothing to build"
        return [*self.lost, f"{count} kernel modules for these tests, {len(self.cached)} cached, {todo}"]

    def build(self, progress: Callable[[str], None]) -> BuildReport:
        """Build what is missing and return what came of it, all backends together."""
        built: tuple[str, ...] = ()
        failures: dict[str, str] = {}
        seconds = 0.0
        for needed in self.backends.values():
            if needed.missing:
                report = needed.builder().build(needed.missing, self.jobs, progress)
                built += report.built
                failures |= report.failures
                seconds += report.seconds
        cached = tuple(build.name for build in self.cached)
        return BuildReport(built=built, cached=cached, failures=failures, seconds=seconds)


def _named(builds: Iterable[Build]) -> list[str]:
    return [f"not run without {build.name}, which is not built ({cost(build)})" for build in builds]


def plan_builds(
    session: Session,
    backends: Sequence[str],
    shapes_of: Callable[[str], Iterable[KernelShape]],
    *,
    jobs: int,
    modules: Sequence[str] = (),
) -> BuildPlan:
    """Plan what the ``backends`` that work here need for the shapes that ``shapes_of`` says each is asked.

    Only ``modules``, by name, if any are given, whatever they cost; else all that the session's budget allows.
    """
    planned: dict[str, BackendBuilds] = {}
    lost = []
    # All of them come up first: each then imports its library in its own process, while shapes are drawn in this one.
    builders = [name for name in backends if session.compiles(name)]
    for name in builders:
        try:
            planned[name] = _planned_builds(session, name, frozenset(shapes_of(name)), modules)
        except BackendUnavailableError as error:
            lost.append(str(error))
    return BuildPlan(planned, jobs, tuple(lost))


def _planned_builds(
    session: Session, name: str, shapes: frozenset[KernelShape], modules: Sequence[str]
) -> BackendBuilds:
    asked = session.asked(name)
    if not isinstance(asked, AskedBackend | Builder):
        raise BackendUnavailableError(f"backend {name} compiles nothing")
    needed = [build for build in asked.builds(shapes) if not modules or build.name in modules]
    cached = tuple(build for build in needed if asked.is_built(build))
    rest = [build for build in needed if build not in cached]
    beyond = tuple(build for build in rest if not modules and build.cpu_seconds > session.build_budget)
    missing = tuple(build for build in rest if build not in beyond)
    return BackendBuilds(partial(_builder, session, name), missing, cached, beyond)


def _builder(session: Session, name: str) -> Builder:
    """Return the backend ``name`` in this process, which has the cores and says how far a build is."""
    found = session.backend(name)
    if not isinstance(found, Builder):
        raise BackendUnavailableError(f"backend {name} compiles nothing")
    return found
