"""What a run says: header, progress, the matrix, unmet requirements, the receipt, the exit status."""

from __future__ import annotations

import json
import platform as python_platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_attnconf.outcomes import CELLS
from pytest_attnconf.state import EXIT_POLICY_NOT_MET

if TYPE_CHECKING:
    from attnconf.verdict import Verdict
    from pytest_attnconf.state import State

PROGRESS_SECONDS = 30.0


class Reporter:
    """The hooks that speak; on the controller only, since xdist's workers hand their reports to it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.last_line = state.clock
        self.verdict: Verdict | None = None
        self.complaints: list[str] = []

    def pytest_report_header(self) -> list[str]:
        """Say where this runs, with which versions, and which backends work here."""
        state = self.state
        if not state.is_asked_for or state.is_worker:
            return []
        from attnconf.report.terminal import header_lines

        return header_lines(state.session, state.backends, state.policy)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the evidence that a test recorded."""
        if self.state.is_worker or (report.when != "call" and report.passed):
            return
        texts = [value for name, value in report.user_properties if name == CELLS]
        if not texts:
            return
        from attnconf.cells import Cell, merge_cells

        cells = [Cell.from_data(data, "user_properties") for text in texts for data in json.loads(str(text))]
        self.state.cells = merge_cells(self.state.cells, cells)
        self.state.judged_nodes += 1
        self._progress()

    def _progress(self) -> None:
        """Print a line now and then: a CI log can bear it, and a long run shows that it lives."""
        state, now = self.state, time.perf_counter()
        reporter = state.config.pluginmanager.get_plugin("terminalreporter")
        if now - self.last_line < PROGRESS_SECONDS or reporter is None:
            return
        self.last_line = now
        executed, broken = sum(cell.executed for cell in state.cells), sum(cell.broken for cell in state.cells)
        reporter.ensure_newline()
        reporter.write_line(
            f"attnconf: {now - state.clock:.0f} s, {state.judged_nodes} tests, {executed} layers judged, {broken} broken"
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge the evidence, write the receipt, settle the exit status."""
        state = self.state
        if state.is_worker or session.config.option.collectonly or not (state.is_asked_for or state.cells):
            return
        suite_asked = state.cells or any("attnconf.suite" in arg for arg in session.config.args)
        if suite_asked and not any(cell.executed for cell in state.cells):
            self.complaints.append("nothing was executed: no backend judged a single case, so nothing is proven")
        if state.policy is not None:
            self.verdict = self._judge()
            self.complaints += [unmet.sentence for unmet in self.verdict.unmet]
        self._write_receipt()
        if self.complaints and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            session.exitstatus = EXIT_POLICY_NOT_MET

    def _judge(self) -> Verdict:
        from attnconf.platforms import simulate
        from attnconf.resolution import resolve_all
        from attnconf.verdict import judge

        state = self.state
        if state.policy is None:
            message = "there is no policy to judge by"
            raise ValueError(message)
        platform = simulate(state.option("sm")) if state.option("sm") else state.platform
        backends = {name: state.session.why_not(name) for name in state.session.registry.names}
        return judge(state.policy, resolve_all(state.policy, platform), state.cells, platform, backends)

    def _write_receipt(self) -> None:
        state = self.state
        if not state.option("receipt"):
            return
        from attnconf.policy import policy_digest
        from attnconf.receipt import PolicyRef, Receipt, git_sha, record_platform

        policy = state.policy
        receipt = Receipt(
            git_sha=git_sha(state.config.invocation_params.dir),
            platform=record_platform(state.platform, python_platform.python_version()),
            policy=None if policy is None else PolicyRef(name=policy.name, digest=policy_digest(policy)),
            profile=state.profile.name,
            seed=state.seed,
            started=state.started.isoformat(),
            seconds=round(time.perf_counter() - state.clock, 3),
            cells=tuple(state.cells),
        )
        path = Path(state.option("receipt"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            receipt.write(path)
        except OSError as error:
            self.complaints.append(f"the receipt {path} cannot be written: {error.strerror}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the matrix, then what is not met."""
        state = self.state
        if not state.cells and not self.complaints:
            return
        from attnconf.report.terminal import matrix_lines, verdict_lines

        terminalreporter.section("attnconf")
        for line in matrix_lines(state.cells):
            terminalreporter.write_line(line)
        for line in verdict_lines(state.policy, self.verdict):
            terminalreporter.write_line(line)
        for complaint in self.complaints:
            terminalreporter.write_line(f"NOT MET: {complaint}", red=True)
        if state.option("receipt"):
            terminalreporter.write_line(f"receipt: {state.option('receipt')}")
