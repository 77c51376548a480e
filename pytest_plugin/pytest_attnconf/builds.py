"""Kernel modules are built before the first test, in parallel; a test shall not wait half an hour for a compiler."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_attnconf.suite_tests import flag, names_suite

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from attnconf.cases.drawing.families import Family
    from attnconf.running.build_plan import BuildPlan
    from pytest_attnconf.state import State

_SUITE = "attnconf.suite."
_MODULE = f"{_SUITE}test_"
_MORE_FAMILIES = ("refusal", "sm100", "vectors")


def add_options(group: pytest.OptionGroup) -> None:
    """Add the options that bound what is run and built."""
    group.addoption(
        flag("family"),
        metavar="NAME",
        action="append",
        default=[],
        help="run this family of the suite's tests only, such as decode (repeatable)",
    )
    group.addoption(
        flag("build-budget"),
        metavar="SECONDS",
        type=seconds,
        help="CPU seconds that one kernel module may take to build (120 unless told); a dearer one is used if it is"
        " built, and else what needs it is not_run",
    )


def seconds(text: str) -> float:
    """Read a number of seconds. Raises ``ArgumentTypeError``."""
    from attnconf.cli.arguments import seconds as read  # only now: an option of ours is given

    return read(text)


class Building:
    """Plans and builds on the controller, before xdist starts a worker; deselects the families not asked for."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.lines: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Say what this machine's memory does not allow, and build what the suite's tests need on its GPU."""
        self._check_families()
        state, config = self.state, session.config
        idle = state.is_worker or config.option.collectonly or not names_suite(config.args)
        if idle or state.platform.sm is None:
            return
        from attnconf.errors import AttnconfError
        from attnconf.running.length_plan import plan_lengths

        try:
            wanted = self._wanted(config.args)
            with warnings.catch_warnings():
                # Hypothesis takes whatever draws before the first test for an accident of a plugin's import.
                warnings.filterwarnings("ignore", "Slow code in plugin")
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
        from attnconf.cases.drawing.families import FAMILIES

        known = (*FAMILIES, *_MORE_FAMILIES)
        for name in asked:
            if name not in known:
                message = f"{flag('family')}: {name!r}; allowed: {', '.join(known)}"
                raise pytest.UsageError(message)

    def _plan(self, wanted: frozenset[str]) -> BuildPlan:
        from attnconf.running.build_plan import default_jobs, plan_builds, shapes_asked

        state = self.state
        recorded = state.replayed.values() if "vectors" in wanted else ()
        shapes_of = partial(shapes_asked, state.session, tuple(self._targets(wanted)), tuple(recorded))
        return plan_builds(state.session, state.backends, shapes_of, jobs=default_jobs())

    def _wanted(self, args: Iterable[str]) -> frozenset[str]:
        """Return the families that this run is about."""
        from attnconf.cases.drawing.families import FAMILIES

        named = _families(args)
        wanted = frozenset(self.state.option("family") or (*FAMILIES, *_MORE_FAMILIES))
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
        reporter = self.state.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"attnconf: {line}")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect the suite's tests of other families than those asked for."""
        asked = {f"{_MODULE}{name}" for name in self.state.option("family")}
        if not asked:
            return
        gone = [item for item in items if _module(item).startswith(_MODULE) and _module(item) not in asked]
        if gone:
            ids = set(map(id, gone))
            items[:] = [item for item in items if id(item) not in ids]
            config.hook.pytest_deselected(items=gone)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what building took, apart from what running took."""
        for line in self.lines:
            terminalreporter.write_line(f"attnconf: {line}")


def _families(args: Iterable[str]) -> frozenset[str]:
    """Return the families whose files ``args`` name, or none of them when the whole suite is named."""
    found = set()
    for arg in args:
        name = arg.replace("/", ".").replace("\\", ".").partition("::")[0].removesuffix(".py")
        if names_suite([arg]):
            if _MODULE not in name:
                return frozenset()
            found.add(name.partition(_MODULE)[2])
    return frozenset(found)


def _module(item: pytest.Item) -> str:
    return getattr(getattr(item, "module", None), "__name__", "")
