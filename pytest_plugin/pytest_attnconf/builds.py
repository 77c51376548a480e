"""Kernel modules are built before the first test, in parallel; a test shall not wait half an hour for a compiler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_attnconf.options import flag
from pytest_attnconf.suite_tests import MACHINE, VECTORS, SuiteTest, families_named, names_suite, suite_families
from pytest_attnconf.terminal import say, usage_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from attnconf.cases.drawing.families import Family
    from attnconf.running.build_plan import BuildPlan
    from pytest_attnconf.state import State


class Building:
    """Plans and builds on the controller, while xdist's workers start; deselects the families not asked for."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.lines: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Refuse an unknown family before xdist starts a worker."""
        self._check_families()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        """Say what this machine's memory does not allow, and build what the suite's tests need on its GPU.

        Workers collect their tests meanwhile, and run none of them before the controller has collected, too.
        """
        state, config = self.state, session.config
        if state.is_worker or not state.is_asked_for:
            return
        if names_suite(config.args) and not config.option.collectonly and state.platform.sm is not None:
            self._prepare(config)
        if state.workers:  # they run the cases, and have processes of their own
            state.close()

    def _prepare(self, config: pytest.Config) -> None:
        state = self.state
        from attnconf.errors import AttnconfError
        from attnconf.running.length_plan import plan_lengths

        try:
            wanted = self._wanted(config.args)
            for line in plan_lengths(state.session, self._targets(wanted)).lines:
                self._say(line)
            plan = self._plan(wanted)
            if plan.brief:
                self._build(plan)
        except AttnconfError as error:
            self._say(f"no kernel module is built ahead: {error}")

    def _check_families(self) -> None:
        asked = self.state.option("family")
        if not asked:
            return
        known = suite_families()
        for name in asked:
            if name not in known:
                message = f"{flag('family')}: {name!r}; allowed: {', '.join(known)}"
                raise usage_error(message)

    def _plan(self, wanted: frozenset[str]) -> BuildPlan:
        from attnconf.running.build_plan import default_jobs, plan_builds
        from attnconf.running.planned_shapes import PlannedShapes

        state = self.state
        recorded = state.replayed.values() if VECTORS in wanted else ()
        played = state.profile.machine_models if MACHINE in wanted else ()
        targets, jobs = tuple(self._targets(wanted)), default_jobs()
        shapes = PlannedShapes(state.session, state.backends, targets, tuple(recorded), played, processes=jobs)
        return plan_builds(state.session, state.backends, shapes.of, jobs=jobs)

    def _wanted(self, args: Iterable[str]) -> frozenset[str]:
        """Return the families that this run is about."""
        named = families_named(args)
        wanted = frozenset(self.state.option("family") or suite_families())
        return wanted & named if named else wanted

    def _targets(self, wanted: frozenset[str]) -> Iterator[tuple[Family, str]]:
        from attnconf.cases.drawing.families import FAMILIES

        for family in FAMILIES:
            for model in self.state.profile.targets(family) if family in wanted else ():
                yield family, model

    def _build(self, plan: BuildPlan) -> None:
        for line in plan.brief:
            self._say(line)
        report = plan.build(self._say)
        # Building is no running: the times of the tests and of the receipt begin here.
        self.state.clock += report.seconds
        built, cached, beyond = len(report.built), len(report.cached), len(plan.beyond)
        counts = f"{built} built before the first test, in {report.seconds:.0f} s, {cached} cached"
        self.lines = [
            f"kernel modules: {counts}, {beyond} not built and beyond {flag('build-budget')}",
            *(f"kernel module {name} does not build: {why}" for name, why in report.failures.items()),
        ]
        for line in self.lines if plan.missing else ():
            self._say(line)

    def _say(self, line: str) -> None:
        say(self.state.config, [f"attnconf: {line}"])

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect the suite's tests of other families than those asked for."""
        asked = self.state.option("family")
        if not asked:
            return
        gone = [item for item in items if (test := SuiteTest.of_item(item)) is not None and test.family not in asked]
        if gone:
            ids = set(map(id, gone))
            items[:] = [item for item in items if id(item) not in ids]
            config.hook.pytest_deselected(items=gone)

    def pytest_terminal_summary(self) -> None:
        """Say what building took, apart from what running took."""
        for line in self.lines:
            self._say(line)
