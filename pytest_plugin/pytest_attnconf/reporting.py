"""What a run says: header, progress, the matrix, what is not met, the exit status."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pytest_attnconf.evidence import RunEvidence
from pytest_attnconf.exits import EXIT_NOT_AS_CLAIMED, EXIT_POLICY_NOT_MET
from pytest_attnconf.outcomes import GATED, add_junit_failures, outcome_of, reasons_of
from pytest_attnconf.preflight import check_claims
from pytest_attnconf.reasons import Reasons
from pytest_attnconf.receipt import write_receipt
from pytest_attnconf.state import MEMORY, PLATFORM, SEED
from pytest_attnconf.suite_tests import names_suite
from pytest_attnconf.terminal import complain, is_silent, say, shown
from pytest_attnconf.workers.pinning import pinning_line

if TYPE_CHECKING:
    from typing import Any

    from attnconf.gate.verdict import Verdict
    from pytest_attnconf.state import State

PROGRESS_SECONDS = 30.0


class Reporter:
    """The hooks that speak; on the controller only, since xdist's workers hand their reports to it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.evidence = RunEvidence(state)
        self.last_line = state.clock
        self.verdict: Verdict | None = None
        self.complaints: list[tuple[int, str]] = []
        self.not_run = Reasons()
        self.has_receipt = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Check what the run builds on, before xdist starts a worker; conftest files have spoken by now."""
        if self.state.is_asked_for and not self.state.is_worker:
            check_claims(self.state)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:  # noqa: ANN401 - xdist may not be installed
        """Tell a worker of xdist the seed, its share of memory, and on this machine which one it is.

        Where GPUs differ, each worker looks at its own.
        """
        if self.state.is_asked_for:
            from attnconf.platforms import has_others

            if node.gateway.spec.popen and not has_others(self.state.platform):
                node.workerinput[PLATFORM] = self.state.platform.to_data()
            node.workerinput[SEED] = self.state.seed
            node.workerinput[MEMORY] = (self.state.memory.host, self.state.memory.device)

    def pytest_report_header(self) -> list[str]:
        """Say where this runs, with which versions, and which backends work here."""
        state = self.state
        if not state.is_asked_for or state.is_worker:
            return []
        from attnconf.running.header import header_lines

        lines = header_lines(state.session, state.backends, state.policy, state.policy_platform)
        lines += [f"attnconf: {file} is empty, and left out" for file in state.empty_replays]
        shared = pinning_line(state.workers)
        return [shown(line) for line in (lines if shared is None else [*lines, f"attnconf: {shared}"])]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect the evidence that a test recorded, once, and note what must not pass in silence."""
        state = self.state
        if state.is_worker or report.when == "teardown" or (report.when == "setup" and report.passed):
            return
        if report.outcome not in {"passed", "failed", "skipped"}:
            self._note_retry(report)
            return
        if outcome_of(report) == "not_run" and report.skipped:
            self._note_not_run(report)
        if self.evidence.add(report):
            self._progress()

    def _note_not_run(self, report: pytest.TestReport) -> None:
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = text.removeprefix("not_run: ")
        self.not_run.add(reasons_of(report))
        gated = any(name == GATED for name, _ in report.user_properties)
        if self.state.option("require_sm") and not gated:
            claim = (
                f"this runner claims SM {self.state.option('require_sm')}, but {report.nodeid} did not run: {reason}"
            )
            self.complaints.append((EXIT_NOT_AS_CLAIMED, claim))

    def _note_retry(self, report: pytest.TestReport) -> None:
        """Complain of an attempt that is repeated; the last one carries the evidence of all."""
        if self.state.is_asked_for and not self.state.option("allow_retries"):
            why = "and a retry hides a fault of one run in a thousand (--attnconf-allow-retries permits it)"
            self.complaints.append((EXIT_NOT_AS_CLAIMED, f"{report.nodeid} was run again, {why}"))

    def _progress(self) -> None:
        """Print a line now and then, so that a long run is visibly alive."""
        state, evidence, now = self.state, self.evidence, time.perf_counter()
        if now - self.last_line < PROGRESS_SECONDS:
            return
        from attnconf.wording import counted

        self.last_line = now
        counts = f"{counted(evidence.tests, 'test')}, {counted(evidence.cases, 'case')}"
        judged = f"{counted(evidence.executed, 'layer')} judged, {evidence.broken} broken"
        behind_dots = state.config.get_terminal_writer().width_of_current_line  # xdist's, which name no file
        say(state.config, [""] * bool(behind_dots) + [f"attnconf: {now - state.clock:.0f} s, {counts}, {judged}"])

    def pytest_keyboard_interrupt(self) -> None:
        """Complain of a run that was stopped: ``pytest.exit`` may give it any exit status."""
        if self.state.is_asked_for and not self.state.is_worker:
            self.complaints.append((pytest.ExitCode.INTERRUPTED, "the run was stopped before its last test"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge the evidence, write the receipt, settle the exit status."""
        state, evidence = self.state, self.evidence
        if state.is_worker or session.config.option.collectonly or not (state.is_asked_for or evidence.cells):
            return
        unproven = evidence.unproven(names_suite(session.config.args))
        self.complaints += [(EXIT_POLICY_NOT_MET, sentence) for sentence in (*unproven, *evidence.unseen())]
        green = session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
        if green:
            self.complaints += [(pytest.ExitCode.TESTS_FAILED, sentence) for sentence in evidence.hidden()]
        self.complaints += [(pytest.ExitCode.USAGE_ERROR, str(error)) for error in state.registrar.refusals]
        self.complaints += [(EXIT_POLICY_NOT_MET, sentence) for sentence in evidence.foreign()]
        own = tuple(dict.fromkeys(sentence for _, sentence in self.complaints))
        if state.policy is not None:
            self.verdict = evidence.policy_verdict(state.policy)
            self.complaints += [(EXIT_POLICY_NOT_MET, unmet.sentence) for unmet in self.verdict.unmet]
        if green:
            session.exitstatus = self._worst(session.exitstatus)
        problem = write_receipt(evidence, int(session.exitstatus), own)
        self.has_receipt = bool(state.option("receipt")) and not problem
        if problem:
            self.complaints.append((pytest.ExitCode.USAGE_ERROR, problem))
            session.exitstatus = self._worst(session.exitstatus) if green else session.exitstatus
        add_junit_failures(state.config, (sentence for _, sentence in self.complaints))

    def _worst(self, status: int) -> int:
        return max((status for status, _ in self.complaints), default=status)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the matrix, then what did not run, then what is not met: the last of these also at ``-qq``."""
        state, evidence = self.state, self.evidence
        if not (evidence.cells or self.complaints or self.not_run):
            return
        from attnconf.gate.asked import asked_lines
        from attnconf.gate.played import played_lines
        from attnconf.report.terminal import matrix_lines, verdict_lines
        from attnconf.wording import plural

        if not is_silent(state.config):
            terminalreporter.section("attnconf")
        lines = matrix_lines(evidence.cells, cases=evidence.cases)
        lines += asked_lines(evidence.asked, evidence.executed_of)
        lines += played_lines(tuple(evidence.played.values()))
        for name, words in evidence.came_without().items():
            lines.append(f"{name} does not promise to bear {'; '.join(words)}: drawn cases come without")
        judged = {cell.backend for cell in evidence.cells if cell.executed}
        for name, count in ((name, count) for name, count in evidence.repeated.items() if name in judged):
            lines.append(f"{name} was asked {count} {plural('time', count)} for a case again: each case counts once")
        say(state.config, [*lines, *self.not_run.lines, *verdict_lines(state.policy, self.verdict)])
        for _, complaint in self.complaints:
            complain(state.config, complaint)
        if self.has_receipt:
            why = f", of no commit: {state.commit[1]}" if state.commit[1] else ""
            say(state.config, [f"receipt: {state.option('receipt')}{why}"])
